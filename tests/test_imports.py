"""The arrows between the folders point one way: contract ← formats ← stages ← command line."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("distill", "quantize", "runtime")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "contract": ("formats",),  # its registry and its containers alone: see below
    "formats": (),
    "distill": (),
    "quantize": ("formats", "runtime"),
    "runtime": ("formats",),
}
# The architecture that a checkpoint is loaded into lives with the training, and so do the places
# of the ranges that it may have learned; nothing else of it is needed to export one, and they are
# imported only then.
EXCEPTIONS = {
    ("quantize/sources/export.py", "edgedf.distill.networks"),
    ("quantize/sources/export.py", "edgedf.distill.qat.fake_quant"),
}
# What the contract takes from the formats: a file's spec is read without any of their tools.
CONTRACT_TAKES = ("edgedf/artifact.py", ("edgedf.formats", "edgedf.formats.container"))


def modules(part: str) -> list[Path]:
    inside = {"contract": "edgedf", "formats": "edgedf/formats"}.get(part, part)
    found = list((ROOT / inside).rglob("*.py"))
    if part == "contract":
        found = [path for path in found if not {"cli", "formats"} & set(path.parts)]
    return found


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """Names of modules that a file imports anywhere, but for what only type checkers read."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(child for part in node.body for child in ast.walk(part))
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def named_modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for folder in ("edgedf", *STAGES):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if folder == "edgedf" else ("edgedf", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_no_arrow_points_the_wrong_way(part: str) -> None:
    files = modules(part)
    assert len(files) > 3
    forbidden = {*STAGES, "formats", "cli"} - {part, *MAY_IMPORT[part]}
    wrong = [
        (path.relative_to(ROOT).as_posix(), name)
        for path in files
        for name in imported(path)
        if name.startswith("edgedf.") and name.split(".")[1] in forbidden
    ]
    allowed = {
        (file, name) for file, module in EXCEPTIONS for _, name in wrong if name.startswith(module)
    }
    assert [entry for entry in wrong if entry not in allowed] == []


def test_the_exceptions_are_still_needed() -> None:
    for file, module in EXCEPTIONS:
        assert any(name.startswith(module) for name in imported(ROOT / file))


def test_the_contract_takes_no_tools_from_the_formats() -> None:
    file, packages = CONTRACT_TAKES
    taken = {
        (path.relative_to(ROOT).as_posix(), name.rpartition(".")[0])
        for path in modules("contract")
        for name in imported(path)
        if name.startswith("edgedf.formats")
    }
    assert taken == {(file, package) for package in packages}


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = named_modules()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = set()
        for wanted in imported(path):
            target = wanted if wanted in known else wanted.rpartition(".")[0]
            # A package's names are looked up where they are; only modules are followed.
            if target in known and target != name:
                targets.add(target)
        graph[name] = targets
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_no_format_is_told_by_its_name_outside_its_folder() -> None:
    """A third format must not have to touch any of these files."""
    names = {"tflite", "onnx", ".tflite", ".onnx"}
    found = []
    for path in named_modules().values():
        relative = path.relative_to(ROOT).as_posix()
        if relative.startswith("edgedf/formats/"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Compare):
                parts = (node.left, *node.comparators)
                texts = {n.value for p in parts for n in ast.walk(p) if isinstance(n, ast.Constant)}
                if texts & names:
                    found.append(f"{relative}:{node.lineno}")
            elif isinstance(node, ast.match_case):
                values = {n.value for n in ast.walk(node.pattern) if isinstance(n, ast.Constant)}
                if values & names:
                    found.append(f"{relative}:{node.pattern.lineno}")
    assert found == []
