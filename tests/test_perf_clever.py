"""The report of the CLEVER benchmark, without measuring anything."""

from perf import get_benchmark
from perf.clever import ART, OURS, SHARED


def result(contestant, seconds, **others):
    scores = {"linf": [0.1], "l2": [1.0]}
    return {
        "contestant": contestant,
        "model": "net",
        "samples": 1,
        "norms": ["linf", "l2"],
        "batches": 4,
        "points": 5,
        "scores": scores,
        "seconds": seconds,
        **others,
    }


def test_the_report_states_ratios_to_arts_seconds_and_to_bare_passes():
    fit = {"n": 32, "shape": 4.0, "rows": 200, "ours_seconds": 1e-4, "scipy_seconds": 1e-2}
    results = [
        result(ART, 60.0),
        result(OURS, 12.0, bare_seconds=10.0),
        result(SHARED, 4.0, bare_seconds=3.9),
    ]
    text = get_benchmark("clever").report(
        {"results": results, "fits": [{**fit, "better": 3, "worse": 0, "below_1": 1}]}
    )
    assert "20 gradient points an image" in text
    assert "| net | curveboard | 12.0 | 5.0 | 1.20 | 0.1 / 1 |" in text
    assert "| net | curveboard, shared points | 4.0 | 15.0 | 1.03 | 0.1 / 1 |" in text
    assert "| 32 | 4 | 0.100 | 10.00 | 100 | 3 | 0 | 1 |" in text
