"""Each file of a conversion is parsed once."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
from ai_edge_litert.tools import flatbuffer_utils

import edgedf
from edgedf.quantize.recipe import Recipe
from tests.quantize.students import ship_the_small_one


@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe("fp16"), Recipe("int8", "float32", equalize=True)]
)
def test_a_conversion_parses_each_file_once(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship_the_small_one(monkeypatch)
    parsed: Counter[str] = Counter()

    def counting(module: Any, name: str) -> None:
        original = getattr(module, name)

        def reading(model: Any, *rest: Any, **named: Any) -> Any:
            caller = str(sys._getframe(1).f_globals["__name__"])
            if caller.startswith("edgedf."):  # what the quantizers do inside is theirs
                data = Path(model).read_bytes() if isinstance(model, str) else bytes(model)
                parsed[f"{name} {hashlib.sha256(data).hexdigest()[:8]}"] += 1
            return original(model, *rest, **named)

        monkeypatch.setattr(module, name, reading)

    counting(flatbuffer_utils, "read_model_from_bytearray")
    counting(onnx, "load_model_from_string")
    counting(onnx, "load")
    report = edgedf.convert(
        recipe=recipe,
        calibration=edgedf.CalibrationImages(samples=8),
        out=tmp_path,
        keep_failing=True,
    )
    assert len(report.models) == 2
    assert parsed and set(parsed.values()) == {1}, parsed
