from edgedf.machine import Machine
from edgedf.runtime.profile.document import DeviceRun
from edgedf.runtime.profile.events import State
from edgedf.runtime.profile.report.plots.spans import Span, disturbed
from tests.runtime.profile import documents


def spans(*states: State, cores: int | None = 2, begin: float = 0) -> tuple[Span, ...]:
    machine = Machine("cpu", "x86_64", "Linux", cores=cores)
    return disturbed(DeviceRun("host", "complete", machine, states=states), (begin, 100))


def test_an_idle_machine_has_none() -> None:
    assert disturbed(DeviceRun("host", "failed"), (0, 1)) == ()
    assert spans(State(0), State(1, other_load=0.02, stolen=0.01, throttled=3)) == ()
    assert spans(*documents.states()[:100]) == ()


def test_load_is_since_the_state_before_and_neighbours_become_one() -> None:
    found = spans(
        State(0, other_load=0.9),  # since the worker started, which no state marks
        State(1, other_load=0.0),
        State(2, other_load=0.9),
        State(3, other_load=0.7),
        State(4, other_load=0.0),
        State(5, stolen=0.4),
    )
    assert found == (Span(1, 3, "loaded"), Span(4, 5, "loaded"))


def test_more_processors_may_do_more_besides() -> None:
    assert spans(State(0), State(1, other_load=0.3)) == (Span(0, 1, "loaded"),)
    assert spans(State(0), State(1, other_load=0.3), cores=8) == ()


def test_a_rising_counter_and_a_lower_frequency_are_throttling() -> None:
    assert spans(State(0, throttled=4), State(1, throttled=5), State(2, throttled=5)) == (
        Span(0, 1, "throttled"),
    )
    assert spans(State(0), State(1, throttled=5)) == ()
    found = spans(
        State(0, frequency_mhz=(800.0,)),  # idle, before it counts
        State(0.5, frequency_mhz=(800.0,), other_load=1.0),
        State(2, frequency_mhz=(1000.0, 2400.0)),
        State(3, frequency_mhz=(1000.0, 2300.0)),
        State(4, frequency_mhz=(1000.0, 2000.0), other_load=1.0),
        begin=1,
    )
    assert found == (Span(3, 4, "throttled"),)


def test_what_happens_afterwards_does_not_count() -> None:
    assert spans(State(99), State(101, other_load=1.0)) == (Span(99, 101, "loaded"),)
    assert spans(State(100), State(102, other_load=1.0)) == ()
