"""A workspace: the folder with ``curveboard.toml``, the database and the artifacts."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmark.errors import WorkspaceError

if TYPE_CHECKING:
    from db.session import Database

CONFIG: Final = "curveboard.toml"
VARIABLE: Final = "CURVEBOARD_WORKSPACE"
DATABASE_VARIABLE: Final = "CURVEBOARD_DATABASE_URL"
"""Its value is used in place of the workspace's ``database``: a place for a password."""

TEMPLATE: Final = """\
# A Curveboard workspace. Paths are relative to this folder.

# Any SQLAlchemy URL; for PostgreSQL: postgresql+psycopg://user@host/name. A password has no place here: give the
# whole URL by the variable CURVEBOARD_DATABASE_URL, or the password by ~/.pgpass.
database = "sqlite:///curveboard.db"

# The protocol that `curveboard evaluate` follows unless told otherwise (curveboard list protocols).
protocol = "standard"

# Adversarial examples by content hash, in a folder or a store: s3://bucket/folder, sftp://host/folder (docs/scale.md).
artifacts = "artifacts"

# Submitted models; protocols of your own; the built site. Beside them,
# datasets/, attacks/, measures/, architectures/, suites/ and norms/ may hold your own (docs/adding.md).
models = "models"
protocols = "protocols"
public = "public"
"""


@dataclass(frozen=True)
class Workspace:
    """Where things are.

    Attributes:
        root: The folder that holds ``curveboard.toml``.
        database_url: An SQLAlchemy URL, absolute.
        protocol: Name of the default protocol.
        artifacts: Folder of the evidence, or the URL of a store.
        models: Folder of submitted models, ``<slug>/model.toml`` each.
        protocols: Folder of the workspace's own protocols.
        public: Where the site is built by default.
    """

    root: Path
    database_url: str
    protocol: str
    artifacts: Path | str
    models: Path
    protocols: Path
    public: Path

    @property
    def datasets(self) -> Path:
        """Folder of the workspace's own datasets: Python files, and ``<name>/dataset.toml`` each."""
        return self.root / "datasets"

    @property
    def locks(self) -> Path:
        """Folder of the lock files by which evaluators show that they live."""
        return self.root / ".locks"

    @classmethod
    def create(cls, root: Path, *, database_url: str | None = None) -> Workspace:
        """Make a new workspace.

        Args:
            root: The folder; it is made if need be.
            database_url: A database other than the SQLite file in the folder.

        Raises:
            WorkspaceError: If there is one already, or the folder cannot be written.
        """
        path = root / CONFIG
        text = TEMPLATE
        if database_url is not None:
            _refuse_password(database_url, path)
            text = text.replace('"sqlite:///curveboard.db"', '"' + database_url.replace("\\", "\\\\") + '"')
        try:
            root.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            if database_url is not None:  # who else uses the machine need not know where the board's server is
                path.chmod(0o640)
            workspace = cls.load(root)
            for folder in (root / "artifacts", workspace.models, workspace.protocols, workspace.datasets):
                folder.mkdir(exist_ok=True)
        except FileExistsError:
            raise WorkspaceError(
                f"{path} exists: there is a workspace already. Use it, or give another folder."
            ) from None
        except OSError as error:
            raise WorkspaceError(f"No workspace can be made in {root}: {error.strerror or error}.") from error
        return workspace

    @classmethod
    def load(cls, root: Path) -> Workspace:
        """Read ``curveboard.toml`` in ``root``; raises `WorkspaceError` with what is wrong."""
        path = root / CONFIG
        try:
            with path.open("rb") as file:
                values = tomllib.load(file)
        except OSError as error:
            raise WorkspaceError(f"{path} cannot be read: {error.strerror or error}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise WorkspaceError(f"{path} is not valid TOML: {error}.") from error
        defaults = tomllib.loads(TEMPLATE)
        unknown = sorted(set(values) - set(defaults))
        if unknown:
            raise WorkspaceError(f"{path} has unknown settings: {', '.join(unknown)}. Known: {', '.join(defaults)}.")
        settings = defaults | values
        for name, value in settings.items():
            if not isinstance(value, str):
                raise WorkspaceError(f"{path}: {name} must be a string, got {value!r}.")
        _refuse_password(settings["database"], path)
        _refuse_secret(settings["artifacts"], path)
        root = root.absolute()
        return cls(
            root=root,
            database_url=absolute_url(os.environ.get(DATABASE_VARIABLE) or settings["database"], root),
            protocol=settings["protocol"],
            artifacts=_place(settings["artifacts"], root),
            models=root / settings["models"],
            protocols=root / settings["protocols"],
            public=root / settings["public"],
        )

    @classmethod
    def find(cls, explicit: Path | None = None) -> Workspace:
        """The workspace given, of the environment, or around the current folder.

        Args:
            explicit: ``--workspace``, if it was given.

        Raises:
            WorkspaceError: If there is none; the message says how to make one.
        """
        given = explicit or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
        if given is not None:
            if not (given / CONFIG).is_file():
                raise WorkspaceError(f"{given} is no workspace: it has no {CONFIG}. Make one: curveboard init {given}")
            return cls.load(given)
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / CONFIG).is_file():
                return cls.load(folder)
        raise WorkspaceError(
            f"There is no workspace here ({here}) or above. Make one with: curveboard init, "
            f"or name one with --workspace DIR or the variable {VARIABLE}."
        )


def open_database(url: str) -> Database:
    """The database at ``url``, which must stand at the newest migration.

    Raises:
        db.errors.DatabaseError: If it cannot be opened, or is of another version.
    """
    from db.session import Database

    database = Database(url)
    database.require_head()
    return database


def absolute_url(url: str, root: Path) -> str:
    """The URL with a relative SQLite path made absolute, ``root`` being what it is relative to."""
    prefix, separator, path = url.partition("sqlite:///")
    if prefix or not separator or not path or path.startswith(("/", ":memory:", "file:")) or Path(path).is_absolute():
        return url
    return f"sqlite:///{root / path}"


def _refuse_password(url: str, path: Path) -> None:
    from db.urls import has_password

    if has_password(url):
        raise WorkspaceError(
            f"The database URL for {path} holds a password, which would lie there for others to read, and in backups. "
            f"Leave it out of the URL; give the whole URL by the variable {DATABASE_VARIABLE}, or the password by "
            "~/.pgpass or PGPASSWORD."
        )


def _refuse_secret(artifacts: str, path: Path) -> None:
    from db.urls import has_password

    if has_password(artifacts):
        raise WorkspaceError(
            f"The address of the evidence in {path} holds a password, which would lie there for others to read, and "
            "in backups. Leave it out; give it as that store's own tools take it (keys, an agent, the variables of "
            "S3), or by a variable of fsspec: FSSPEC_SFTP_PASSWORD for sftp://."
        )


def _place(artifacts: str, root: Path) -> Path | str:
    """Where the evidence lies: the URL as it is given, or the folder made absolute."""
    return artifacts if "://" in artifacts else root / artifacts
