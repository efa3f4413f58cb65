import threading
import time

from edgedf.runtime.profile.settle import settle


def spin(seconds: float) -> threading.Thread:
    def run() -> None:
        own = time.thread_time() + seconds
        while time.thread_time() < own:
            pass

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_it_is_waited_for_threads_that_spin() -> None:
    thread = spin(0.15)
    taken = settle(10.0)
    assert not thread.is_alive()
    assert taken < 10.0
    thread.join()


def test_what_never_rests_is_not_waited_for() -> None:
    thread = spin(0.5)
    taken = settle(0.05)
    assert taken >= 0.05
    thread.join()


def test_a_process_at_rest_has_settled() -> None:
    assert settle(10.0) < 10.0
