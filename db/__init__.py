"""The database: schema, sessions, queries, migrations."""
