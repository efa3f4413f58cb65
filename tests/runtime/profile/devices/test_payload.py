import ast
import io
import json
import shutil
import sys
import tarfile
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgedf import spec, typed_json
from edgedf.errors import DataError
from edgedf.runtime.profile import events, request
from edgedf.runtime.profile.devices import board
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.payload import REQUEST, make_payload, worker_modules
from edgedf.runtime.profile.request import Request

MODULES = worker_modules()
SCRIPTS = ("receive.py", "clean.py", "keep.py")
# Names and arguments that Python 3.9's standard library does not have.
NEWER = {
    "UnionType", "pairwise", "bit_count", "ParamSpec", "TypeAlias", "TypeGuard", "Self", "NoneType",
    "StrEnum", "ExceptionGroup", "BaseExceptionGroup", "tomllib", "file_digest", "hardlink_to",
    "packages_distributions", "KW_ONLY", "batched", "override", "assert_never", "aclosing",
    "correlation", "chdir", "cbrt", "exp2", "add_note", "orig_argv", "stdlib_module_names",
}  # fmt: skip
NEWER_ARGUMENTS = {
    "zip": {"strict"},
    "dataclass": {"slots", "kw_only", "match_args", "weakref_slot"},
    "field": {"kw_only"},
}


def guarded(tree: ast.AST) -> set[ast.AST]:
    """Nodes that only run on a newer Python, as a comparison of ``sys.version_info`` decides."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        test = getattr(node, "test", None)
        if isinstance(node, (ast.If, ast.IfExp)) and "version_info" in ast.unparse(test):
            found |= set(ast.walk(node))
    return found


@pytest.mark.parametrize("name", [*MODULES, *SCRIPTS])
def test_what_travels_is_python_3_9(name: str) -> None:
    text = board.text(name) if name in SCRIPTS else MODULES[name].read_text("utf-8")
    tree = ast.parse(text, feature_version=(3, 9))
    aside = guarded(tree)
    for node in ast.walk(tree):
        if node in aside:
            continue
        if isinstance(node, (ast.Name, ast.Attribute, ast.alias)):
            used = getattr(node, "id", getattr(node, "attr", getattr(node, "name", "")))
            assert used not in NEWER, f"line {node.lineno}: {used}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            newer = NEWER_ARGUMENTS.get(called, set()) & {word.arg for word in node.keywords}
            assert not newer, f"line {node.lineno}: {called}({newer})"


def test_the_workers_side_travels_and_nothing_else() -> None:
    assert {"edgedf", "edgedf.errors", "edgedf.formats.onnx.backend"} <= set(MODULES)
    assert "edgedf.runtime.profile.cold_start" in MODULES  # started by name
    for name in MODULES:
        assert not name.startswith(
            ("edgedf.cli", "edgedf.distill", "edgedf.quantize", "edgedf.weights", "edgedf.sample")
        )
        assert not name.startswith("edgedf.runtime.profile.devices")


def test_the_probe_runs_on_any_python() -> None:
    tree = ast.parse(board.text("probe.py"))
    newer = (ast.AnnAssign, ast.JoinedStr, ast.NamedExpr, ast.Starred, ast.AsyncFunctionDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, newer)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert functions and not [f for f in functions if f.returns or f.args.kwonlyargs]


def dataclasses_of(module: ModuleType) -> list[Any]:
    return [
        value for value in vars(module).values() if is_dataclass(value) and isinstance(value, type)
    ]


@pytest.mark.parametrize("module", [events, request, spec], ids=lambda module: module.__name__)
def test_types_of_fields_are_the_same_where_unions_cannot_be_evaluated(module: ModuleType) -> None:
    checked = 0
    for kind in dataclasses_of(module):
        hints = typing.get_type_hints(kind)
        names = vars(sys.modules[kind.__module__])
        for field in fields(kind):
            assert typed_json._evaluate(str(field.type), names) == hints[field.name]
            checked += 1
    assert checked > 5


def picture(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(b"picture")
    return path


def test_all_lies_where_the_request_says(tmp_path: Path) -> None:
    model = picture(tmp_path, "mödel (1).tflite")
    images = tuple(picture(tmp_path, name) for name in ("a.jpg", ".hidden", "$(rm).jpg"))
    payload = make_payload(Job((model, model), images, (1, 2)))
    stream, told = io.BytesIO(), []
    payload.write_tar(stream, lambda done, total: told.append((done, total)))
    stream.seek(0)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        archive.extractall(tmp_path / "there", **({"filter": "data"} if _FILTERS else {}))
    there = tmp_path / "there"
    asked = typed_json.decode(Request, json.loads((there / REQUEST).read_text()))
    assert asked.threads == (1, 2) and len(asked.models) == 2 and len(asked.images) == 3
    for name in (*asked.models, *asked.images):
        assert (there / name).read_bytes() == b"picture"
        assert name.isascii() and not set(name) & set(" $()'\"")
    assert (there / "complete").read_bytes() == b""
    assert (there / "package/edgedf/runtime/profile/worker.py").is_file()
    assert told[-1][0] == told[-1][1] < payload.taken
    shutil.rmtree(there)


_FILTERS = hasattr(tarfile, "data_filter")


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.tflite"):
        make_payload(Job((tmp_path / "gone.tflite",), ()))
