"""The report of the performance benchmark, written from made-up times; nothing is timed here."""

from __future__ import annotations

import numpy as np

from perf.corruptions import _images, report


def result():
    ours = {
        "contestant": "curveboard",
        "seconds": {"fog": 0.001, "snow": 0.002},
        "imagenet_seconds": {"fog": 0.003, "snow": 0.001},
    }
    peer = {"contestant": "corrupt-tta", "seconds": {"fog": 0.01, "snow": 0.03, "other": 9}}
    return {
        "samples": 1000,
        "results": [ours, peer],
        "mnist": {"samples": 10000, "seconds": {"fog": 7.0, "shear": 0.5, "stripe": 0.25}},
        "grid": {"samples": 500, "ratio": 1.021},
    }


def test_the_report_compares_what_both_have():
    text = report(result())
    assert "| fog | 1.00 | 3.00 | 10.00 |" in text
    assert "| **all** | **3.0** | **4.0** | **40.0** |" in text
    assert "| ÷ ours of ImageNet-C | 0.8 | 1.0 | 10.0 |" in text
    assert "other" not in text
    assert "**7.8 s**" in text
    assert "**1.02** times" in text


def test_without_the_cifar_sample_photographs_are_cut_into_tiles():
    images = _images({"cifar": None, "samples": 300})
    assert images.shape == (300, 32, 32, 3)
    assert len(np.unique(images[:50].reshape(50, -1), axis=0)) > 45
