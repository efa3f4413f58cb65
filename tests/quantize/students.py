"""Students that were never trained, whose outputs vary as a trained one's do; and photographs."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgedf.artifact import ModelFormat, read_artifact
from edgedf.formats import format_named
from edgedf.formats.onnx.container import embed as embed_onnx
from edgedf.formats.tflite.container import embed as embed_tflite
from edgedf.imaging import prepare
from edgedf.quantize.calibration.settings import CalibrationImages
from edgedf.quantize.conversion.convert import convert
from edgedf.quantize.sources.describe import describe_converted
from edgedf.quantize.sources.export import Exported, export_checkpoint, run_checkpoint
from edgedf.runtime.models import shipped_model
from edgedf.spec import Calibration
from tests.formats.stages import onnx, tflite

SMALL = 64
FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")

# Colour photographs that scikit-image bundles, larger than 256 on each side.
_SOURCES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "retina.jpg",
    "ihc.png",
    "hubble_deep_field.jpg",
)

METADATA: dict[str, Any] = {
    "name": "edgedf-student",
    "version": "0.0.0",
    "licence": "Apache-2.0; never trained, for tests only",
    "threshold": {"fake_at": 0.6, "real_at": 0.4, "how": "by hand, never calibrated"},
    "training": {"data": "ImageNet encoder, random heads", "data_sha256": "0" * 64, "steps": 0},
    "accuracy": [],
}


def crops(side: int = 256) -> Iterator[NDArray[np.uint8]]:
    """Different photographs, uint8 RGB (side, side, 3), one picture after the other."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    pictures = []
    for name in _SOURCES:
        picture = cv2.imread(str(folder / name), cv2.IMREAD_COLOR_RGB)
        assert picture is not None, name
        pictures.append(np.asarray(picture, np.uint8))
    for index in range(3):
        for picture in pictures:
            height, width = picture.shape[:2]
            top = (height - side) * index // 2
            left = (width - side) * ((index * 2) % 3) // 2
            crop = np.ascontiguousarray(picture[top : top + side, left : left + side])
            if crop.std() > 10:  # no empty sky
                yield crop


def write_student(
    path: Path, images: Sequence[NDArray[np.uint8]], *, size: int, seed: int = 0
) -> Path:
    """Write a checkpoint whose logit and map vary over ``images``.

    Args:
        path: Where to.
        images: uint8 RGB (size, size, 3) each, to scale the two outputs by.
        size: Side of the input.
        seed: Of the random heads.
    """
    import torch

    from edgedf.distill.networks.backbones import load_imagenet_weights
    from edgedf.distill.networks.checkpoints import save_checkpoint
    from edgedf.distill.networks.probe import fit_probe
    from edgedf.distill.networks.student import Student
    from edgedf.distill.settings import StudentConfig
    from edgedf.distill.training.verdict import set_thresholds
    from edgedf.progress import silent

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(StudentConfig(input_size=size)).eval()
    load_imagenet_weights(student.encoder)
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    set_thresholds(student, np.stack(images), silent)
    seen: list[torch.Tensor] = []
    hook = student.blur.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    decoder = student.decoder
    with torch.no_grad():
        for layer in (decoder.reduce16, decoder.reduce8, decoder.reduce4):
            layer.weight.mul_(0.05)  # else half of what they give is cut off at 0 or 6
        student(batch)
        # Along its principal direction a layer's input says most and rounding says least.
        patches = torch.nn.functional.unfold(seen[0], 3, padding=1)
        rows = patches.transpose(1, 2).flatten(0, 1)
        direction, found = _direction(rows)
        weight = 1.2 / found.std() * direction
        student.blur.weight.copy_(weight.reshape(student.blur.weight.shape))
        student.blur.bias.copy_(2.0 - rows.mean(dim=0) @ weight)
        statistics = student.statistics(batch)
    hook.remove()
    # Evenly spread, so that no photograph is far from those that happen to calibrate.
    order = _direction(statistics)[1].argsort().argsort().numpy()
    wanted = np.linspace(-4.0, 4.0, len(images))[order]
    probe = fit_probe(statistics.numpy(), wanted, np.ones(len(images)), penalty=0.1)
    with torch.no_grad():
        student.centre.copy_(torch.from_numpy(probe.centre))
        student.deviation.copy_(torch.from_numpy(probe.deviation))
        student.fake.weight.copy_(torch.from_numpy(probe.weight)[None])
        student.fake.bias.fill_(probe.bias)
    return save_checkpoint(path, student, METADATA)


def _direction(rows: Any) -> tuple[Any, Any]:
    """The direction in which rows vary most, and where along it they are."""
    import torch

    centred = rows - rows.mean(dim=0)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    direction = direction * direction.sum().sign()
    return direction, centred @ direction


@cache
def scratch() -> Path:
    """A folder that is removed when Python ends."""
    folder = Path(tempfile.mkdtemp(prefix="edgedf-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def photographs(samples: int = 12, **options: Any) -> CalibrationImages:
    """The folder of photographs, to calibrate with."""
    return CalibrationImages(photograph_folder(), samples=samples, **options)


@cache
def shared() -> Path:
    """A folder that all processes of one run of the tests have; of nobody else's without one.

    ``tests/conftest.py`` makes and removes it.
    """
    return Path(os.environ.get("EDGEDF_TESTS_SHARED") or scratch())


@contextlib.contextmanager
def once(path: Path) -> Iterator[bool]:
    """Whether a shared file has yet to be made; meanwhile the other processes wait."""
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not path.exists()


@cache
def photograph_folder() -> Path:
    """A folder with over 20 photographs, half of them below ``real``, half below ``fake``."""
    folder = scratch() / "photographs"
    for index, picture in enumerate(crops(128)):
        path = folder / ("fake", "real")[index % 2] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture[..., ::-1])
    return folder


def write_manifest(folder: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    """A manifest of the photographs, copied into a folder, with splits in turns."""
    lines = ["file,set,label,group,split,source"]
    for label in ("real", "fake"):
        for number, path in enumerate(sorted((photograph_folder() / label).iterdir())):
            target = folder / label / path.name
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
            split = splits[number % len(splits)]
            lines.append(f"{label}/{path.name},photographs,{label},{path.stem},{split},here")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder / "manifest.csv"


@cache
def small_images() -> tuple[NDArray[np.uint8], ...]:
    """The photographs as inputs of the small student."""
    return tuple(prepare(picture, SMALL) for picture in crops(128))


@cache
def small_checkpoint() -> Path:
    """Checkpoint of a student with an input of 64 x 64; do not change the file."""
    path = shared() / "small.safetensors"
    with once(path) as is_missing:
        if is_missing:
            write_student(path, small_images(), size=SMALL)
    return path


@cache
def small_exports() -> Exported:
    """The small student through torch: float TFLite and ONNX, and torch itself."""
    paths = {model_format: small_model(model_format) for model_format in FORMATS}
    models = {model_format: path.read_bytes() for model_format, path in paths.items()}
    specs = {model_format: read_artifact(path).spec for model_format, path in paths.items()}
    return Exported(models, specs, run_checkpoint(small_checkpoint())[1])


@cache
def small_model(model_format: ModelFormat) -> Path:
    """A float export of the small student as a file; do not change it."""
    path = shared() / f"small.{model_format}"
    with once(path) as is_missing:
        if is_missing:
            path.write_bytes(
                export_checkpoint(small_checkpoint(), [model_format]).models[model_format]
            )
    return path


# Importing one of these raises.
_WITHOUT_TORCH = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "litert_torch", "litert_converter", "torchao",
                                      "onnxscript", "jax", "tensorflow", "safetensors"):
            raise ImportError(name + " must not be needed here")

sys.meta_path.insert(0, Forbidden())
from edgedf.cli import main
sys.exit(main(sys.argv[1:]))
"""


def convert_without_torch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``edgedf convert`` in a process that cannot import torch, on a screen of 80 columns."""
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, "convert", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@cache
def shipped_conversion() -> tuple[int, str, str, Path]:
    """``edgedf convert`` as a newcomer runs it: exit code, what it says, and what it wrote.

    Do not change the files.
    """
    folder = shared() / "shipped"
    with once(folder) as is_missing:
        if is_missing:
            folder.mkdir()
            done = convert_without_torch(folder)
            said = [done.returncode, done.stdout, done.stderr]
            (folder / "said.json").write_text(json.dumps(said))
    code, out, err = json.loads((folder / "said.json").read_text())
    return code, out, err, folder / "build"


@cache
def shipped_int8(model_format: ModelFormat) -> Path:
    """What ``edgedf convert`` makes of the shipped student; do not change the file."""
    return shipped_conversion()[3] / f"student_int8.{model_format}"


def ship_the_small_one(patch: pytest.MonkeyPatch) -> None:
    """Let edgedf carry the small student: where it matters what is done, and not how well."""
    folder = shared() / "carried"
    with once(folder) as is_missing:
        if is_missing:
            folder.mkdir()
            shutil.copy(small_checkpoint(), folder / "student.safetensors")
            for model_format in FORMATS:
                shutil.copy(small_model(model_format), folder / f"student.{model_format}")
    patch.setattr("edgedf.runtime.models.resources", SimpleNamespace(files=lambda _: folder))
    export_the_small_one_no_more(patch)


def export_the_small_one_no_more(patch: pytest.MonkeyPatch) -> None:
    """Let the export of a checkpoint give what is there already of the small student."""

    def exported(_: Path, formats: Sequence[ModelFormat], **__: object) -> Exported:
        made = small_exports()
        models, specs = (
            {name: each[name] for name in formats} for each in (made.models, made.specs)
        )
        return replace(made, models=models, specs=specs)

    patch.setattr("edgedf.quantize.sources.export.export_checkpoint", exported)


@cache
def small_int8_file(model_format: ModelFormat) -> Path:
    """What ``edgedf convert`` makes of the small student; do not change the file."""
    path = shared() / f"small_int8.{model_format}"
    with once(path) as is_missing:
        if is_missing:
            source, calibration = small_model(model_format), photographs()
            convert(source, calibration=calibration, out=shared(), keep_failing=True)
    return path


@cache
def dark_int8() -> Path:
    """The shipped student as int8 with ranges from almost black pictures: it is broken."""
    good = read_artifact(shipped_int8("tflite"))
    dark = [prepare(picture // 40, 256) for picture in crops()][:8]
    model = tflite.to_int8(shipped_model("tflite").read_bytes(), dark)
    path = scratch() / "dark_int8.tflite"
    path.write_bytes(embed_tflite(model, good.spec))
    return path


@cache
def small_int8(model_format: ModelFormat) -> bytes:
    """The small student in int8, calibrated on the photographs, without a spec."""
    stage: Any = tflite if model_format == "tflite" else onnx
    return bytes(stage.to_int8(small_exports().models[model_format], small_images()))


@cache
def hostile(model_format: ModelFormat) -> tuple[Path, Path]:
    """The small student with one layer that int8 ruins: the int8 file, and its float parent.

    The first block's projection has a channel a hundred times as large as the others, and the
    next layer has no weight for it. In float nothing notices; in int8 that channel's range leaves
    two or three steps to the others. See :data:`HOSTILE`.
    """
    import onnx as onnx_package

    exports = small_exports()
    proto = onnx_package.load_model_from_string(exports.models["onnx"])
    edits = []
    for tensor in proto.graph.initializer:
        before = onnx_package.numpy_helper.to_array(tensor)
        after = before.copy()
        if tensor.name.endswith(("stages.0.0.project.weight", "stages.0.0.project.bias")):
            after[3] *= 100
        elif tensor.name.endswith("stages.1.0.expand.weight"):
            after[:, 3] = 0
        else:
            continue
        tensor.CopyFrom(onnx_package.numpy_helper.from_array(after, tensor.name))
        edits.append((before, after))
    stage: Any = tflite if model_format == "tflite" else onnx
    if model_format == "tflite":
        model = exports.models["tflite"]
        for before, after in edits:
            old, new = (_as_tflite(values) for values in (before, after))
            assert model.count(old) == 1
            model = model.replace(old, new)
    else:
        model = proto.SerializeToString()
    spec = exports.specs[model_format]
    embed = embed_tflite if model_format == "tflite" else embed_onnx
    small = stage.to_int8(model, small_images())
    as_int8 = describe_converted(
        spec,
        format_named(model_format),
        "int8",
        quantization=stage.output_quantization(small),
        calibration=Calibration("minmax", len(small_images()), "0" * 64, 0),
    )
    paths = []
    for name, file, described in (("int8", small, as_int8), ("fp32", model, spec)):
        paths.append(scratch() / f"hostile_{name}.{model_format}")
        paths[-1].write_bytes(embed(file, described))
    return paths[0], paths[1]


HOSTILE = {"tflite": "Conv_project", "onnx": "stages.0.0.project"}
"""A part of the name of the layer that :func:`hostile` spoils."""


def _as_tflite(weights: NDArray[np.float32]) -> bytes:
    """The bytes of a convolution's weights, or of a bias, in the order of TFLite."""
    return (weights.transpose(0, 2, 3, 1) if weights.ndim == 4 else weights).tobytes()
