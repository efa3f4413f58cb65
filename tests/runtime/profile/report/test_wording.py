from dataclasses import replace

import pytest

from edgedf.runtime.profile.document import (
    DeviceRun,
    Minute,
    OperatorShares,
    Problem,
    Profile,
    Sustained,
    Validity,
)
from edgedf.runtime.profile.events import OperatorTime
from edgedf.runtime.profile.report.wording import (
    device_line,
    problem_line,
    sections,
    standing,
    sustained_line,
    top_operators,
)
from edgedf.runtime.profile.request import QUICK
from tests.runtime.profile.made import ROUNDS, document

BASE = document()
RUN = BASE.devices[0]


def changed(**what: object) -> Profile:
    """With one field of the first result changed."""
    first = replace(RUN.results[0], **what)  # type: ignore[arg-type]
    return replace(BASE, devices=(replace(RUN, results=(first, *RUN.results[1:])),))


def test_whether_figures_may_be_published_is_said_with_reasons() -> None:
    assert standing(BASE).startswith("Publishable")
    spoilt = changed(validity=Validity("invalid", ("other load",)))
    assert standing(replace(spoilt, publishable=False)) == (
        "Not publishable: 1 of 2 results is invalid."
    )
    quick = replace(BASE, publishable=False, effort=QUICK)
    assert standing(quick).startswith("Not publishable: 128 inferences and 5 s were asked for")
    cut = replace(BASE, publishable=False, devices=(DeviceRun("ssh:a", "failed"),))
    assert standing(cut) == "Not publishable: ssh:a gave nothing."


def test_sections_have_a_cell_for_each_heading_and_leave_out_what_is_missing() -> None:
    found = sections(BASE, RUN)
    assert [section.title for section in found] == [
        "Latency",
        "Ratios of medians",
        "Start and memory",
        "From a photograph's bytes to a verdict",
        "Operators of float.tflite, 1 thread",
        "Operators of int8.tflite, 1 thread",
    ]
    for section in found:
        assert {len(row) for row in section.rows} <= {len(section.headings)}
    bare = replace(RUN, results=(), ratios=())
    assert sections(BASE, bare) == ()


def test_reasons_and_problems_are_below_the_tables() -> None:
    spoilt = changed(
        validity=Validity("semi-valid", ("too few", "too noisy")),
        problems=(Problem("It broke.", "better", "repair it", "operators"),),
    )
    found = {section.title: section for section in sections(spoilt, spoilt.devices[0])}
    assert found["Latency"].rows[0][0] == "~ float.tflite"
    assert found["Latency"].remarks == (
        "~ float.tflite, 1 thread: semi-valid: too few; too noisy.",
    )
    assert found["What could not be measured"].remarks == (
        "float.tflite, 1 thread: operators: It broke. Expected: better. Next step: repair it.",
    )


def test_the_ten_operators_that_take_longest_come_first() -> None:
    times = [float(at % 7 + 1) for at in range(30)]
    operators = tuple(OperatorTime(f"op{at}", "K", time) for at, time in enumerate(times))
    found = OperatorShares("made up", operators, 30, 1.0, 0.8, "a verdict")
    top = top_operators(found)
    assert len(top) == 10
    shares = [share for _, share in top]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(sum(sorted(times)[-10:]) / sum(times))
    section = next(
        section
        for section in sections(changed(operators=found), changed(operators=found).devices[0])
        if section.title.startswith("Operators")
    )
    assert section.remarks[0] == "a verdict."
    assert section.remarks[1] == "20 more operators take the rest."
    assert section.remarks[2] == "Source: made up; +25% for timing them."
    assert top_operators(replace(found, operators=())) == ()


def test_a_long_run_is_a_sentence_and_a_dozen_rows() -> None:
    minutes = tuple(Minute(60.0 * at, 100, 5.0, 6.0, 2000.0, 61.5) for at in range(30))
    found = Sustained(1800.0, 1.25, 1.2, 1.3, minutes)
    assert sustained_line(found) == (
        "30 min without a pause slowed down: the last minute took 1.25 times as long as the first "
        "minute (1.20 to 1.30)"
    )
    assert "held: the second half took" in sustained_line(Sustained(60.0, 1.0, 0.9, 1.1, minutes))
    profile = changed(sustained=found)
    section = sections(profile, profile.devices[0])[-1]
    assert [section.rows[at][0] for at in (0, -1)] == ["0", "29"]
    assert len(section.rows) == 12
    assert section.rows[0][3:] == ("2,000 MHz", "61.5 °C")


def test_a_device_and_a_problem_in_a_line() -> None:
    assert device_line(RUN) == (
        "host: A processor, 4 processors, aarch64, 4.0 GiB, Linux 6, Python 3.11"
    )
    assert device_line(DeviceRun("adb", "failed")) == "adb: never reached"
    assert problem_line(Problem("It broke.")) == "It broke."


def test_int8_that_is_slower_than_float_is_said_under_the_ratios() -> None:
    slower = document([(10.0,) * ROUNDS, (13.5,) * ROUNDS])
    run = slower.devices[0]
    for device, where in (("host", "this processor"), ("ssh:pi", "ssh:pi")):
        ratios = next(
            s for s in sections(slower, replace(run, device=device)) if s.title.startswith("Ratios")
        )
        said = next(remark for remark in ratios.remarks if "int8 takes" in remark)
        assert said.startswith("tflite, 1 thread: int8 takes 1.3")
        assert f"times as long as float on {where} (" in said
    faster = document([(10.0,) * ROUNDS, (5.0,) * ROUNDS])
    assert not any(
        "int8 takes" in remark
        for section in sections(faster, faster.devices[0])
        for remark in section.remarks
    )
