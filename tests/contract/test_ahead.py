import itertools
import threading
import time

import pytest

from edgedf.ahead import run_ahead


def test_results_keep_their_order_and_errors_come_through() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def make(step: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001 * (step % 3))
        with lock:
            running -= 1
        if step == 9:
            raise ValueError("nine")
        return step

    taken = []
    with pytest.raises(ValueError, match="nine"):
        for step in run_ahead(make, range(20), 3):
            taken.append(step)
    assert taken == list(range(9))
    assert 1 <= most <= 3


def test_items_are_taken_as_results_are() -> None:
    taken = []
    items = (taken.append(number) or number for number in itertools.count())
    results = run_ahead(lambda number: number * number, items, 2)
    assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
    results.close()
    assert len(taken) <= 4 + 2 + 1


def test_without_threads_this_one_does_it() -> None:
    names = run_ahead(lambda _: threading.current_thread().name, range(3), 0)
    assert set(names) == {threading.current_thread().name}
