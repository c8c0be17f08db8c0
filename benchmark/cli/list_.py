"""``curveboard list``: what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, echo_table, json_option, place_options, readable_models

if TYPE_CHECKING:
    from benchmark.measures import Measure

KINDS = (
    "models",
    "datasets",
    "suites",
    "architectures",
    "recipes",
    "norms",
    "attacks",
    "measures",
    "protocols",
    "executors",
    "pages",
    "panels",
)


DETAILS = {"outputs"}
"""What would fill lines of hundreds of characters: told with --json alone."""


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@place_options
@json_option
def command(place: Place, kind: str, as_json: bool) -> None:
    """List what is registered of a kind, the files of the workspace among it."""
    rows = {
        "models": _models,
        "datasets": _datasets,
        "suites": _suites,
        "architectures": _architectures,
        "recipes": _recipes,
        "norms": _norms,
        "attacks": _attacks,
        "measures": _measures,
        "protocols": _protocols,
        "executors": _executors,
        "pages": _pages,
        "panels": _panels,
    }[kind](place)
    if as_json:
        echo_json(rows)
    else:
        short = [{name: value for name, value in row.items() if name not in DETAILS} for row in rows]
        echo_table(short, empty=f"There are no {kind}.")


def _in_workspace(place: Place, folder: str) -> list[Any]:
    """The workspace's folder of that name; none where there is no workspace: the registry is listed all the same."""
    from benchmark.errors import WorkspaceError

    try:
        return [getattr(place.workspace, folder)]
    except WorkspaceError:
        if place.folder is not None:
            raise
        return []


def _models(place: Place) -> list[dict[str, Any]]:
    return [
        {
            "slug": entry.slug,
            "dataset": entry.dataset,
            "architecture": entry.architecture or entry.form,
            "training": entry.training_method or None,
            "title": entry.title,
        }
        for entry in readable_models(_in_workspace(place, "models")).values()
    ]


def _datasets(place: Place) -> list[dict[str, Any]]:
    from benchmark.data import all_datasets

    return [
        {
            "name": dataset.name,
            "images": dataset.size,
            "shape": "×".join(map(str, dataset.shape)),
            "classes": dataset.n_classes,
            "title": dataset.title,
        }
        for dataset in all_datasets().values()
    ]


def _suites(place: Place) -> list[dict[str, Any]]:
    from benchmark.data.suites import suites

    return [
        {
            "name": suite.name,
            "version": suite.version,
            "axes": " × ".join(f"{len(axis.labels)} {axis.name}" for axis in suite.shown),
            "by default": "yes" if suite.default else "no",
            "title": suite.title,
            "paper": suite.paper,
        }
        for suite in suites().values()
    ]


def _architectures(place: Place) -> list[dict[str, Any]]:
    from models_zoo.architectures import architectures, version_of

    return [{"name": name, "version": version_of(name)} for name in architectures()]


def _recipes(place: Place) -> list[dict[str, Any]]:
    from models_zoo.training.recipe import recipes

    return [
        {"name": recipe.name, "version": recipe.version, "title": recipe.title, "paper": recipe.paper}
        for recipe in recipes().values()
    ]


def _norms(place: Place) -> list[dict[str, Any]]:
    from benchmark.threat.names import norms

    return [{"name": norm.name, "symbol": norm.symbol, "dual": norm.dual, "title": norm.title} for norm in norms()]


def _attacks(place: Place) -> list[dict[str, Any]]:
    from benchmark.attacks import attacks

    return [
        {
            "name": attack.name,
            "version": attack.version,
            "newer in": " ".join(f"{norm}:{version}" for norm, version in attack.newer.items()),
            "norms": " ".join(attack.norms),
            "sees": attack.access,
            "by default": "yes" if attack.default else "no",
            "title": attack.title,
            "paper": attack.paper,
        }
        for attack in attacks().values()
    ]


def _measures(place: Place) -> list[dict[str, Any]]:
    import dataclasses

    from benchmark.measures import measures

    return [
        {
            "name": measure.name,
            "version": measure.version,
            "kinds": " ".join(sorted(set(outputs.values()))) or None,
            "title": measure.title,
            "parameters": " ".join(field.name for field in dataclasses.fields(measure.Parameters)),
            "outputs": outputs,
        }
        for measure in measures().values()
        for outputs in [_outputs(measure)]
    ]


def _outputs(measure: Measure[Any]) -> dict[str, str]:
    """Its outputs with default parameters, each with its kind; none if it has none without others."""
    from benchmark.data import get_dataset
    from benchmark.errors import BenchmarkError

    try:
        declared = measure.outputs(measure.Parameters(), get_dataset("digits"))
    except (BenchmarkError, TypeError):
        return {}
    return {output.name: output.kind for output in declared}


def _executors(place: Place) -> list[dict[str, Any]]:
    from benchmark.jobs.executors import executors

    return [{"name": executor.name, "title": executor.title} for executor in executors().values()]


def _pages(place: Place) -> list[dict[str, Any]]:
    from sitegen.pages import pages

    return [{"name": page.name, "menu": page.menu or None, "address": page.address} for page in pages().values()]


def _panels(place: Place) -> list[dict[str, Any]]:
    from sitegen.panels import panels

    return [{"name": panel.name, "template": panel.template or None} for panel in panels().values()]


def _protocols(place: Place) -> list[dict[str, Any]]:
    from benchmark.jobs.protocol import protocols

    return [
        {
            "name": protocol.name,
            "version": protocol.version,
            "measures": " ".join(dict.fromkeys(str(m["measure"]) for m in protocol.measures)),
            "title": protocol.title,
        }
        for name, protocol in protocols(_in_workspace(place, "protocols")).items()
        if "@" in name
    ]
