import dataclasses
from typing import Any

import pytest

from edgedf.figures import Figure
from edgedf.metrics import PairedFigure
from edgedf.quantize.accuracy.gate import judge, overall
from edgedf.quantize.accuracy.limits import Limits
from edgedf.quantize.accuracy.verify import Verification
from edgedf.quantize.accuracy.wording import headline, lines, remarks
from tests.quantize.accuracy.test_gate import measured


def verification(limits: Limits | None = None, **changes: Any) -> Verification:
    limits, seen = limits or Limits(), measured(**changes)
    rows = judge(seen, limits)
    return Verification(
        verdict=overall(rows),
        images_needed=None,
        artifact="a.tflite",
        parent="b.tflite",
        same_checkpoint=True,
        data="data",
        split="all",
        real=500,
        fake=500,
        measurements=seen,
        limits=limits,
        rows=rows,
        worst=(),
        skipped=(),
    )


def test_the_headline_says_what_came_out() -> None:
    passed = verification()
    assert headline(passed) == "The artifact passes: on 1,000 pictures it stays within every limit."
    grouped = verification(groups=600)
    assert "1,000 pictures in 600 groups" in headline(grouped)
    failed = verification(Limits(map_error=0.001, map_error_bound=0.001))
    assert headline(failed) == "The artifact fails: map error / range."
    open_ = dataclasses.replace(passed, verdict="cannot tell", images_needed=12_000)
    assert "About 12,000 of the same kind would do: an estimate" in headline(open_)
    assert "other pictures" in headline(dataclasses.replace(open_, images_needed=None))


def test_a_line_has_every_figure_in_its_unit() -> None:
    found = {line.title: line for line in lines(verification())}
    drop = found["AUC drop"]
    assert drop[3:9] == ("0.9000", "0.8990", "0.0010", "-0.0020 to 0.0030", "0.005", "0.01")
    assert (drop.mark, drop.reason) == ("✓", "")
    flips = found["flipped verdicts"]
    assert flips[3:9] == ("", "", "0.20%", "0.00% to 0.50%", "1%", "2%")
    assert found["logit correlation"].limit == "≥ 0.99"


@pytest.mark.parametrize("value", [-0.00001, -0.0, 0.0])
def test_nothing_has_no_sign(value: float) -> None:
    same = Figure(0.9, 0.9, 0.9, 10)
    drop = PairedFigure(same, same, Figure(value, value, value, 10))
    assert lines(verification(auc=drop))[0].measured == "0.0000"


def test_a_line_that_cannot_tell_says_how_many_pictures_would() -> None:
    none = Figure(0.0, 0.0, 0.0, 100)
    (line,) = (
        line
        for line in lines(verification(pictures=100, groups=100, flipped=0, flips=none))
        if line.mark == "?"
    )
    assert line.reason.endswith("; about 150 pictures would tell")


def test_remarks_say_what_a_reader_has_to_know() -> None:
    plain = remarks(verification())
    assert plain[0] == "5 verdicts changed to or from unsure, which has no limit."
    assert "0.020 px" in plain[1] and "0.50% of the range" in plain[1] and "2.00%" in plain[1]
    odd = dataclasses.replace(verification(changed=1), same_checkpoint=False, real=0)
    said = " ".join(remarks(odd))
    assert "All pictures are fake, so there is no AUC." in said
    assert "different checkpoints" in said
    assert "1 verdict changed" in said
    assert "no labels" in remarks(dataclasses.replace(odd, fake=0))[0]
