"""Corruptions beside the public generators that can be installed, and what a model's grid costs beside bare passes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from perf import Benchmark, Options
from perf.process import cached_call
from perf.tables import table

OURS: Final = "curveboard"
TTA: Final = "corrupt-tta"
IMAGECORRUPTIONS: Final = "imagecorruptions"
PEERS: Final = (TTA, IMAGECORRUPTIONS)

_PEER_SHARE: Final = 20
"""The peers go image by image, so that a twentieth of the images tells what one costs."""


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Time each generator on the same images, MNIST-C on its own, and a model's grid."""
    samples = options.samples or (40 if options.quick else 1000)
    base = {"samples": samples, "cifar": str(options.cifar) if options.cifar else None, "threads": 1}
    results = []
    for contestant in options.peers or (OURS, *PEERS):
        task = {"contestant": contestant, **base}
        results.append(cached_call("perf.corruptions", task, folder, resume=options.resume and contestant != OURS))
    mnist = {"contestant": "mnist-c", "samples": 10 * samples, "threads": 1}
    grid = {"contestant": "grid", "samples": min(samples, 500), "threads": options.threads}
    return {
        "samples": samples,
        "results": results,
        "mnist": cached_call("perf.corruptions", mnist, folder, resume=False),
        "grid": cached_call("perf.corruptions", grid, folder, resume=False),
    }


def main() -> None:
    """One contestant; its task is JSON in ``sys.argv[1]``."""
    warnings.simplefilter("ignore")
    task = json.loads(sys.argv[1])
    if task["contestant"] == "mnist-c":
        result = _mnist(task["samples"])
    elif task["contestant"] == "grid":
        result = _grid(task["samples"])
    elif task["contestant"] == OURS:
        result = _ours(_images(task))
    else:
        result = _peer(task["contestant"], _images(task))
    print(json.dumps({"contestant": task["contestant"], **result}))


def _images(task: dict[str, Any]) -> NDArray[np.uint8]:
    """The sample, or else tiles of scikit-image's photographs: (n, 32, 32, 3)."""
    if task["cifar"]:
        with np.load(task["cifar"], allow_pickle=False) as arrays:
            whole = arrays["x"]
    else:
        from skimage import data

        photographs = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
        whole = np.concatenate([_tiles(photograph) for photograph in photographs])
    return np.ascontiguousarray(np.resize(whole, (task["samples"], 32, 32, 3)))


def _tiles(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    h, w = (side // 32 * 32 for side in photograph.shape[:2])
    cut = photograph[:h, :w].reshape(h // 32, 32, w // 32, 32, 3)
    return cut.swapaxes(1, 2).reshape(-1, 32, 32, 3)


def _ours(images: NDArray[np.uint8]) -> dict[str, Any]:
    from benchmark.data.corruptions import corrupt, family_corruptions, unavailable

    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    corrupt(x[:2], "elastic_transform", 1, family="cifar")
    seconds: dict[str, dict[str, float]] = {"cifar": {}, "imagenet": {}}
    for family in ("cifar", "imagenet"):
        for name in family_corruptions(family):
            if unavailable(name, family, 3):
                continue
            begin = time.process_time()
            for severity in range(1, 6):
                corrupt(x, name, severity, family=family)
            seconds[family][name] = (time.process_time() - begin) / len(x)
    return {"seconds": seconds["cifar"], "imagenet_seconds": seconds["imagenet"]}


def _peer(name: str, images: NDArray[np.uint8]) -> dict[str, Any]:
    few = images[: max(len(images) // _PEER_SHARE, 2)]
    functions = _tta() if name == TTA else _imagecorruptions()
    seconds = {}
    for corruption, function in functions.items():
        function(few[0], 1)
        begin = time.process_time()
        for severity in range(1, 6):
            for image in few:
                function(image, severity)
        seconds[corruption] = (time.process_time() - begin) / len(few)
    return {"seconds": seconds}


def _tta() -> dict[str, Any]:
    import corrupt_tta

    return dict(corrupt_tta.corruption_dict)


def _imagecorruptions() -> dict[str, Any]:
    """The package of 2020 stands on names that NumPy, SciPy, scikit-image and setuptools have dropped: given back."""
    import scipy.ndimage
    import skimage.filters

    np.float_ = np.float64  # type: ignore[attr-defined]
    filtered = skimage.filters.gaussian

    def gaussian(*arguments: Any, multichannel: bool = False, **settings: Any) -> Any:
        return filtered(*arguments, channel_axis=-1 if multichannel else None, **settings)

    skimage.filters.gaussian = gaussian
    found = importlib.util.find_spec("imagecorruptions")
    assert found is not None
    assert found.origin is not None
    home = Path(found.origin).parent
    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda package, path: os.fspath(home / path)  # type: ignore[attr-defined]
    sys.modules.update({"pkg_resources": resources, "scipy.ndimage.interpolation": scipy.ndimage})
    import imagecorruptions

    return {
        name: lambda image, severity, name=name: imagecorruptions.corrupt(
            image, corruption_name=name, severity=severity
        )
        for name in imagecorruptions.get_corruption_names("all")
    }


def _mnist(samples: int) -> dict[str, Any]:
    from benchmark.data.corruptions import MNIST_C, corrupt
    from models_zoo.data import mnist

    x = mnist("test")[0][:samples]
    seconds = {}
    for name in MNIST_C:
        begin = time.process_time()
        corrupt(x, name, 1, family="mnist")
        seconds[name] = time.process_time() - begin
    return {"samples": len(x), "seconds": seconds}


def _grid(samples: int) -> dict[str, Any]:
    """A model's grid without the making of its images, and the same passes alone."""
    import torch

    from benchmark.data import get_dataset
    from benchmark.data.suites import get_suite
    from benchmark.measures import Task, get_measure
    from models_zoo import load_model

    torch.set_num_threads(1)
    dataset, model = get_dataset("mnist"), load_model("advertorch-mnist-lenet-clean")
    suite = get_suite("mnist-c").on(dataset)
    made = {cell: suite.batch(cell, 0, samples) for cell in suite.cells()}

    class Kept(type(suite)):  # type: ignore[misc]
        def batch(self, cell: tuple[str, ...], start: int, stop: int) -> Any:
            return made[cell]

    kept = Kept(**{field.name: getattr(suite, field.name) for field in dataclasses.fields(suite)})
    x, y = dataset.batch(0, samples)
    task = Task(model=model, module=model, x=x, y=y, dataset=dataset, suites={"mnist-c": kept})
    measure = get_measure("corruptions")
    parameters = measure.Parameters(suite="mnist-c")
    ratios = []
    for _ in range(5):
        begin = time.process_time()
        measure.run(task, parameters)
        middle = time.process_time()
        with torch.no_grad():
            model(x)
            for images, _ in made.values():
                model(images)
        ratios.append((middle - begin) / (time.process_time() - middle))
    return {"samples": samples, "ratio": float(np.median(ratios))}


def report(result: dict[str, Any]) -> str:
    """The generators side by side, MNIST-C, and the grid."""
    found = {one["contestant"]: one for one in result["results"]}
    ours = found.get(OURS, {"seconds": {}, "imagenet_seconds": {}})
    both = dict(ours["seconds"])
    names = [name for name in both if all(name in one["seconds"] for one in found.values())]
    n = result["samples"]
    columns = [
        ("CIFAR-10-C's constants", ours["seconds"]),
        ("ImageNet-C's", ours["imagenet_seconds"]),
        *[(peer, found[peer]["seconds"]) for peer in PEERS if peer in found],
    ]
    rows = [[name, *[f"{n * seconds[name]:.2f}" for _, seconds in columns]] for name in names]
    totals = [n * sum(seconds[name] for name in names) for _, seconds in columns]
    rows.append(["**all**", *[f"**{total:.1f}**" for total in totals]])
    rows.append(["÷ ours of ImageNet-C", *[f"{total / totals[1]:.1f}" if totals[1] else "" for total in totals]])
    mnist, grid = result["mnist"], result["grid"]
    slow = sorted(mnist["seconds"].items(), key=lambda pair: -pair[1])[:3]
    return "\n\n".join(
        [
            f"Seconds of one core for {n} images of 32 × 32 × 3 at all five severities. The peers know ImageNet-C's "
            f"constants alone and go image by image; they were timed on {max(n // _PEER_SHARE, 2)} of the images. "
            "`imagecorruptions` is of 2020, and runs only with the names given back that its libraries have dropped.",
            table(["corruption", *[title for title, _ in columns]], rows),
            f"MNIST-C: all fifteen corruptions of {mnist['samples']} images take "
            f"**{sum(mnist['seconds'].values()):.1f} s** of one core, of which "
            f"{', '.join(f'{name} {seconds:.1f}' for name, seconds in slow)}.",
            f"A model's grid without the making of its images takes **{grid['ratio']:.2f}** times its bare forward "
            f"passes ({grid['samples']} images of MNIST, fifteen corruptions).",
        ]
    )


BENCHMARK = Benchmark("corruptions", "Common corruptions", run, report)


if __name__ == "__main__":
    main()
