import codecs
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf import typed_json
from edgedf.errors import DataError, DeviceError
from edgedf.files import write_text
from edgedf.machine import Machine
from edgedf.runtime.profile.assemble import assemble, thinned
from edgedf.runtime.profile.document import DeviceRun, from_json, profile_schema, to_json
from edgedf.runtime.profile.events import (
    Block,
    Event,
    Failed,
    Finished,
    Loaded,
    Started,
    State,
    Summary,
    WarmedUp,
    from_line,
    to_line,
)
from tests.runtime.profile.made import (
    FLOAT,
    INT8,
    MACHINE,
    ROUNDS,
    document,
    job,
    model,
    run_events,
    states,
)

FEW = settings(max_examples=15, deadline=None)
LEVELS = ((20.0,) * ROUNDS, (10.0,) * ROUNDS)
EVENTS = run_events(LEVELS)


def assembled(events: Sequence[Event], problem: DeviceError | None = None) -> DeviceRun:
    return assemble(job(), events, "host", problem)


def test_a_whole_run_becomes_results_in_the_order_of_the_request() -> None:
    run = assembled(EVENTS)
    assert (run.status, run.problem, run.machine) == ("complete", None, MACHINE)
    assert [(result.model, result.threads) for result in run.results] == [(0, 1), (1, 1)]
    for result, level in zip(run.results, (20.0, 10.0), strict=True):
        assert result.validity.status == "valid", result.validity.reasons
        assert result.latency is not None and result.latency.p50_ms is not None
        assert level < result.latency.p50_ms < 1.05 * level
        assert result.distribution is not None
        assert sum(result.distribution.counts) == result.latency.queries
        assert len(result.over_time) == ROUNDS
        assert (result.warm_up_queries, result.steady) == (50, True)
        assert result.cold_start is not None and result.cold_start.total_ms == 25.0
        assert result.operators is not None
        assert result.operators.verdict == "1 of 2 operators left the delegate: CAST"
        assert result.sustained is None
    assert run.results[1].memory is not None
    assert run.results[1].memory.model_kib == 6001
    (ratio,) = run.ratios
    first, second = (result.latency for result in run.results)
    assert first is not None and second is not None
    assert first.p50_ms is not None and second.p50_ms is not None
    assert ratio.ratio == pytest.approx(second.p50_ms / first.p50_ms)


def test_the_pipelines_shares_add_up() -> None:
    found = assembled(EVENTS).results[0].pipeline
    assert found is not None
    assert [stage.name for stage in found.stages] == [
        *("decode", "preprocess", "inference", "postprocess")
    ]
    assert sum(stage.share for stage in found.stages) == pytest.approx(1)
    assert found.stages[0].share == pytest.approx(8.5 / 16.5)
    assert (found.p50_ms, found.megapixels, found.pictures) == (16.5, 7.0, 2)


def test_a_load_started_halfway_is_invalid_and_not_averaged_away() -> None:
    half = ROUNDS // 2
    levels = [[level] * half + [1.4 * level] * half for level in (20.0, 10.0)]
    run = assemble(job(), run_events(levels, load=None), "host")
    assert [result.validity.status for result in run.results] == ["invalid"] * 2
    # The two were slowed down alike, so their ratio is what it was.
    assert run.ratios[0].ratio == pytest.approx(0.5, rel=0.02)


@FEW
@given(st.integers(0, len(EVENTS) - 1))
def test_a_run_cut_off_anywhere_keeps_what_there_is(length: int) -> None:
    lost = DeviceError("The connection was lost.", next_step="plug it in")
    run = assembled(EVENTS[:length], lost)
    measured = any(isinstance(event, Block) for event in EVENTS[:length])
    assert run.status == ("partial" if measured else "failed")
    assert run.problem is not None and run.problem.next_step == "plug it in"
    for index, result in enumerate(run.results):
        own = [e for e in EVENTS[:length] if isinstance(e, Block) and e.configuration == index]
        assert (result.latency is None) == (not own)
        if len(own) < ROUNDS - 2:
            assert result.validity.status == "invalid"
    assert typed_json.decode(DeviceRun, typed_json.encode(run)) == run


def test_a_stream_that_only_stops_is_told_as_cut_off() -> None:
    run = assembled(EVENTS[:-1])
    assert run.status == "partial"
    assert run.problem is not None and "ended before" in run.problem.message
    assert assembled([]).problem is not None
    assert assembled([]).results == ()


def test_what_failed_is_told_where_it_belongs() -> None:
    mine = Failed("This one broke.", "better", "repair it", configuration=1, step="operators")
    everybody = Failed("No sensors.", step="states")
    run = assembled([*EVENTS[:-1], mine, everybody, Finished()])
    assert [problem.step for problem in run.results[0].problems] == ["states"]
    assert [problem.step for problem in run.results[1].problems] == ["operators", "states"]
    assert run.results[1].problems[0].next_step == "repair it"
    nothing = assembled([Started(MACHINE), replace(mine, configuration=0), Finished()])
    assert nothing.status == "failed"
    assert nothing.problem is not None and nothing.problem.message == "This one broke."


def test_a_configuration_that_failed_leaves_the_others_and_their_ratios() -> None:
    three = (FLOAT, INT8, model("other.tflite"))
    events = [
        event
        for event in run_events([*LEVELS, LEVELS[0]])
        if getattr(event, "configuration", None) != 0
    ]
    run = assemble(job(three), events, "host")
    assert run.results[0].latency is None
    assert run.results[0].validity.reasons == ("nothing was measured",)
    assert [(ratio.first, ratio.second) for ratio in run.ratios] == [(1, 2)]


def test_what_a_confused_worker_says_of_others_is_left_out() -> None:
    strange = [Block(7, 0, 0.0, (1.0,)), Block(-1, 0, 0.0, (1.0,)), Block(0, 99, 0.0, ())]
    assert assembled([*strange, *EVENTS]).ratios == assembled(EVENTS).ratios


def test_a_native_benchmark_has_no_single_inferences() -> None:
    events: list[Event] = [Started(Machine("", "aarch64", "Android 14", soc="SM1"))]
    for at in range(2):
        events.append(Loaded(at, "benchmark_model"))
    for repetition in range(12):
        for at, level in enumerate((20.0, 10.0)):
            events.append(
                Summary(
                    *(at, "benchmark_model", 600, 0.6 * level, level),
                    **dict.fromkeys(("p50_ms", "p90_ms"), level + 0.01 * repetition),
                    load_ms=30.0 + repetition,
                    first_run_ms=9.0,
                    model_kib=5000 + repetition,
                )
            )
    run = assembled([*events, Finished()])
    assert [result.validity.status for result in run.results] == ["valid"] * 2
    first = run.results[0]
    assert first.runtime == "benchmark_model"
    assert first.distribution is None and first.over_time == ()
    assert first.latency is not None and first.latency.queries == 7200
    assert first.cold_start is not None
    assert (first.cold_start.processes, first.cold_start.load_ms) == (12, 35.5)
    assert first.memory is not None and first.memory.model_kib == 5011
    assert run.ratios[0].rounds == 12
    assert run.ratios[0].low <= run.ratios[0].ratio <= run.ratios[0].high


def test_a_sustained_run_is_kept_apart() -> None:
    long = [Block(0, at, 200.0 + at * 1.05, (20.0,) * 50, "sustained") for at in range(180)]
    run = assembled([*EVENTS[:-1], *long, Finished()])
    assert run.results[0].sustained is not None and len(run.results[0].sustained.minutes) >= 3
    assert run.results[0].latency == assembled(EVENTS).results[0].latency
    assert run.results[1].sustained is None


def test_states_are_thinned_without_losing_a_load() -> None:
    load = [0.0] * 3000
    load[1500:1510] = [2.0] * 10
    many = [replace(s, throttled=int(s.at_s > 2000)) for s in states(3000, load)]
    many[700] = replace(many[700], temperature_c={"cpu": 99.0})
    few = thinned(many)
    assert len(few) == 300
    assert sum(state.other_load or 0 for state in few) * 10 == pytest.approx(20)
    assert max(state.other_load or 0 for state in few) == pytest.approx(2.0)
    assert max(state.temperature_c["cpu"] for state in few) == 99.0
    assert few[-1].at_s == 3000 and few[-1].throttled == 1
    assert few[0].frequency_mhz == (2000.0,) * 4
    assert thinned([]) == ()
    blind = [State(float(at + 1)) for at in range(700)]
    assert {state.other_load for state in thinned(blind)} == {None}


def test_a_whole_document_survives_a_file_and_its_schema(tmp_path: Path) -> None:
    made = document()
    assert made.publishable
    path = write_text(tmp_path / "profile.json", to_json(made))
    assert from_json(path) == made
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())  # looked at and saved in Notepad
    assert from_json(path) == made
    schema = profile_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(typed_json.encode(made))) == []
    spoilt = typed_json.encode(made)
    spoilt["devices"][0]["results"][0]["validity"]["status"] = "fine"
    assert list(validator.iter_errors(spoilt))


@pytest.mark.parametrize(
    ("part", "field", "index", "says"),
    [
        ("results", "model", 2, "it names model 2 of 2"),
        ("results", "model", -1, "it names model -1 of 2"),
        ("ratios", "second", 7, "it names result 7 of 2"),
    ],
)
def test_a_document_that_points_to_nothing_is_refused(
    part: str, field: str, index: int, says: str, tmp_path: Path
) -> None:
    spoilt = typed_json.encode(document())
    spoilt["devices"][0][part][0][field] = index
    path = write_text(tmp_path / "profile.json", json.dumps(spoilt))
    with pytest.raises(DataError, match=says):
        from_json(path)


def test_events_that_went_over_the_wire_give_the_same_document() -> None:
    sent = [from_line(to_line(event)) for event in EVENTS]
    assert assembled(sent) == assembled(EVENTS)


def test_times_of_nothing_are_no_ratio() -> None:
    still = [
        replace(e, times_ms=(0.0,) * 10) if isinstance(e, Block) else e
        for e in EVENTS
        if not isinstance(e, WarmedUp)
    ]
    run = assembled(still)
    assert run.ratios == ()
    assert run.results[0].latency is not None and run.results[0].latency.throughput == 0
    assert np.isfinite(run.results[0].latency.mean_ms)
