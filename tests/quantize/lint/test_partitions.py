from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from edgedf.quantize.lint.graph import Graph
from edgedf.quantize.lint.partitions import Fate, count_pieces
from edgedf.quantize.lint.rules import Node


def step(name: str, *inputs: str, floats: bool = True) -> Node:
    tensors = frozenset((*inputs, name)) if floats else frozenset[str]()
    return Node("X", name, inputs, (name,), tensors, frozenset(), {}, frozenset(), 4, {})


def chain(fates: list[Fate]) -> Graph:
    nodes = [step(f"t{i + 1}", f"t{i}", floats=True) for i in range(len(fates))]
    return Graph(tuple(nodes), frozenset({"t0"}), frozenset({f"t{len(fates)}"}))


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_a_chain_of_float_layers_is_cut_where_one_is_left(taken: list[bool]) -> None:
    fates = [Fate(integer=False, taken=t) for t in taken]
    assert count_pieces(chain(fates), fates) == sum(kind for kind, _ in groupby(taken))


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_conversions_are_taken_over(taken: list[bool]) -> None:
    # A QUANTIZE in front of the integer layers and a DEQUANTIZE behind them, both for XNNPACK.
    fates = [Fate(integer=True, taken=t) for t in taken]
    whole = [True, *taken, True]
    assert count_pieces(chain(fates), fates) == sum(kind for kind, _ in groupby(whole))


def test_between_two_types_there_is_a_conversion() -> None:
    fates = [Fate(integer=True, taken=False), Fate(integer=False, taken=False)]
    # QUANTIZE, layer, DEQUANTIZE, layer
    assert count_pieces(chain(fates), fates) == 2


def test_branches_wait_for_each_other() -> None:
    # x ─ a ─────────┐
    # x ─ b ── c ────┴─ sum: b and c need not wait for a.
    nodes = (step("a", "x"), step("b", "x"), step("c", "b"), step("sum", "a", "c"))
    graph = Graph(nodes, frozenset({"x"}), frozenset({"sum"}))
    good, bad = Fate(integer=False, taken=True), Fate(integer=False, taken=False)
    assert count_pieces(graph, [bad, good, good, good]) == 1
    assert count_pieces(graph, [good, bad, good, good]) == 2
    assert count_pieces(graph, [good, good, bad, bad]) == 1


def test_tensors_of_other_types_are_never_converted() -> None:
    mask = Node(
        "GREATER", "m", ("x",), ("m",), frozenset({"x"}), frozenset(), {}, frozenset(), 4, {}
    )
    select = Node(
        "SELECT",
        "y",
        ("m", "x"),
        ("y",),
        frozenset({"x", "y"}),
        frozenset(),
        {},
        frozenset(),
        4,
        {},
    )
    graph = Graph((mask, select), frozenset({"x"}), frozenset())
    fates = [Fate(integer=False, taken=False), Fate(integer=True, taken=False)]
    assert count_pieces(graph, fates) == 1  # the QUANTIZE of x; nothing between the two layers


def test_a_tensor_that_nothing_makes_ends_the_count() -> None:
    graph = Graph((step("a", "nowhere"),), frozenset({"x"}), frozenset({"a"}))
    assert count_pieces(graph, [Fate(integer=False, taken=True)]) == 0
