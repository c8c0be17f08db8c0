"""The database's exceptions.

::

    DatabaseError            an expected error: the command line prints it and exits with 1
    ├── RevisionError        the database is older or newer than this program
    ├── DamagedError         a value in it is none of its column's kind
    └── UnavailableError     it cannot be opened, read or written (missing, locked, read-only, disk full)
        └── GoneError        its server is away or restarting: worth another try
"""


class DatabaseError(Exception):
    """An expected error; its text is written for the user."""


class RevisionError(DatabaseError):
    """The database's schema is not the one this program was written for."""


class DamagedError(DatabaseError):
    """A value in the database is none of its column's kind: a blob that is no array, a card that is no JSON."""


class UnavailableError(DatabaseError):
    """The database cannot be reached or written."""


class GoneError(UnavailableError):
    """The database's server is away, or restarting."""
