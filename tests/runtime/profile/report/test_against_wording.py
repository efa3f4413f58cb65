from dataclasses import replace

from edgedf.runtime.profile.against import compare
from edgedf.runtime.profile.report.against_wording import compared, verdict_line
from tests.runtime.profile.made import FLOAT, ROUNDS, document, model

BASE = document()
RUN = BASE.devices[0]


def test_a_comparison_names_what_got_worse() -> None:
    slower = document(
        [[20.0] * ROUNDS, [15.0] * ROUNDS], models=(FLOAT, model("int8.tflite", sha="c"))
    )
    worse = compare(slower, BASE)
    assert verdict_line(worse).startswith(
        "Worse than before by more than 10%: p50 of int8.tflite, 1 thread (+50%)"
    )
    assert verdict_line(compare(BASE, BASE)) == "Nothing got worse by more than 10%."
    elsewhere = document(machine=replace(RUN.machine, cpu="Another"))  # type: ignore[type-var]
    unclear = compare(elsewhere, BASE)
    assert verdict_line(unclear).startswith("Cannot tell whether anything got worse")
    nothing = compare(replace(BASE, devices=()), BASE)
    assert verdict_line(nothing) == "Cannot tell: nothing is in both profiles."
    (section,) = compared(worse)
    assert {len(row) for row in section.rows} == {len(section.headings)}
    assert section.rows[0][0] == "✓ p50"
    assert any("DIFFERENT MACHINES" in remark for remark in compared(unclear)[0].remarks)
