import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf import typed_json
from edgedf.errors import ConfigError
from edgedf.runtime.profile.against import Change, Comparison, compare
from edgedf.runtime.profile.document import Memory, Profile
from tests.runtime.profile.made import FLOAT, INT8, MACHINE, MODELS, ROUNDS, document, model

FEW = settings(max_examples=20, deadline=None)
BASE = document()
OTHER = model("int8.tflite", sha="c")  # the same name, other bytes


def levels(first: float = 20.0, second: float = 10.0) -> list[list[float]]:
    return [[first] * ROUNDS, [second] * ROUNDS]


def one(comparison: Comparison, what: str, name: str = "int8") -> Change:
    (found,) = (c for c in comparison.changes if c.what == what and c.name.startswith(name))
    return found


def test_the_same_profile_passes() -> None:
    found = compare(BASE, BASE)
    assert found.verdict == "pass"
    assert found.remarks == ()
    assert {change.verdict for change in found.changes} == {"pass"}
    assert all(change.ratio == 1 for change in found.changes)
    assert typed_json.decode(Comparison, typed_json.encode(found)) == found


def test_a_model_that_got_slower_fails_and_one_that_got_faster_passes() -> None:
    now = document(levels(second=12.5), models=(FLOAT, OTHER))
    found = compare(now, BASE)
    assert found.verdict == "fail"
    for what in ("p50", "ratio"):
        change = one(found, what)
        assert change.verdict == "fail"
        assert change.ratio == pytest.approx(1.25, rel=0.02)
        assert change.low is not None and change.high is not None
        assert 1.1 < change.low <= change.ratio <= change.high
    assert one(found, "p50", "float").verdict == "pass"
    assert compare(BASE, now).verdict == "pass"
    assert compare(now, BASE, 0.3).verdict == "pass"


def test_a_machine_that_drifted_is_no_slower_model() -> None:
    now = document(levels(25.0, 12.5), models=(FLOAT, OTHER))
    found = compare(now, BASE)
    assert found.verdict == "pass"
    assert one(found, "ratio").verdict == "pass"
    change = one(found, "p50")
    assert change.verdict is None
    assert "the ratio to float.tflite, 1 thread, which has not changed, decides" in change.reason
    assert "so the machine is not" in one(found, "p50", "float").reason


def test_without_a_baseline_milliseconds_decide() -> None:
    now = document(
        levels(25.0, 12.5), models=(model("float.tflite", "fp32", size=3_000_000, sha="d"), OTHER)
    )
    found = compare(now, BASE)
    assert found.verdict == "fail"
    assert one(found, "p50", "float").verdict == "fail"
    assert one(found, "ratio").verdict is None
    assert "is not the file it was" in one(found, "ratio").reason


def test_one_model_alone_is_held_against_milliseconds() -> None:
    before, now = (document(levels(first)[:1], models=(FLOAT,)) for first in (20.0, 25.0))
    assert compare(now, before).verdict == "fail"


def test_an_interval_that_includes_the_limit_cannot_tell() -> None:
    now = document(levels(second=10.9), models=(FLOAT, OTHER))
    assert compare(now, BASE).verdict == "pass"
    wide = _with_p50_interval(now, 0.85, 1.15)
    found = compare(wide, _with_p50_interval(BASE, 1.0, 1.0, ratios=False))
    assert one(found, "p50").verdict == "cannot tell"
    assert found.verdict == "cannot tell"


def _with_p50_interval(
    profile: Profile, low: float, high: float, *, ratios: bool = False
) -> Profile:
    (run,) = profile.devices
    results = []
    for result in run.results:
        latency = result.latency
        assert latency is not None and latency.p50_ms is not None
        changed = replace(
            latency, p50_low_ms=low * latency.p50_ms, p50_high_ms=high * latency.p50_ms
        )
        results.append(replace(result, latency=changed))
    changed_run = replace(run, results=tuple(results), ratios=run.ratios if ratios else ())
    return replace(profile, devices=(changed_run,))


def test_another_machine_is_said_loudly_and_decides_nothing() -> None:
    now = document(levels(40.0, 20.0), machine=replace(MACHINE, cpu="Another", cores=8))
    found = compare(now, BASE)
    assert found.verdict == "cannot tell"
    assert found.remarks[0].startswith("DIFFERENT MACHINES (host): processor A processor then")
    assert {change.verdict for change in found.changes if change.what == "p50"} == {"cannot tell"}
    assert "fail" not in {change.verdict for change in found.changes}
    # A file's size is the same everywhere.
    grown = replace(OTHER, size_bytes=2_000_000)
    assert (
        compare(document(models=(FLOAT, grown), machine=replace(MACHINE, cpu="B")), BASE).verdict
        == "fail"
    )


def test_another_runtime_decides_nothing_either() -> None:
    found = compare(document(levels(40.0, 20.0), runtime="a-runtime 2.0"), BASE)
    assert found.verdict == "cannot tell"
    assert found.remarks == (
        "DIFFERENT RUNTIMES (host): a-runtime 1.0 then, a-runtime 2.0 now. Their latency and "
        "memory are shown and decide nothing.",
    )


def test_an_invalid_result_decides_nothing() -> None:
    now = document(levels(second=15.0), models=(FLOAT, OTHER), load=1.0)
    found = compare(now, BASE)
    assert found.verdict == "cannot tell"
    assert "invalid now: other processes" in one(found, "p50").reason


def test_memory_and_size_are_held_against_the_limit() -> None:
    (run,) = BASE.devices
    memory = [Memory(kib) for kib in (6_500, 9_000)]
    results = tuple(replace(r, memory=m) for r, m in zip(run.results, memory, strict=True))
    now = replace(
        BASE,
        devices=(replace(run, results=results),),
        models=(FLOAT, replace(OTHER, size_bytes=1_200_000)),
    )
    found = compare(now, BASE)
    assert one(found, "memory").verdict == "fail"
    assert one(found, "memory", "float").verdict == "pass"  # 8 %
    assert one(found, "size").verdict == "fail"
    assert not [c for c in found.changes if c.what == "size" and c.name.startswith("float")]
    # A few hundred KiB are noise, however large a part of a small model they are.
    small = replace(
        BASE, devices=(replace(run, results=(replace(run.results[0], memory=Memory(900)),)),)
    )
    grown = replace(
        BASE, devices=(replace(run, results=(replace(run.results[0], memory=Memory(1400)),)),)
    )
    assert one(compare(grown, small), "memory", "float").verdict == "pass"


def test_a_longer_tail_is_not_excused_by_the_ratio_of_medians() -> None:
    (run,) = BASE.devices
    latency = run.results[1].latency
    assert latency is not None and latency.p90_ms is not None
    tailed = replace(latency, p90_ms=15.0, p90_low_ms=14.9, p90_high_ms=15.1)
    results = (run.results[0], replace(run.results[1], latency=tailed))
    found = compare(replace(BASE, devices=(replace(run, results=results),)), BASE)
    assert one(found, "p90").verdict == "fail"
    assert found.verdict == "fail"


def test_what_only_one_profile_has_is_said() -> None:
    three = (*MODELS, model("new.tflite", "fp16", sha="e"))
    more = document([*levels(), [15.0] * ROUNDS], models=three)
    found = compare(more, BASE)
    assert found.verdict == "pass"
    assert found.remarks == ("host: new.tflite, 1 thread is not in the earlier profile.",)
    assert "alone" in compare(BASE, more).remarks[0]
    assert compare(replace(BASE, devices=()), BASE).verdict == "cannot tell"


def test_a_renamed_file_is_matched_by_what_it_is() -> None:
    renamed = document(models=(FLOAT, replace(INT8, file="student_v2.tflite")))
    found = compare(renamed, BASE)
    assert found.verdict == "pass"
    assert one(found, "p50", "student_v2").ratio == pytest.approx(1.0)


def test_what_could_not_be_measured_any_more_is_not_passed() -> None:
    (run,) = BASE.devices
    results = (run.results[0], replace(run.results[1], latency=None))
    found = compare(replace(BASE, devices=(replace(run, results=results),)), BASE)
    assert found.verdict == "cannot tell"
    assert "could not be now" in found.remarks[0]


def test_one_phone_is_compared_with_another_of_its_kind() -> None:
    phones = [document(device=f"adb:{serial}") for serial in ("1", "2")]
    assert compare(*phones).verdict == "pass"


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, math.inf])
def test_a_limit_that_makes_no_sense_is_refused(limit: float) -> None:
    with pytest.raises(ConfigError, match="The limit is"):
        compare(BASE, BASE, limit)


@FEW
@given(st.floats(0.5, 2.0), st.floats(1.0, 1.2), st.floats(1.0, 1.2), st.floats(0.02, 0.5))
def test_a_verdict_follows_from_the_interval(
    factor: float, then: float, now: float, limit: float
) -> None:
    base = _with_p50_interval(BASE, 1 / then, then)
    (run,) = base.devices
    first = run.results[0].latency
    assert first is not None and first.p50_ms is not None
    p50 = factor * first.p50_ms
    changed = replace(first, p50_ms=p50, p50_low_ms=p50 / now, p50_high_ms=p50 * now)
    results = (replace(run.results[0], latency=changed),)
    profile = replace(base, devices=(replace(run, results=results),))
    change = one(compare(profile, base, limit), "p50", "float")
    assert change.low is not None and change.high is not None
    assert change.low <= change.ratio * (1 + 1e-9) and change.ratio <= change.high * (1 + 1e-9)
    width = math.exp(math.hypot(math.log(then), math.log(now)))
    assert change.high == pytest.approx(factor * width)
    assert (change.verdict == "fail") == (change.low > 1 + limit)
    assert (change.verdict == "pass") == (change.high <= 1 + limit)
