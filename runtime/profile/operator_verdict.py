"""One line on what is not executed where, or as, one would want it."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from edgedf.formats.timed import Operators

__all__ = ["delegation_verdict"]


def delegation_verdict(operators: Operators) -> str:
    """What is left out by delegates, or, without delegates, what computes in floating point.

    Args:
        operators: What was measured.

    Returns:
        A sentence without a full stop, such as ``1 of 82 operators left the delegate: CAST``.
    """
    if operators.delegated is not None:
        return _of_delegates(operators)
    executed = len(operators.operators)
    nodes = f"{executed} node{'s' * (executed != 1)}"
    if operators.in_float is None:
        return f"{nodes} executed for {operators.in_file} in the file"
    if not operators.in_float:
        return f"all {nodes} compute in integers"
    return f"{len(operators.in_float)} of {nodes} compute in float: {_counted(operators.in_float)}"


def _of_delegates(operators: Operators) -> str:
    left = len(operators.left_out)
    line = f"{left} of {operators.in_file} operators left the delegate"
    if left:
        line += f": {_counted(operators.left_out)}"
    if operators.partitions is not None and operators.partitions > 1:
        line += f"; it has the others in {operators.partitions} partitions"
    floats = operators.in_float or ()
    if 0 < 2 * len(floats) < operators.in_file:  # islands; a float model is what it is
        verb = "computes" if len(floats) == 1 else "compute"
        line += f"; {len(floats)} {verb} in float: {_counted(floats)}"
    return line


def _counted(kinds: Sequence[str]) -> str:
    counts = sorted(collections.Counter(kinds).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in counts)
