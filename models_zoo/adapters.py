"""Models that people have elsewhere, brought into the form of a submission: weights as safetensors, and a card.

``timm:<name>`` and ``robustbench:<dataset>/<threat model>/<name>``; both packages are optional. Their networks are the
packages' own code, which is installed and so trusted; their weights are read as arrays like everybody's.
"""

from __future__ import annotations

import pickle
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from models_zoo.cards import Entry, Weights, check_slug
from models_zoo.errors import CardError, FetchError, WeightsError, ZooError, shown
from models_zoo.fetch import html_hint
from models_zoo.formats.weights import refuse_packed_zip
from models_zoo.optional import optional
from models_zoo.submission import write_card

FILE = "weights.safetensors"


def adapt(source: str, target: Path, *, dataset: str | None, classes: int | None, slug: str | None) -> None:
    """Write the submission of a model that another library has.

    Args:
        source: ``timm:<name>`` or ``robustbench:<dataset>/<threat model>/<name>``.
        target: An empty folder.
        dataset: The dataset it classifies, if the source does not say.
        classes: Number of classes of that dataset.
        slug: Its slug; by default made from the source's name.

    Raises:
        ZooError: If the package, or something it needs, is not installed.
        CardError: If the source cannot be understood, has no such model, or classifies into another number of classes.
        WeightsError: If its weights do not fit its network.
    """
    library, _, name = source.partition(":")
    if library == "timm" and name:
        _from_timm(name, target, dataset=dataset, classes=classes, slug=slug)
    elif library == "robustbench" and name.count("/") == 2:
        _from_robustbench(*name.split("/"), target=target, slug=slug)
    else:
        raise CardError(
            f"--from {source!r} is not understood; it is timm:<name>, for instance timm:resnet50, or "
            "robustbench:<dataset>/<threat model>/<name>, for instance robustbench:cifar10/Linf/Carmon2019Unlabeled."
        )


def dataset_of(source: str) -> str | None:
    """The dataset that a source names itself: RobustBench's do, timm's do not."""
    library, _, name = source.partition(":")
    return name.split("/")[0] if library == "robustbench" and name.count("/") == 2 else None


def _from_timm(name: str, target: Path, *, dataset: str | None, classes: int | None, slug: str | None) -> None:
    timm = optional("timm", extra="timm", what=f"timm:{name}")
    if dataset is None or classes is None:
        raise CardError(f"timm:{name} classifies ImageNet or what it was tuned on: name the dataset with --dataset.")
    configuration = timm.create_model(name, pretrained=False).pretrained_cfg
    own = configuration.get("num_classes")
    if own != classes:
        # timm would replace the last layer by an untrained one, another at every call, and say nothing.
        raise CardError(
            f"timm:{name} was trained for {own} classes, and {dataset} has {classes}: its last layer would be new and "
            f"untrained. Train it on {dataset}, and submit what came out: curveboard submit state.pt --architecture "
            f'timm --arguments \'{{"name": "{name}", "classes": {classes}}}\' --dataset {dataset} --slug NAME'
        )
    network = timm.create_model(name, pretrained=True)
    _write(
        target,
        network.state_dict(),
        slug=check_slug(slug or _slug("timm", name)),
        title=f"{name} (timm)",
        dataset=dataset,
        repository="https://github.com/huggingface/pytorch-image-models",
        licence=str(configuration.get("license") or ""),
        architecture="timm",
        arguments={"name": name, "classes": classes},
        preprocessing=({"kind": "normalise", "mean": list(configuration["mean"]), "std": list(configuration["std"])},),
    )


def _from_robustbench(dataset: str, threat_model: str, name: str, *, target: Path, slug: str | None) -> None:
    from models_zoo.architectures.robustbench import facts_of

    facts_of(dataset, threat_model, name)  # refused before anything is downloaded
    network = _loaded_by_robustbench(dataset, threat_model, name, target)
    _write(
        target,
        network.state_dict(),
        slug=check_slug(slug or _slug("robustbench", dataset, threat_model, name)),
        title=f"{name} (RobustBench, {threat_model})",
        dataset=dataset,
        paper="https://robustbench.github.io",
        repository="https://github.com/RobustBench/robustbench",
        architecture="robustbench",
        arguments={"dataset": dataset, "threat_model": threat_model, "name": name},
        training_norm={"Linf": "linf", "L2": "l2"}.get(threat_model),
    )


def _loaded_by_robustbench(dataset: str, threat_model: str, name: str, target: Path) -> Any:
    """The network with its weights as RobustBench's own ``load_model`` has them, files read as arrays alone.

    Files that are in RobustBench's cache (``models/`` in the working directory) are used, others fetched into
    ``target`` and removed.
    """
    import torch

    what = f"robustbench:{dataset}/{threat_model}/{name}"
    utils = optional("robustbench.utils", extra="robustbench", what=what)
    load = torch.load

    def as_arrays(path: Any, **_: Any) -> Any:
        refuse_packed_zip(Path(path), Path(path).name)
        return load(path, map_location="cpu", weights_only=True)

    def download(gdrive_id: str, output: Any) -> None:
        optional("gdown", extra="robustbench", what=what).download(id=gdrive_id, output=str(output), quiet=True)
        if not Path(output).is_file():
            raise FetchError(f"RobustBench's address of {name} gives no file; its quota may be used up. Try later.")
        if page := html_hint(Path(output)):
            raise FetchError(f"RobustBench's address of {name}: {page}try again later.")

    own = Path("models") / dataset / threat_model
    here = own.is_dir() and any(path.name.startswith(f"{name}.pt") for path in own.iterdir())
    with (
        tempfile.TemporaryDirectory(dir=target) as scratch,
        warnings.catch_warnings(),
        mock.patch.object(torch, "load", as_arrays),
        mock.patch.object(utils, "download_gdrive_new", download),
    ):
        warnings.simplefilter("ignore")
        folder = "models" if here else scratch
        try:
            return utils.load_model(name, model_dir=folder, dataset=dataset, threat_model=threat_model)
        except ZooError:
            raise
        except pickle.UnpicklingError as error:
            raise WeightsError(f"RobustBench's file of {name} holds more than arrays, and was not read.") from error
        except Exception as error:  # whatever goes wrong in the package is told as its own failure
            raise WeightsError(
                f"RobustBench's own load_model fails at {what}: {shown(error)}. Load the model where it works, and "
                "submit it as .pt2 or ONNX."
            ) from error


def _write(target: Path, state: Mapping[str, Any], **facts: Any) -> None:
    from safetensors.torch import save

    (target / FILE).write_bytes(save({key: value.detach().cpu().contiguous() for key, value in state.items()}))
    write_card(Entry(form="weights", folder=target, weights=(Weights(FILE, "", 0),), **facts))


def _slug(*parts: str) -> str:
    return "-".join(parts).lower().replace("_", "-")
