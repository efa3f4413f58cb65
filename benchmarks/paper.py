"""The paper's pipeline, to time it: defocus map of a photograph → Xception → score, in float32.

Jeon & Woo, "Seeing Through the Blur" (CIKM 2025). The map comes in two variants: ``guided filter``
as the code released with the paper has it (our ``reference`` profile), and ``matting Laplacian`` as
its text says. Xception has random weights, as no others are to be had; how long it takes does not
depend on them. One forward pass sets its normalisation, so that no activation dies out.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.distill.optics.maps import PhysicalProfile, defocus_map, min_max_normalise
from edgedf.errors import ConfigError
from edgedf.files import write_bytes
from edgedf.formats.onnx.session import open_session
from edgedf.imaging import RGBImage, load_image

SIDE = 299
VARIANTS = ("guided filter", "matting Laplacian")
RUNTIMES = ("onnxruntime", "ai-edge-litert", "torch")

Map = NDArray[np.float32]
Judge = Callable[[Map], float]
"""Normalised map, (SIDE, SIDE) in [0, 1] → score."""

# Every edge, spread over all pixels. The system of equations is the quickest to solve with these
# two; with lambda = 0.001, as Zhuo & Sim have it, it takes several times as long.
_MATTING = PhysicalProfile(
    min_gradient=0.0, border=0, smoothing=0.0, strength=1.0, matting_eps=1e-2, matting_scale=1.0
)


def dense_map(image: RGBImage, variant: str) -> Map:
    """The defocus map of a photograph, (SIDE, SIDE), in pixels."""
    if variant == "guided filter":
        return defocus_map(image, "reference")
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return defocus_map(np.asarray(small, np.uint8), _MATTING)


def through(data: bytes, variant: str, judge: Judge) -> dict[str, float]:
    """Take a picture from its file's bytes to a score: milliseconds of each stage."""
    start = time.perf_counter_ns()
    image = load_image(data)
    decoded = time.perf_counter_ns()
    found = min_max_normalise(dense_map(image, variant))
    mapped = time.perf_counter_ns()
    judge(found)
    judged = time.perf_counter_ns()
    return {
        "decode": (decoded - start) / 1e6,
        "map": (mapped - decoded) / 1e6,
        "inference": (judged - mapped) / 1e6,
    }


def judges(folder: Path, wanted: tuple[str, ...] = RUNTIMES) -> dict[str, Judge]:
    """Xception in each runtime, on one thread; exports are made where the folder lacks them.

    Raises:
        ConfigError: Two runtimes do not agree on the score.
    """
    opened = {
        "onnxruntime": lambda: _onnx(_exported(folder / "xception.onnx", _to_onnx)),
        "ai-edge-litert": lambda: _tflite(_exported(folder / "xception.tflite", _to_tflite)),
        "torch": _torch,
    }
    found = {name: opened[name]() for name in wanted}
    shown = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    scores = {name: judge(shown) for name, judge in found.items()}
    if max(scores.values()) - min(scores.values()) > 1e-3:
        raise ConfigError(
            f"The runtimes do not agree on Xception's score: {scores}.",
            expected="exports of the same network",
            next_step=f"remove the xception files in {folder}; they are exported again",
        )
    return found


def _network() -> Any:
    """(1, 1, SIDE, SIDE) in [0, 1] → sigmoid of Xception's output, (1, 1)."""
    import torch

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from experiments.baselines import Xception

    class Scored(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.xception = Xception()

        def forward(self, dense: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.xception((dense * 2 - 1).expand(-1, 3, -1, -1)))

    torch.manual_seed(0)
    network = Scored()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.rand(2, 1, SIDE, SIDE))
    return network.eval()


def _exported(path: Path, export: Callable[[], bytes]) -> bytes:
    if not path.is_file():
        write_bytes(path, export())
    return path.read_bytes()


def _to_onnx() -> bytes:
    import torch

    from edgedf.formats.onnx.exporter import OPSET as ONNX_OPSET

    program = torch.onnx.export(
        _network(),
        kwargs={"dense": torch.rand(1, 1, SIDE, SIDE)},
        dynamo=True,
        opset_version=ONNX_OPSET,
        input_names=["dense"],
        output_names=["score"],
        verbose=False,
    )
    return bytes(program.model_proto.SerializeToString())


def _to_tflite() -> bytes:
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    import litert_torch
    import torch

    inner = _network()

    class LastChannel(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, dense: torch.Tensor) -> torch.Tensor:
            scored: torch.Tensor = self.inner(dense.permute(0, 3, 1, 2))
            return scored

    sample = {"dense": torch.rand(1, SIDE, SIDE, 1)}
    return bytes(litert_torch.convert(LastChannel().eval(), sample_kwargs=sample).model_content())


def _onnx(model: bytes) -> Judge:
    session = open_session(model)
    return lambda dense: float(session.run(["score"], {"dense": dense[None, None]})[0][0, 0])


def _tflite(model: bytes) -> Judge:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    (score,) = runner.get_output_details()
    return lambda dense: float(runner(dense=dense[None, :, :, None])[score][0, 0])


def _torch() -> Judge:
    import torch

    torch.set_num_threads(1)
    network = _network().to(memory_format=torch.channels_last)

    def judge(dense: Map) -> float:
        shown = torch.from_numpy(dense)[None, None]
        with torch.inference_mode():
            return float(network(shown))

    return judge
