"""The arrows between the folders point one way: contract ← stages ← command line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("distill", "quantize", "runtime")
MAY_IMPORT = {"contract": (), "distill": (), "quantize": ("runtime",), "runtime": ()}
# The architecture that a checkpoint is loaded into lives with the training, and so do the places
# of the ranges that it may have learned; nothing else of it is needed to export one, and they are
# imported only then.
EXCEPTIONS = {
    ("quantize/sources/export.py", "edgedf.distill.networks.student"),
    ("quantize/sources/export.py", "edgedf.distill.qat.fake_quant"),
}


def modules(part: str) -> list[Path]:
    if part == "contract":
        return [p for p in (ROOT / "edgedf").rglob("*.py") if "cli" not in p.parts]
    return list((ROOT / part).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Names of modules that a file imports anywhere, but for what only type checkers read."""
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


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_no_arrow_points_the_wrong_way(part: str) -> None:
    files = modules(part)
    assert len(files) > 3
    forbidden = {*STAGES, "cli"} - {part, *MAY_IMPORT[part]}
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
