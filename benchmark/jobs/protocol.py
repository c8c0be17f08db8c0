"""Protocols: named, versioned lists of measures, one TOML file each."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_type_hints

from benchmark.attacks import attacks
from benchmark.data import Dataset, datasets_of
from benchmark.data.corruptions.references import standard_reference
from benchmark.data.suites import Sequences, Suite, suites
from benchmark.errors import InputError, UnknownNameError
from benchmark.measures import Measure, get_measure
from benchmark.measures.strength import iterative_attacks
from benchmark.threat.goals import Threat
from models_zoo import catalogue

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,78}")
HOME: Final = Path(__file__).parent.parent / "protocols"


@dataclass(frozen=True)
class Protocol:
    """A protocol as its file says it.

    Attributes:
        name: The name on the command line.
        version: Rows of different versions are never ranked together.
        title: What it is, in one line.
        measures: The ``[[measures]]`` tables.
        threats: Keys of the threats that rows are ranked under; by default those of its measures' distances.
        columns: What boards show beside the curves, each ``measure.output`` or ``measure.output@threat``.
    """

    name: str
    version: int
    title: str
    measures: Sequence[Mapping[str, Any]]
    threats: Sequence[str] = ()
    columns: Sequence[str] = ()

    @property
    def spec(self) -> dict[str, Any]:
        """The protocol as plain values, for the database."""
        values: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "title": self.title,
            "measures": [dict(m) for m in self.measures],
        }
        # What a file does not state is left out, so that files from before there was such a thing are unchanged.
        return values | {k: list(v) for k, v in (("threats", self.threats), ("columns", self.columns)) if v}

    def wanted(self, dataset: Dataset) -> Iterator[tuple[Measure[Any], Any]]:
        """Each measure with its parameters, all lists multiplied out.

        Raises:
            InputError: If a measure has no such parameter.
            UnknownNameError: If there is no such measure.
        """
        for table in self.measures:
            measure = get_measure(str(table["measure"]))
            grid = {k: v if isinstance(v, list) else [v] for k, v in table.items() if k != "measure"}
            for values in itertools.product(*grid.values()):
                for settings in _resolve(dict(zip(grid, values, strict=True)), dataset):
                    yield measure, parameters_of(measure, settings, where=f"protocol {self.name!r}")


def _resolve(settings: dict[str, Any], dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Replace what stands for the dataset's own: ``"*"``, and eps, references and sets by name."""
    choices: dict[str, list[Any]] = {}
    if settings.get("attack") == "*":
        chosen = (a for a in attacks().values() if a.default and settings.get("norm", a.norms[0]) in a.norms)
        choices["attack"] = [a.name for a in chosen]
    if settings.get("attacks") == "*":
        choices["attacks"] = [iterative_attacks(settings["norm"])]
    if settings.get("eps") in ("reference", "published"):
        published = list(dataset.eps.get(settings["norm"], ()))
        choices["eps"] = published if settings["eps"] == "published" else published[:1]
    if settings.get("against") == "stated":
        choices["against"] = ["noise", *dataset.outside]
    for name, kind in (("suite", Suite), ("sequences", Sequences)):
        if settings.get(name) == "*":
            fitting = (suite.on(dataset) for suite in suites().values() if isinstance(suite, kind) and suite.default)
            choices[name] = [suite.name for suite in fitting if not suite.unavailable()]
    if settings.get("sources") == "*":
        own = source_models(dataset)
        choices["sources"] = [own] if own else []
    for values in itertools.product(*choices.values()):
        chosen_settings = settings | dict(zip(choices, values, strict=True))
        if settings.get("reference") == "standard":
            suite = chosen_settings.get("suite", "")
            chosen_settings["reference"] = standard_reference(suite, dataset.labels_of)
        yield chosen_settings


def source_models(dataset: Dataset) -> tuple[str, ...]:
    """The package's models of the dataset's label space and image shape: what ``sources = "*"`` stands for.

    Not those of a workspace: a newly submitted model would make every row incomplete.
    """
    fitting = {d.name for d in datasets_of(dataset.labels_of).values() if d.shape == dataset.shape}
    return tuple(slug for slug, entry in catalogue().items() if entry.dataset in fitting)


def parameters_of(measure: Measure[Any], settings: Mapping[str, Any], *, where: str) -> Any:
    """The measure's parameters from plain values.

    Raises:
        InputError: If a name or a value is not one the measure takes.
    """
    known = {f.name for f in dataclasses.fields(measure.Parameters)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InputError(
            f"{where}: the measure {measure.name!r} has no parameter {', '.join(unknown)}; "
            f"it takes {', '.join(sorted(known)) or 'none'}."
        )
    with contextlib.suppress(NameError):  # a plug-in's annotation that is not there when it runs
        for name, kind in get_type_hints(measure.Parameters).items():
            if name in settings:
                _check_kind(settings[name], kind, f"{where}: {measure.name}.{name}")
    return measure.Parameters(**settings)


_PLAIN: Final[Mapping[Any, tuple[type, ...]]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}


def _check_kind(value: Any, kind: Any, what: str) -> None:
    """Raise `InputError` where a parameter of a plain type is given a value of another; the rest checks itself."""
    if kind not in _PLAIN:
        return
    if not isinstance(value, _PLAIN[kind]) or (isinstance(value, bool) and kind is not bool):
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        raise InputError(f"{what} is {value!r}; it is {words[kind]}.")


def protocols(folders: Sequence[Path] = ()) -> dict[str, Protocol]:
    """All protocols by name, the newest version of each, and each version as ``name@version``.

    Args:
        folders: Folders to search besides the package's own.
    """
    found: dict[str, Protocol] = {}
    files = [path for folder in (HOME, *folders) if folder.is_dir() for path in sorted(folder.glob("*.toml"))]
    for protocol in map(_read, files):
        key = f"{protocol.name}@{protocol.version}"
        if key in found:
            raise InputError(f"There are two protocols {key}; give one of the files another version.")
        found[key] = protocol
        if protocol.name not in found or found[protocol.name].version < protocol.version:
            found[protocol.name] = protocol
    return dict(sorted(found.items()))


def get_protocol(name: str, folders: Sequence[Path] = ()) -> Protocol:
    """The protocol called ``name`` (or ``name@version``); raises `UnknownNameError` with the nearest names."""
    table = protocols(folders)
    if name not in table:
        raise UnknownNameError("protocol", name, table)
    return table[name]


_COLUMN: Final = re.compile(r"[\w-]+\.[\w-]+(@[\w-]+)?")


def _read(path: Path) -> Protocol:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        protocol = Protocol(
            values["name"],
            values["version"],
            values["title"],
            values["measures"],
            values.get("threats", ()),
            values.get("columns", ()),
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"The protocol file {path} cannot be read: {error}.") from error
    except KeyError as error:
        raise InputError(
            f"The protocol file {path} has no {error.args[0]!r}; it needs name, version, title and measures."
        ) from error
    _check(protocol, f"The protocol file {path}")
    unknown = sorted(set(values) - {"name", "version", "title", "measures", "threats", "columns"})
    if unknown:
        raise InputError(f"The protocol file {path} says {', '.join(unknown)}, which no protocol has.")
    return protocol


def _check(protocol: Protocol, where: str) -> None:
    """Raise `InputError` where a value is not of its kind."""
    if not isinstance(protocol.name, str) or not _SLUG.fullmatch(protocol.name):
        raise InputError(f"{where}: the name {protocol.name!r} must be lower-case letters, digits and hyphens.")
    if type(protocol.version) is not int or protocol.version < 1:
        raise InputError(f"{where}: the version is a whole number from 1 on, got {protocol.version!r}.")
    measures = protocol.measures
    if not isinstance(measures, list) or not measures:
        raise InputError(f"{where}: it needs a [[measures]] table at least.")
    if not all(isinstance(table, dict) and isinstance(table.get("measure"), str) for table in measures):
        raise InputError(f'{where}: each [[measures]] table needs its measure = "…".')
    for key in protocol.threats:
        Threat.parse(str(key))
    for column in protocol.columns:
        if not _COLUMN.fullmatch(str(column)):
            raise InputError(f"{where}: the column {column!r} must be measure.output or measure.output@threat.")
