from __future__ import annotations

from rich.console import Console

from edgedf.cli._search import search_table, threshold_text
from edgedf.quantize.accuracy.limits import Limits
from edgedf.quantize.auto.search import SearchResult, SearchStage
from edgedf.quantize.making.keep import Keep
from edgedf.quantize.recipe import Recipe
from edgedf.result import Threshold
from edgedf.runtime.interleaved import LatencyRatio, Speed
from edgedf.spec import OperatingPoint, Recalibration
from tests.quantize.accuracy.test_wording import verification

SPEED = Speed(2.0, 2.5, 1.5)
RATIO = LatencyRatio(SPEED, SPEED, 0.53, 0.52, 0.54, 60)


def said(thing: object) -> str:
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def test_each_stage_has_its_mark_its_figures_and_its_options() -> None:
    strict = Limits(map_error=0.001, map_error_bound=0.001)
    keep = tuple(Keep("fp32", f"layer{number}") for number in range(16))
    result = SearchResult(
        "tflite",
        (
            SearchStage("int8", Recipe(), "logit dead", 2.0, 1_080_000, RATIO),
            SearchStage("ranges", Recipe(method="mse"), "no closer", 3.0),
            SearchStage(
                "equalized", Recipe(equalize=True), "", 1.0, 1_080_000, RATIO, verification(strict)
            ),
            SearchStage(
                "kept", Recipe(equalize=True, keep=keep), "", 0.1, 1_200_000, RATIO, verification()
            ),
        ),
    )
    text = said(search_table(result))
    rows = [line.split() for line in text.splitlines()]
    assert [row[0] for row in rows[1:5]] == ["✗", "-", "✗", "✓"]
    assert "× 0.53" in text
    assert "0.0010" in text  # the AUC drop
    assert "1: logit dead" in text
    assert "2: --method mse; no closer" in text
    assert "4: --equalize 16 layers kept: layer0, layer1, layer2 and 13 more" in text
    assert result.passed is result.stages[3]


def test_thresholds_are_shown_with_what_they_change() -> None:
    parent = Threshold(0.7, 0.3)
    same = OperatingPoint(0.05, 0.6, 0.4, 0.05)
    worse = OperatingPoint(0.02, 0.6, 0.3, 0.05)
    text = said(threshold_text(Recalibration(parent, 40, 33, same, worse, same), 0.65, 0.3))
    assert "On 40 real and 33 fake calibration images:" in text
    assert "parent, real up to 0.3000, fake from 0.7000: 5.0% of real called fake, 40.0%" in text
    assert "with the same thresholds: 2.0% of real called fake, 30.0% of fakes found" in text
    assert "with its own, real up to 0.3000, fake from 0.6500: 5.0%" in text
    kept = said(threshold_text(Recalibration(parent, 40, 33, same, same, same), 0.7, 0.3))
    assert "so they stay" in kept
    assert "its own" not in kept
