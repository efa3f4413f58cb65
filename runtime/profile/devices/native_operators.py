"""Times of single operators, as ``benchmark_model --enable_op_profiling=true`` prints them."""

from __future__ import annotations

import re
import struct

from edgedf.errors import DeviceError
from edgedf.runtime.profile.events import Operators, OperatorTime

__all__ = ["operators_in", "parse_operators"]

_SECTION = "Operator-wise Profiling Info for Regular Benchmark Runs"
_TABLE = re.compile(r"=+ Run Order =+(.*?)(?:=+ Top by|\Z)", re.DOTALL)
# [node type] ([start]) [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]; the start was
# dropped in TensorFlow 2.7, and a node type may hold blanks.
_ROW = re.compile(
    r"^\s*(?P<kind>\S.*?)\s+(?:[\d.]+\s+)?[\d.]+\s+(?P<mean>[\d.]+)\s+[\d.]+%\s+[\d.]+%\s+"
    r"[\d.]+\s+(?P<called>\d+)\s+(?P<name>\S.*?)\s*$"
)
_REPLACING = re.compile(
    r"Replacing (\d+) out of (\d+) node\(s\) with delegate \((\w+)\) node, "
    r"yielding (\d+) partitions for (?:the whole graph|subgraph 0)"
)
_INSIDE = "Delegate/"  # how the name of an operator starts that a delegate reports
_NAMES = {"TfLiteXNNPackDelegate": "XNNPACK", "TfLiteGpuDelegateV2": "GPU"}


def parse_operators(
    output: str,
    *,
    configuration: int,
    source: str,
    inference_ms: float,
    plain_ms: float,
    in_file: int,
) -> Operators:
    """Where the time of an inference goes.

    ``[avg ms]`` is the mean of one call; a row that is called several times in an inference counts
    as often. Operators inside of a delegate take the place of the delegate's own row.

    Args:
        output: What the program wrote, standard output and standard error together.
        configuration: Index of what was measured.
        source: How it was measured, in words.
        inference_ms: Mean of whole inferences meanwhile.
        plain_ms: Mean of inferences without.
        in_file: Operators of the model.

    Raises:
        DeviceError: There is no such table in it.
    """
    _, marker, profile = output.partition(_SECTION)
    tables = [_rows(table) for table in _TABLE.findall(profile)] if marker else []
    if not tables or not tables[0]:
        raise DeviceError(
            f"{source} gave no table of operators.",
            expected="a section Operator-wise Profiling Info for Regular Benchmark Runs",
            next_step="use a benchmark_model that takes --enable_op_profiling=true",
        )
    rows = tables[0]
    internal = profile.find("Delegate internal:")
    if internal >= 0:
        inside = [_rows(table) for table in _TABLE.findall(profile[internal:])]
        if inside and inside[0]:
            rows = _put_inside(rows, inside[0])
    replacing = [match.groups() for match in _REPLACING.finditer(output)]
    delegate = replacing[0][2] if replacing else _delegate_of(output, rows)
    name = _NAMES.get(delegate, delegate)
    operators = tuple(
        OperatorTime(
            name=operator,
            kind=kind,
            milliseconds=mean * called,
            delegate=name if _is_delegated(kind, operator) else "",
        )
        for kind, operator, mean, called in rows
    )
    delegated, partitions = None, None
    if replacing:
        delegated = sum(int(number) for number, *_ in replacing)
        in_file = int(replacing[0][1])
        if len(replacing) == 1:  # TFLite counts the pieces in between as well
            partitions = _pieces(int(replacing[0][3]), bool(operators[0].delegate), delegated)
    left_out = tuple(operator.kind for operator in operators if not operator.delegate)
    if delegated is None and name and len(left_out) < len(operators) and in_file:
        delegated = max(0, in_file - len(left_out))  # the interpreter's rows are the file's
        partitions = sum(kind in _NAMES or kind.endswith("Delegate") for kind, *_ in tables[0])
    return Operators(
        configuration=configuration,
        source=source,
        operators=operators,
        in_file=in_file,
        inference_ms=inference_ms,
        plain_ms=plain_ms,
        delegated=delegated,
        partitions=partitions or None,
        left_out=() if delegated is None else left_out,
    )


def operators_in(model: bytes) -> int | None:
    """How many operators the main graph of a ``.tflite`` model has.

    Read from the flat buffer (``Model.subgraphs[0].operators`` in TFLite's ``schema.fbs``), so
    that no runtime is needed.

    Returns:
        The number; None if it cannot be read.
    """
    try:
        graphs = _vector(model, _u32(model, 0), 2)
        graph = graphs + 4 + _u32(model, graphs + 4)
        return _u32(model, _vector(model, graph, 3))
    except (struct.error, ValueError):
        return None


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _vector(data: bytes, table: int, field: int) -> int:
    """Where the vector in a table's field starts, with its length."""
    layout = table - int(struct.unpack_from("<i", data, table)[0])
    size, place = struct.unpack_from("<H", data, layout)[0], 4 + 2 * field
    offset = struct.unpack_from("<H", data, layout + place)[0] if place < size else 0
    if layout < 0 or offset == 0:
        raise ValueError("there is no such field")
    return table + int(offset) + _u32(data, table + offset)


_Row = tuple[str, str, float, int]


def _rows(table: str) -> list[_Row]:
    rows: list[_Row] = []
    for line in table.splitlines():
        match = _ROW.match(line)
        if match:
            kind, name = match["kind"], match["name"]
            rows.append((kind, name, float(match["mean"]), int(match["called"])))
    return rows


def _is_delegated(kind: str, name: str) -> bool:
    return name.startswith(_INSIDE) or kind in _NAMES or kind.endswith("Delegate")


def _put_inside(rows: list[_Row], inside: list[_Row]) -> list[_Row]:
    """The delegate's operators, in the place of its first row; its other rows go."""
    kinds = [row[0] for row in rows]
    owners = [i for i, kind in enumerate(kinds) if kind in _NAMES or kind.endswith("Delegate")]
    if not owners:
        return rows
    named = [
        (name[len(_INSIDE) :].rpartition(":")[0] or kind, name, mean, called)
        for kind, name, mean, called in inside
    ]
    left = [row for i, row in enumerate(rows) if i not in owners]
    first = owners[0]
    return [*left[:first], *named, *left[first:]]


def _delegate_of(output: str, rows: list[_Row]) -> str:
    for kind, *_ in rows:
        if kind in _NAMES or kind.endswith("Delegate"):
            return kind
    named = re.search(r"Created TensorFlow Lite (?:XNNPACK delegate|delegate for (\w+))", output)
    return "" if named is None else named[1] or "XNNPACK"


def _pieces(subsets: int, starts_inside: bool, delegated: int) -> int:
    """How many pieces the delegate has: TFLite counts the other ones too, and they take turns."""
    if delegated == 0:
        return 0
    return (subsets + 1) // 2 if starts_inside else max(1, subsets // 2)
