"""Processors that this machine does not have: Python is started as if on one of them.

A processor of the same kind that can do less is this one with instructions hidden from programs
(``cpuid_mask.c``): native and at full speed, where the processor can fault on CPUID. Others are
emulated by qemu, which is slow, and cannot do AVX-512.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgedf.runtime.profile.devices.payload import worker_modules
from edgedf.runtime.profile.devices.wheels import fetch
from tests.servers.pythons import interpreter_of, python_of

__all__ = ["PROCESSORS", "Machine", "Processor", "start"]

_HERE = Path(__file__).parent
_BUILD = _HERE.parents[1] / "build" / "processors"
_CANNOT = 79  # exit status of cpuid_mask.c

_EAX, _EBX, _ECX, _EDX = range(4)
# Leaf, subleaf, register and bit in which CPUID says it, by the name in /proc/cpuinfo.
_FEATURES = {
    "fma": (1, 0, _ECX, 12),
    "avx": (1, 0, _ECX, 28),
    "f16c": (1, 0, _ECX, 29),
    "avx2": (7, 0, _EBX, 5),
    "avx512f": (7, 0, _EBX, 16),
    "avx512dq": (7, 0, _EBX, 17),
    "avx512ifma": (7, 0, _EBX, 21),
    "avx512pf": (7, 0, _EBX, 26),
    "avx512er": (7, 0, _EBX, 27),
    "avx512cd": (7, 0, _EBX, 28),
    "avx512bw": (7, 0, _EBX, 30),
    "avx512vl": (7, 0, _EBX, 31),
    "avx512vbmi": (7, 0, _ECX, 1),
    "avx512_vbmi2": (7, 0, _ECX, 6),
    "gfni": (7, 0, _ECX, 8),
    "vaes": (7, 0, _ECX, 9),
    "vpclmulqdq": (7, 0, _ECX, 10),
    "avx512_vnni": (7, 0, _ECX, 11),
    "avx512_bitalg": (7, 0, _ECX, 12),
    "avx512_vpopcntdq": (7, 0, _ECX, 14),
    "avx512_vp2intersect": (7, 0, _EDX, 8),
    "amx_bf16": (7, 0, _EDX, 22),
    "avx512_fp16": (7, 0, _EDX, 23),
    "amx_tile": (7, 0, _EDX, 24),
    "amx_int8": (7, 0, _EDX, 25),
    "avx_vnni": (7, 1, _EAX, 4),
    "avx512_bf16": (7, 1, _EAX, 5),
    "amx_fp16": (7, 1, _EAX, 21),
    "avx_ifma": (7, 1, _EAX, 23),
    "avx_vnni_int8": (7, 1, _EDX, 4),
    "avx_ne_convert": (7, 1, _EDX, 5),
    "amx_complex": (7, 1, _EDX, 8),
    "avx_vnni_int16": (7, 1, _EDX, 10),
    "avx10": (7, 1, _EDX, 19),
}
_AMX = frozenset(name for name in _FEATURES if name.startswith("amx"))
_AVX512 = frozenset(name for name in _FEATURES if name.startswith(("avx512", "avx10"))) | _AMX
_VNNI = frozenset(name for name in _FEATURES if "vnni" in name) | {"avx512_bf16", "avx512_fp16"}


@dataclass(frozen=True)
class Processor:
    """A processor.

    Args:
        name: Short.
        words: What it can do, and an example of one.
        has: What this machine's processor has to have to stand for it, as /proc/cpuinfo names it.
        lacks: What is hidden of that.
        qemu: Which model of qemu's is like it; empty for none.
        architecture: ``x86_64`` or ``aarch64``.
    """

    name: str
    words: str
    has: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    qemu: str = ""
    architecture: str = "x86_64"


_LIST = (
    Processor("native", "this machine's"),
    Processor(
        "avx512-vnni",
        "AVX-512 with VNNI, without AMX (Ice Lake, EPYC since Genoa)",
        has=frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}),
        lacks=_AMX,
    ),
    Processor(
        "avx512",
        "AVX-512 without VNNI (Skylake-SP)",
        has=frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"}),
        lacks=_VNNI | _AMX,
    ),
    Processor(
        "avx-vnni",
        "AVX2 with AVX-VNNI (Alder Lake)",
        has=frozenset({"avx2", "avx_vnni"}),
        lacks=_AVX512,
    ),
    Processor(
        "avx2",
        "AVX2 and FMA (Haswell to Comet Lake, EPYC to Milan)",
        has=frozenset({"avx2", "fma"}),
        lacks=_AVX512 | _VNNI,
        qemu="Haswell",
    ),
    Processor(
        "avx",
        "AVX (Sandy Bridge)",
        has=frozenset({"avx"}),
        lacks=frozenset(_FEATURES) - {"avx"},
        qemu="SandyBridge",
    ),
    Processor(
        "sse4",
        "SSE4.2 (Nehalem)",
        lacks=frozenset(_FEATURES),
        qemu="Nehalem",
    ),
    Processor("qemu-haswell", "AVX2 and FMA, emulated", qemu="Haswell"),
    Processor("qemu-epyc", "AVX2 and FMA, emulated", qemu="EPYC"),
    Processor("qemu-nehalem", "SSE4.2, emulated", qemu="Nehalem"),
    Processor(
        "cortex-a72",
        "Arm without dot product (Raspberry Pi 4, phones to 2017)",
        qemu="cortex-a72",
        architecture="aarch64",
    ),
    Processor(
        "cortex-a76",
        "Arm with dot product (Raspberry Pi 5, phones since 2018)",
        qemu="cortex-a76",
        architecture="aarch64",
    ),
    Processor("arm-max", "Arm with i8mm and SVE", qemu="max", architecture="aarch64"),
)
PROCESSORS: Mapping[str, Processor] = {processor.name: processor for processor in _LIST}
"""By name."""


@dataclass(frozen=True)
class Machine:
    """A Python on a processor.

    Args:
        processor: Which.
        command: What starts it.
        environment: Beside this process's own.
        emulated: Whether it is slow.
    """

    processor: Processor
    command: tuple[str, ...]
    environment: Mapping[str, str]
    emulated: bool

    def run(
        self, *arguments: str | Path, timeout: float = 300
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it with these arguments, and fail where it fails."""
        done = self.try_to_run(*arguments, timeout=timeout)
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]
        return done

    def try_to_run(
        self, *arguments: str | Path, timeout: float = 300
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it with these arguments, far from the checkout."""
        return subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=_BUILD,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", **self.environment},
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    def outputs(
        self, images: NDArray[np.uint8], models: Sequence[Path], *, timeout: float = 300
    ) -> dict[str, NDArray[Any]]:
        """What model files give there: see :mod:`tests.processors.outputs`."""
        with tempfile.TemporaryDirectory(dir=_BUILD) as folder:
            path = Path(folder) / "images.npy"
            np.save(path, images)
            done = self.run(_HERE / "outputs.py", path, *models, timeout=timeout)
        return dict(np.load(io.BytesIO(done.stdout)))


def start(name: str) -> Machine:
    """A Python on that processor; the test is skipped, and told why, where there can be none."""
    _BUILD.mkdir(parents=True, exist_ok=True)
    processor = PROCESSORS[name]
    if name == "native":
        return Machine(processor, (sys.executable,), {}, emulated=False)
    if platform.machine() != "x86_64":
        pytest.skip("the processor here is no x86-64, and others are compared with one")
    if processor.architecture == "aarch64":
        return _arm(processor)
    reason = "it is emulated"
    if processor.lacks:
        reason = _why_no_mask(processor)
        if not reason:
            return Machine(processor, (sys.executable,), _masked(processor), emulated=False)
    if not processor.qemu:
        pytest.skip(f"{reason}, and qemu has no {processor.words}")
    return _emulated(processor)


def _flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split())
    return set()


def _why_no_mask(processor: Processor) -> str:
    flags = _flags()
    absent = sorted(processor.has - flags)
    if absent:
        return f"this processor has no {', '.join(absent)}"
    if not processor.lacks & flags:
        return ""
    try:
        done = subprocess.run(
            [sys.executable, "-c", ""],
            env={**os.environ, **_masked(processor)},
            capture_output=True,
            check=False,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        return f"cpuid_mask.c cannot be compiled ({error})"
    return done.stderr.decode().strip() if done.returncode == _CANNOT else ""


def _masked(processor: Processor) -> dict[str, str]:
    if not processor.lacks & _flags():
        return {}  # this is such a processor
    words: dict[tuple[int, int], list[int]] = {}
    for name in sorted(processor.lacks):
        leaf, subleaf, register, bit = _FEATURES[name]
        words.setdefault((leaf, subleaf), [0] * 4)[register] |= 1 << bit
    texts = (":".join(f"{part:x}" for part in (*where, *word)) for where, word in words.items())
    return {"LD_PRELOAD": str(_mask()), "CPUID_HIDE": " ".join(texts)}


@functools.cache
def _mask() -> Path:
    """The library, compiled anew in each process that asks."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    path = _BUILD / "cpuid_mask.so"
    with tempfile.NamedTemporaryFile(dir=_BUILD, suffix=".so", delete=False) as stream:
        made = Path(stream.name)
    options = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run([compiler, *options, "-o", made, _HERE / "cpuid_mask.c", "-ldl"], check=True)
    return made.replace(path)


_UNMASKED = {"LD_PRELOAD": "", "CPUID_HIDE": ""}  # the kernel that qemu offers knows of no masks


def _emulated(processor: Processor) -> Machine:
    qemu = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("no qemu-x86_64-static: bash tests/servers/install.sh brings it")
    command = (qemu, "-cpu", processor.qemu, sys.executable)
    tried = subprocess.run([*command, "-c", ""], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"{qemu} does not run Python: {tried.stderr.decode().strip()[-200:]}")
    return Machine(processor, command, _UNMASKED, emulated=True)


# On newer ones Debian 12's qemu crashes: ONNX Runtime 1.28 when it is imported, LiteRT 2.2 when it
# allocates tensors. OpenCV is not needed for prepared pictures.
_THAT_QEMU_RUNS = ("numpy>=1.26", "ai-edge-litert==2.1.0", "onnxruntime>=1.20,<1.27")


def _arm(processor: Processor) -> Machine:
    python = python_of("bookworm-arm64")
    folders = (_modules(), _arm_packages(python))
    environment = {
        **_UNMASKED,
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "QEMU_CPU": processor.qemu,
    }
    return Machine(processor, (str(python),), environment, emulated=True)


@functools.cache
def _arm_packages(python: Path) -> Path:
    """Unpacked packages for the other processor, kept from one run to the next."""
    key = hashlib.sha256(" ".join(_THAT_QEMU_RUNS).encode()).hexdigest()[:8]
    kept = _BUILD / f"arm64-{key}"
    if kept.is_dir():
        return kept
    with tempfile.TemporaryDirectory(dir=_BUILD) as name:
        for wheel in fetch(interpreter_of(python), [_THAT_QEMU_RUNS], Path(name)):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(Path(name) / "site")
        try:
            return (Path(name) / "site").rename(kept)
        except OSError:  # another process was quicker
            return kept


@functools.cache
def _modules() -> Path:
    """edgedf's modules as they lie on a board."""
    folder = Path(_LAID_OUT.name)
    for name, path in worker_modules().items():
        place = folder / name.replace(".", "/")
        target = place / "__init__.py" if path.name == "__init__.py" else place.with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


_LAID_OUT = tempfile.TemporaryDirectory(prefix="edgedf-")
