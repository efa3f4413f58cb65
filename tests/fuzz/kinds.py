"""Everything that edgedf reads and somebody else may have written, with good examples of it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np

import edgedf.sample
from edgedf.errors import DeviceError
from edgedf.formats.onnx.container import embed as embed_onnx
from edgedf.formats.tflite.container import embed as embed_tflite
from tests.contract.specs import make_spec
from tests.fuzz import mutations
from tests.fuzz.mutations import Mutation, damage, damage_json, damage_tree
from tests.fuzz.sandbox import LIMIT_SECONDS, Outcome, run_case
from tests.runtime.tiny import SIZE, bare_onnx, bare_tflite, tiny_spec, write_tiny

__all__ = ["KINDS", "Kind", "case", "cool", "outcome"]

Seeds = Callable[[], Sequence[bytes]]


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Args:
        file: Name of the file that a case is written to.
        seeds: Good inputs; called once, before any case.
        take: Reads it as the verbs do, in an empty folder that holds nothing else.
        damage: Makes a bad input of a good one.
        argv: Command line that reads it, such that it ends soon; None where none does.
        warm: Imports and starts what a case needs, once for all; :func:`cool` ends it.
        seconds: What a case may take. Measuring on a device takes some by itself.
    """

    file: str
    seeds: Seeds
    take: Callable[[Path], object]
    damage: Mutation = damage
    argv: Callable[[Path], list[str]] | None = None
    warm: Callable[[], object] = lambda: None
    seconds: float = LIMIT_SECONDS


_started = contextlib.ExitStack()


def cool() -> None:
    """End what kinds have started when they were warmed."""
    _started.close()


def outcome(name: str, number: int, seed: int, *, through_cli: bool = False) -> Outcome:
    """Try one case in a process of its own.

    Args:
        name: Of the kind; it has to be warm.
        number: Of the case.
        seed: Of all cases.
        through_cli: Whether the command line reads it, where the kind has one that does.
    """
    kind, data = KINDS[name], case(name, number, seed)

    def act(folder: Path) -> str:
        path = folder / kind.file
        path.write_bytes(data)
        if through_cli and kind.argv is not None:
            return _through_main(kind.argv(path), folder)
        kind.take(path)
        return ""

    return run_case(act, seconds=kind.seconds)


def _through_main(argv: list[str], folder: Path) -> str:
    from edgedf.cli import main

    code = main(argv)
    sys.stdout.flush()
    said = (folder.parent / "native").read_text("utf-8", "replace")
    if code not in (0, 1, 2, 64) or "Traceback" in said or (code in (2, 64) and not said.strip()):
        raise AssertionError(f"exit code {code} of {argv}:\n{said}")
    return f"exit code {code}"


def case(name: str, number: int, seed: int) -> bytes:
    """The bytes of a case, the same whenever it is asked for."""
    kind = KINDS[name]
    random = Random(f"{seed} {name} {number}")
    seeds = _seeds(name)
    return kind.damage(random, random.choice(seeds), seeds)


@functools.cache
def _seeds(name: str) -> Sequence[bytes]:
    return tuple(KINDS[name].seeds())


# Pictures


def _photograph(side: int = 96) -> np.ndarray:
    path = edgedf.sample.images()[1].path
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return cv2.resize(image, (side + 20, side), interpolation=cv2.INTER_AREA)


def _encoded(suffix: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, image, list(options))[1].tobytes()


def _exif(orientation: int) -> bytes:
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation]) + b"\0" * 7
    return b"Exif\0\0" + tiff


def _jpegs() -> list[bytes]:
    image = _photograph()
    plain = _encoded(".jpg", image)
    exif = _exif(6)
    turned = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    small = min(edgedf.sample.images(), key=lambda picture: picture.path.stat().st_size)
    return [
        *(plain, turned, _encoded(".jpg", image[:, :, 0]), small.path.read_bytes()),
        _encoded(".jpg", image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        _encoded(".jpg", image, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
    ]


def _pngs() -> list[bytes]:
    import io

    from PIL import Image

    image = _photograph(64)
    alpha = np.dstack([image, image[:, :, 0]])
    deep = image.astype(np.uint16) * 257
    found = [image, image[:, :, 0], alpha, deep, np.dstack([deep, deep[:, :, 0]])]
    made = [_encoded(".png", pixels) for pixels in found]
    for picture, options in (
        (Image.fromarray(image).quantize(16), {"transparency": 3}),
        (Image.fromarray(image[:, :, 0]), {"transparency": 3}),
        (Image.fromarray(image).convert("1"), {}),
    ):
        stream = io.BytesIO()
        picture.save(stream, "PNG", **options)
        made.append(stream.getvalue())
    return made


def _webps() -> list[bytes]:
    import io

    from PIL import Image

    image = _photograph(64)
    made = [_encoded(".webp", image, cv2.IMWRITE_WEBP_QUALITY, quality) for quality in (50, 101)]
    for pixels in (image, np.dstack([image, image[:, :, 0]])):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "WEBP", exif=_exif(3))
        made.append(stream.getvalue())
    return made


def _take_picture(path: Path) -> None:
    from edgedf.imaging import preprocess

    preprocess(path, 256)


def _detect(path: Path) -> list[str]:
    write_tiny(path.parent, "tflite")
    return ["detect", str(path), "--model", str(path.parent / "tiny.tflite"), "--json"]


# Models


def _sealed(text: bytes, model_format: str) -> bytes:
    """A tiny model with this for a spec, and a seal that fits it."""

    class Text:
        def to_json(self) -> str:
            return text.decode("utf-8", "surrogateescape")

    spec: Any = Text()
    if model_format == "tflite":
        return embed_tflite(bare_tflite(), spec)
    return embed_onnx(bare_onnx(), spec)


def _damage_spec(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The spec inside a whole model."""
    text = damage_json(random, data, others)
    try:
        return _sealed(text, random.choice(("tflite", "onnx")))
    except (UnicodeError, ValueError):  # a file holds any bytes, but not through these
        return damage(random, _sealed(data, "tflite"), others)


def _specs() -> list[bytes]:
    int8 = make_spec(SIZE).to_json().encode()
    return [tiny_spec().to_json().encode(), tiny_spec(tools={}).to_json().encode(), int8]


def _models(model_format: str) -> list[bytes]:
    from edgedf.runtime.models import shipped_model

    tiny = (embed_tflite if model_format == "tflite" else embed_onnx)(
        bare_tflite() if model_format == "tflite" else bare_onnx(), tiny_spec()
    )
    shipped = shipped_model("tflite" if model_format == "tflite" else "onnx").read_bytes()
    return [tiny, tiny, tiny, shipped]


def _take_model(path: Path) -> None:
    from edgedf import Detector

    with Detector(path, threads=1) as detector:
        detector.detect(np.full((64, 64, 3), 90, np.uint8))


def _info(path: Path) -> list[str]:
    return ["info", str(path), "--json"]


def _runtimes() -> None:
    import onnxruntime  # noqa: F401

    import edgedf.cli.detect
    import edgedf.cli.info
    import edgedf.runtime.detector  # noqa: F401


def _own_models() -> list[bytes]:
    from onnx import TensorProto

    from tests.quantize.own_models import own_model

    return [
        own_model().SerializeToString(),
        own_model(head="softmax", dense="NHWC", layout="NHWC").SerializeToString(),
        own_model(kind=TensorProto.UINT8, head="sigmoid", opset=13).SerializeToString(),
    ]


def _take_own(path: Path) -> None:
    from edgedf.quantize.sources.description import Description
    from edgedf.quantize.sources.own_onnx import adopt
    from tests.quantize.own_models import MEAN, STD

    adopt(path, Description(mean=MEAN, std=STD))


def _convert_own(path: Path) -> list[str]:
    described = path.with_name("model.toml")
    described.write_text("mean = [123.7, 116.3, 103.5]\nstd = [58.4, 57.1, 57.4]\n", "utf-8")
    return ["convert", str(path), "--describe", str(described), "--lint"]


def _lint(path: Path) -> list[str]:
    return ["convert", str(path), "--lint", "--json"]


def _take_lint(path: Path) -> None:
    from edgedf.quantize.lint.report import lint_source

    lint_source(path)


def _conversion() -> None:
    _runtimes()
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils  # noqa: F401

    import edgedf.cli.convert
    import edgedf.quantize.conversion.convert  # noqa: F401


# Weights


def _in_folder(make: Callable[[Path], object]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "made"
        make(path)
        return path.read_bytes()


def _students() -> list[bytes]:
    import torch

    from edgedf.distill.networks.checkpoints import save_checkpoint
    from edgedf.distill.networks.student import Student
    from edgedf.distill.settings import StudentConfig

    torch.set_num_threads(1)
    config = StudentConfig(input_size=32, blocks=11, judged_blocks=1, decoder_channels=8)
    student = Student(config)
    return [_in_folder(lambda path: save_checkpoint(path, student, {"name": "tiny"}))]


def _take_student(path: Path) -> None:
    from edgedf.distill.networks.checkpoints import load_checkpoint

    load_checkpoint(path)


def _teachers() -> list[bytes]:
    import torch

    from edgedf.distill.networks.checkpoints import save_teacher
    from edgedf.distill.networks.teacher import Teacher
    from edgedf.distill.settings import TeacherConfig

    torch.set_num_threads(1)
    config = TeacherConfig(modalities=("frequency",), first_block=8, last_block=8, map_channels=0)
    teacher = Teacher(config).eval()
    return [_in_folder(lambda path: save_teacher(path, teacher, {"name": "tiny"}))]


def _take_teacher(path: Path) -> None:
    from edgedf.distill.networks.checkpoints import load_teacher

    load_teacher(path)


def _states() -> list[bytes]:
    import torch

    from edgedf.distill.training.loop import STATE
    from tests.distill import toy

    torch.set_num_threads(1)

    def make(path: Path) -> None:
        toy.train(path.parent)
        (path.parent / STATE).rename(path)

    return [_in_folder(make)]


def _take_state(path: Path) -> None:
    from tests.distill import toy

    toy.train(path.parent)


def _statistics_shards() -> list[bytes]:
    def make(path: Path) -> None:
        _statistics(path.parent)
        next(path.parent.glob("statistics-*")).rename(path)

    return [_in_folder(make)]


def _statistics(folder: Path) -> np.ndarray:
    from edgedf.distill.records.plan import Job
    from edgedf.distill.records.statistics import cached_statistics
    from edgedf.distill.records.targets import Records
    from edgedf.manifest import Sample

    images, maps = np.zeros((3, 32, 32, 3), np.uint8), np.zeros((3, 8, 8), np.float16)
    job = Job(Sample(Path("a"), "a", "real", "a", "train", "a"), "whole")
    records = Records((job,) * 3, images, maps, np.zeros(3, np.float32))
    return cached_statistics(
        records, lambda image, blur: image.mean((2, 3)) + blur.mean() + 1, "fuzz", folder
    )


def _take_statistics(path: Path) -> None:
    """Whatever is in the cache, the figures have to be right."""
    data = path.read_bytes()
    wanted = _statistics(path.parent)
    (shard,) = path.parent.glob("statistics-*")
    shard.write_bytes(data)
    if not np.array_equal(_statistics(path.parent), wanted):
        raise ValueError("a damaged shard was taken for good")


def _torch() -> None:
    import tests.distill.toy  # noqa: F401


# Tables and settings


_PICTURES = ("a/one.png", "a/two.png", "b/three.png", "mask.png")


def _manifests() -> list[bytes]:
    rows = [
        "file,set,label,group,split,source,mask",
        "a/one.png,faces,real,1,train,camera,",
        "a/two.png,faces,fake,2,val,generator,mask.png",
        'b/three.png,"scenes, more",fake,3,test,generator,',
    ]
    plain = "\n".join(rows[:1] + rows[1:]) + "\n"
    return [plain.encode(), plain.replace(",mask", "").replace("mask.png", "").encode()]


def _take_manifest(path: Path) -> None:
    from edgedf.distill.datasets import open_dataset
    from edgedf.manifest import read_samples

    for name in _PICTURES:
        (path.parent / name).parent.mkdir(exist_ok=True)
        (path.parent / name).touch()
    read_samples(path)
    open_dataset(path.parent)


def _evaluate(path: Path) -> list[str]:
    write_tiny(path.parent, "tflite")
    return ["evaluate", str(path.parent), "--model", str(path.parent / "tiny.tflite")]


def _tomls() -> list[bytes]:
    from edgedf.distill.settings import TrainSettings
    from edgedf.quantize.accuracy.limits import Limits
    from edgedf.quantize.sources.description import Description
    from edgedf.settings import dump_settings

    described = Description(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), size=64)
    return [dump_settings(s).encode() for s in (Limits(), described, TrainSettings())]


def _damage_toml(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    import tomli_w
    import tomllib

    if random.random() < 0.5:
        return damage(random, data, others)
    try:
        tree = damage_tree(random, tomllib.loads(data.decode()))
        return tomli_w.dumps(tree).encode()
    except (TypeError, ValueError, AttributeError, RecursionError):  # TOML has no word for it
        return damage(random, data, others)


def _take_toml(path: Path) -> None:
    from edgedf.distill.settings import QatSettings, TeachSettings, TrainSettings
    from edgedf.errors import ConfigError
    from edgedf.quantize.accuracy.limits import Limits
    from edgedf.quantize.sources.description import Description
    from edgedf.settings import load_settings
    from experiments.recipes import AblationSettings

    kinds: Any = (Limits, Description, TrainSettings, TeachSettings, QatSettings, AblationSettings)
    refused = []
    for kind in kinds:
        try:
            load_settings(kind, path)
        except ConfigError as error:
            refused.append(error)
    if len(refused) == len(kinds):
        raise refused[0]


def _with_limits(path: Path) -> list[str]:
    write_tiny(path.parent, "tflite")
    model = str(path.parent / "tiny.tflite")
    return ["verify", model, "--against", model, "--data", "nowhere", "--limits", str(path)]


def _settings() -> None:
    import edgedf.distill.qat.qat
    import edgedf.distill.training.teach
    import edgedf.distill.training.train
    import edgedf.quantize.accuracy.verify  # noqa: F401


# Profiles


def _profiles() -> list[bytes]:
    from edgedf.runtime.profile.document import to_json
    from tests.runtime.profile.documents import minutes, profile, result, run, states

    several = run(result(), result(1, p50=4.0, sustained=minutes()), states=states())
    return [to_json(profile()).encode(), to_json(profile(several)).encode()]


def _take_profile(path: Path) -> None:
    from edgedf.cli._profile import show
    from edgedf.runtime.profile.against import compare
    from edgedf.runtime.profile.document import from_json
    from edgedf.runtime.profile.report.html_report import render
    from edgedf.runtime.profile.report.markdown import markdown

    good = path.with_name("good.json")
    good.write_bytes(_seeds("profile")[0])
    found, before = from_json(good), from_json(path)
    comparison = compare(found, before)
    show(found, comparison)
    markdown(found, comparison)
    render(found, comparison)


def _profile_modules() -> None:
    import edgedf.cli.profile
    import edgedf.runtime.profile.against
    import edgedf.runtime.profile.report.html_report
    import edgedf.runtime.profile.report.markdown
    import edgedf.runtime.profile.session  # noqa: F401


def _against(path: Path) -> list[str]:
    write_tiny(path.parent, "tflite")
    model = str(path.parent / "tiny.tflite")
    return ["profile", model, "--against", str(path), "--images", "nowhere", "--device", "host"]


def _transcripts() -> list[bytes]:
    from edgedf.runtime.profile.events import to_line
    from tests.runtime.profile.made import run_events

    lines = [to_line(event) for event in run_events([[2.0] * 12, [4.0] * 12])]
    return ["\n".join([*lines, ""]).encode()]


def _damage_lines(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Lines of JSON: one of them, or their order, or their bytes."""
    if random.random() < 0.2:
        return damage(random, data, others)
    lines = data.splitlines()
    for _ in range(random.choice((1, 1, 3))):
        at = random.randrange(len(lines))
        if random.random() < 0.7:
            lines[at] = damage_json(random, lines[at], lines)
        else:
            lines.insert(at, lines.pop(random.randrange(len(lines))))
    return b"\n".join([*lines, b""])


def _take_transcript(path: Path) -> None:
    """What a worker's pipe says, followed to its end and made a document of."""
    from edgedf.runtime.profile.assemble import assemble
    from edgedf.runtime.profile.devices.stream import end, follow
    from edgedf.runtime.profile.document import Profile, to_json
    from edgedf.runtime.profile.events import Event, Progressed
    from edgedf.runtime.profile.report.html_report import render
    from edgedf.runtime.profile.report.markdown import markdown
    from edgedf.runtime.profile.request import FULL
    from tests.runtime.profile.made import MODELS, job

    events: list[Event] = []
    pipe = subprocess.PIPE
    process = subprocess.Popen(["cat", path], stdin=pipe, stdout=pipe, stderr=pipe)

    def keep(event: Event) -> None:
        if not isinstance(event, Progressed):
            events.append(event)

    try:
        follow(process, keep)
    finally:
        end(process)
        run = assemble(job(), events, "host")
        made = Profile("now", "0", FULL, False, 1, "sample", MODELS, (run,))
        to_json(made)
        markdown(made, None)
        render(made, None)


def _board_answers() -> list[bytes]:
    return [
        json.dumps(
            {
                "version": [3, 11, 2],
                "implementation": "CPython",
                "system": "Linux",
                "folder": "/home/pi",
                "modules": {"numpy": "1.26"},
                "architecture": "aarch64",
                "libc": "glibc",
                "libc_version": "2.36",
                "abiflags": "",
                "free": 10**9,
            }
        ).encode()
    ]


def _take_answer(path: Path) -> None:
    from edgedf.runtime.profile.devices import board_answers

    answer = board_answers.parsed(path.read_bytes().decode("utf-8", "replace"))
    board = board_answers.board_of("a board", "python3", 0, answer, "")
    board_answers.check_room("a board", board, 1000)


def _native_outputs() -> list[bytes]:
    from tests.runtime.profile.devices.test_adb import SAID

    table = (
        "INFO: Operator-wise Profiling Info for Regular Benchmark Runs:\n"
        "============================== Run Order ==============================\n"
        "\t[node type]\t[first]\t[avg ms]\t[%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]\n"
        "\tTfLiteXNNPackDelegate\t2.1\t2.1\t100.0%\t100.0%\t0.000\t1\t[logit]:2\n\n"
        "============================== Top by Computation Time ==================\n"
    )
    names = [
        "avg_ms",
        "min_ms",
        "max_ms",
        "std_ms",
        "median_ms",
        "p95_ms",
        "init_ms",
        "warmup_first_ms",
    ]
    result = {"latency": {"num_runs": 50, **{f"{name}_ms": 3.0 for name in names}}}
    return [(SAID + table).encode(), json.dumps(result).encode()]


def _take_native(path: Path) -> None:
    from edgedf.errors import DeviceError
    from edgedf.runtime.profile.devices import native_runner
    from edgedf.runtime.profile.devices.native_operators import operators_in, parse_operators

    text = path.read_bytes().decode("utf-8", "replace")
    refused: list[DeviceError] = []
    for read in (
        lambda: native_runner.kind_of(text),
        lambda: native_runner.parse_summary(
            "benchmark_model", text, "", configuration=0, source="benchmark_model"
        ),
        lambda: native_runner.parse_summary(
            "litert-benchmark", "", text, configuration=0, source="litert-benchmark"
        ),
        lambda: parse_operators(
            text, configuration=0, source="it", inference_ms=2.0, plain_ms=2.0, in_file=9
        ),
    ):
        try:
            read()
        except DeviceError as error:
            refused.append(error)
    operators_in(path.read_bytes())
    if len(refused) == 4:
        raise refused[0]


def _android_facts() -> list[bytes]:
    parts = {
        "props": "[ro.product.model]: [Loopback]\n[ro.product.cpu.abilist]: [arm64-v8a]",
        "uname": "aarch64\n6.1.0",
        "cpuinfo": "processor : 0\nHardware : LB1000",
        "memory": "MemTotal: 8000000 kB",
        "cpus": "0 1200000 1800000\n1 1800000 2400000",
        "thermal": "Thermal Status: 1\nTemperature{mValue=31.5, mType=0, mName=CPU, mStatus=0}",
        "zones": "31500 cpu-0\n40000 battery",
        "battery": "temperature: 285",
        "load": "cpu 1 2 3 4 5 6 7 8\n100.0 50.0",
    }
    return ["".join(f"@@{name}\n{text}\n" for name, text in parts.items()).encode()]


def _take_android(path: Path) -> None:
    from edgedf.runtime.profile.devices import android

    text = path.read_bytes().decode("utf-8", "replace")
    said = android.sections(text)
    android.abis(said)
    android.machine(said)
    android.state(said, 1.0, throttled=-1)
    android.other_load(said.get("load", ""), "cpu 9 9 9 9 9 9 9 9\n120.0 50.0\n0m1.0s 0m0.1s\n")


def _programs() -> list[bytes]:
    with Path(sys.executable).open("rb") as stream:
        return [stream.read(4096), b"#!/bin/sh\nexit 0\n"]


def _take_program(path: Path) -> None:
    from edgedf.runtime.profile.devices.elf import check_runner

    check_runner(path, ["arm64-v8a", "x86_64"])


# Devices that lie: what a case holds is the random numbers of its lies


def _lies(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return random.randbytes(8)


def _liar(path: Path) -> Callable[[bytes], bytes]:
    """Tells the truth more often than not, or nobody would listen for long."""
    random = Random(path.read_bytes())
    honest = random.choice((0.5, 0.8, 0.95))

    def lie(said: bytes) -> bytes:
        if random.random() < honest:
            return said
        return (_damage_lines if random.random() < 0.5 else damage)(random, said, [said])

    return lie


def _measure(device: Any, folder: Path, effort: Any) -> None:
    from edgedf.runtime.profile.devices.base import Job
    from edgedf.runtime.profile.report.html_report import render
    from edgedf.runtime.profile.session import profile

    smallest = min(edgedf.sample.images(), key=lambda picture: picture.path.stat().st_size)
    job = Job((write_tiny(folder, "tflite"),), (smallest.path,), (1,), effort)
    made, _ = profile(job, [device], images_from="sample", folder=folder)
    render(made, None)
    for run in made.devices:
        if run.problem is not None:
            raise DeviceError(run.problem.message)


def _short_effort() -> Any:
    from edgedf.runtime.profile.request import Effort

    return Effort(8, 0.05, 0.05, cold_starts=0, pipeline_queries=0, operator_queries=0)


def _take_phone(path: Path) -> None:
    from edgedf.runtime.profile.devices.adb import AdbDevice
    from tests.runtime.profile.devices.phone import Phone
    from tests.runtime.profile.devices.test_adb import HELP, SAID

    phone = Phone(path.parent / "phone")
    phone.trouble.lie = _liar(path)
    subprocess.run(["adb", "connect", phone.serial], check=True, capture_output=True)
    runner = path.with_name("benchmark_model")
    runner.write_text(f"#!/bin/sh\n{HELP}cat <<'END'\n{SAID}END\n")
    native = path.read_bytes()[0] % 4 > 0
    wheels = path.with_name("wheels")
    wheels.mkdir()  # empty: whatever it claims to lack is not looked for on the internet
    tools: Any = {"runner": runner} if native else {"python": sys.executable, "wheels": wheels}
    _measure(AdbDevice(phone.serial, **tools), path.parent, _short_effort())


def _adb() -> None:
    import shutil
    import tempfile

    from tests.runtime.profile.devices.conftest import adb_server

    _profile_modules()
    home = _started.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-adb-"))
    if shutil.which("adb") is not None:
        os.environ.update(_started.enter_context(adb_server(Path(home))))


_PYTHON = """\
#!{python}
import os, subprocess, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.fuzz.kinds import _liar
lie = _liar(Path({path!r}))
process = subprocess.Popen([{python!r}, *sys.argv[1:]], stdout=subprocess.PIPE)
while said := os.read(process.stdout.fileno(), 16384):
    os.write(1, lie(said))
sys.exit(process.wait() % 256)
"""


def _take_board(path: Path) -> None:
    """A real SSH server, and a Python there that lies."""
    python = path.with_name("python3")
    root = str(Path(__file__).resolve().parents[2])
    python.write_text(_PYTHON.format(python=sys.executable, root=root, path=str(path)))
    python.chmod(0o755)
    wheels = path.with_name("wheels")
    wheels.mkdir()  # empty: whatever it claims to lack is not looked for on the internet
    _measure(_boards[0].device(python=str(python), wheels=wheels), path.parent, _short_effort())


_boards: list[Any] = []


def _sshd() -> None:
    import tempfile

    from tests.runtime.profile.devices.sshd import running_board

    _profile_modules()
    place = _started.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-ssh-"))
    _boards.append(_started.enter_context(running_board(Path(place))))


KINDS: Mapping[str, Kind] = {
    "jpeg": Kind("photo.jpg", _jpegs, _take_picture, mutations.damage_jpeg, _detect, _runtimes),
    "png": Kind("photo.png", _pngs, _take_picture, mutations.damage_png, _detect, _runtimes),
    "webp": Kind("photo.webp", _webps, _take_picture, damage, _detect, _runtimes),
    "tflite": Kind("m.tflite", lambda: _models("tflite"), _take_model, damage, _info, _runtimes),
    "onnx": Kind("m.onnx", lambda: _models("onnx"), _take_model, damage, _info, _runtimes),
    "spec": Kind("m.tflite", _specs, _take_model, _damage_spec, _info, _runtimes),
    "own onnx": Kind("own.onnx", _own_models, _take_own, damage, _convert_own, _conversion),
    "bare tflite": Kind(
        "b.tflite", lambda: [bare_tflite()], _take_lint, damage, _lint, _conversion
    ),
    "bare onnx": Kind("b.onnx", lambda: [bare_onnx()], _take_lint, damage, _lint, _conversion),
    "student": Kind(
        "s.safetensors", _students, _take_student, mutations.damage_safetensors, warm=_torch
    ),
    "teacher": Kind(
        "t.safetensors", _teachers, _take_teacher, mutations.damage_safetensors, warm=_torch
    ),
    "state": Kind(
        "state.safetensors", _states, _take_state, mutations.damage_safetensors, warm=_torch
    ),
    "statistics": Kind(
        "shard", _statistics_shards, _take_statistics, mutations.damage_safetensors, warm=_torch
    ),
    "manifest": Kind(
        "manifest.csv", _manifests, _take_manifest, mutations.damage_csv, _evaluate, _settings
    ),
    "toml": Kind("s.toml", _tomls, _take_toml, _damage_toml, _with_limits, _settings),
    "profile": Kind(
        "profile.json", _profiles, _take_profile, damage_json, _against, _profile_modules
    ),
    "worker": Kind(
        "said.jsonl", _transcripts, _take_transcript, _damage_lines, warm=_profile_modules
    ),
    "board": Kind("a.json", _board_answers, _take_answer, damage_json, warm=_profile_modules),
    "benchmark": Kind("said.txt", _native_outputs, _take_native, warm=_profile_modules),
    "android": Kind("facts.txt", _android_facts, _take_android, warm=_profile_modules),
    "program": Kind("runner", _programs, _take_program, warm=_profile_modules),
    "adb": Kind("lies", lambda: [b""], _take_phone, _lies, warm=_adb, seconds=60),
    "ssh": Kind("lies", lambda: [b""], _take_board, _lies, warm=_sshd, seconds=60),
}
