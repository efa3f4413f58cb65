import subprocess
import sys

import pytest

from edgedf.errors import DeviceError
from edgedf.runtime.profile.devices.stream import follow
from edgedf.runtime.profile.events import Event, Failed, Finished, Loaded, to_line

LOADED = Loaded(0, "runtime 1")


def process(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def events_of(code: str) -> tuple[list[Event], DeviceError | None]:
    taken: list[Event] = []
    with process(code) as child:
        try:
            follow(child, taken.append)
        except DeviceError as error:
            return taken, error
        finally:
            child.kill()
    return taken, None


def test_every_event_is_handed_on_up_to_the_last() -> None:
    lines = [to_line(LOADED), to_line(Finished()), to_line(LOADED)]
    taken, error = events_of(f"print({chr(10).join(lines)!r})")
    assert taken == [LOADED, Finished()]
    assert error is None


def test_what_came_before_the_end_is_kept_and_the_reason_told() -> None:
    code = f"""
import sys
print({to_line(LOADED)!r}, flush=True)
print('{{"event": "Load', end="", flush=True)
print("out of luck", file=sys.stderr)
sys.exit(7)
"""
    taken, error = events_of(code)
    assert taken == [LOADED]
    assert error is not None
    assert "exit status 7" in error.message
    assert "out of luck" in error.next_step


def test_a_worker_that_is_killed_is_told_from_one_that_ends() -> None:
    _, error = events_of("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert error is not None
    assert "signal 9" in error.message


def test_a_failure_of_everything_is_the_reason() -> None:
    failed = Failed("The request cannot be used.", "a request", "write one")
    taken, error = events_of(f"import sys; print({to_line(failed)!r}); sys.exit(2)")
    assert taken == [failed]
    assert error is not None
    assert (error.message, error.next_step) == (failed.message, failed.next_step)


def test_much_on_standard_error_does_not_stop_the_worker() -> None:
    code = f"""
import sys
for _ in range(20000): print("chatter" * 5, file=sys.stderr)
print({to_line(Finished())!r})
"""
    assert events_of(code) == ([Finished()], None)


def test_what_is_no_event_is_refused() -> None:
    _, error = events_of("print('welcome to this board')")
    assert error is not None
    assert "no event" in error.message
    _, error = events_of("print('x' * (9 << 20))")
    assert error is not None
    assert "a line of more than" in error.message


def test_an_error_in_the_one_who_takes_the_events_gets_out() -> None:
    def refuse(event: Event) -> None:
        raise KeyboardInterrupt

    with process(f"print({to_line(LOADED)!r})") as child, pytest.raises(KeyboardInterrupt):
        follow(child, refuse)
