"""Work that threads do before its result is needed: reading pictures, making batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from edgedf.machine import available_cores

__all__ = ["run_ahead"]

_DECODERS = 4  # more of them would take the processor from the model that runs meanwhile
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def run_ahead(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int | None = None
) -> Generator[_Result, None, None]:
    """Call a function on each item in threads, a few items ahead of whoever takes the results.

    Items are taken as the iteration goes, so there may be any number of them; closing the generator
    early cancels what has not begun.

    Args:
        function: Is called from several threads at once.
        items: What it is called on.
        threads: How many; None for one a core, at most four; 0 to call it in this thread when its
            result is needed.

    Yields:
        The results in the order of the items.

    Raises:
        Exception: What the function raises, at its item's turn.

    Example:
        >>> list(run_ahead(str.upper, ["a", "b", "c"]))
        ['A', 'B', 'C']
    """
    if threads == 0:
        yield from map(function, items)
        return
    workers = min(_DECODERS, available_cores()) if threads is None else threads
    pool = ThreadPoolExecutor(workers, thread_name_prefix="edgedf-ahead")
    left, waiting = iter(items), deque[Future[_Result]]()
    try:
        while True:
            for item in islice(left, workers + 1 - len(waiting)):
                waiting.append(pool.submit(function, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
