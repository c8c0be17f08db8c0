"""The database: schema, sessions, migrations, the ledger and the queries of the site."""
