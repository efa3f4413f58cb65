import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgedf.errors import DeviceError
from edgedf.runtime.profile.devices.wheels import (
    Interpreter,
    cache_folder,
    fetch,
    platforms,
    wanted,
)

BARE = Interpreter((3, 11, 2), "aarch64", "glibc", "2.36", {})
FULL = {
    "numpy": "1.26.4",
    "opencv-python-headless": "4.10.0.84",
    "ai-edge-litert": "2.1.0",
    "onnxruntime": "1.19.2",
}


def names(requirements: tuple[str, ...]) -> set[str]:
    return {requirement.partition(">")[0] for requirement in requirements}


def test_only_the_runtimes_of_the_models_are_fetched() -> None:
    both = {"numpy", "opencv-python-headless"}
    assert names(wanted(BARE, ["onnx"])[0]) == both | {"onnxruntime"}
    assert names(wanted(BARE, ["tflite"])[0]) == both | {"ai-edge-litert"}
    assert names(wanted(BARE, ["tflite"])[1]) == both | {"tflite-runtime"}
    assert names(wanted(BARE, ["tflite", "onnx"])[0]) == both | {"ai-edge-litert", "onnxruntime"}


def test_what_is_there_and_fits_is_used() -> None:
    assert wanted(replace(BARE, modules=FULL), ["tflite", "onnx"]) == [()]
    lacking = {name: FULL[name] for name in FULL if name != "onnxruntime"}
    assert names(wanted(replace(BARE, modules=lacking), ["tflite"])[0]) == set()
    assert names(wanted(replace(BARE, modules=lacking), ["onnx"])[0]) == {"onnxruntime"}


def test_when_numpy_travels_all_that_was_built_against_another_one_does() -> None:
    old = {**FULL, "numpy": "1.19.5"}  # as Debian 11 has it
    found = wanted(replace(BARE, modules=old), ["tflite", "onnx"])[0]
    assert names(found) == {"numpy", "opencv-python-headless", "ai-edge-litert", "onnxruntime"}


def test_tflite_runtime_is_only_used_with_numpy_1() -> None:
    base = {"opencv-python-headless": "4.10", "tflite-runtime": "2.14.0"}
    older = replace(BARE, modules={**base, "numpy": "1.26.4"})
    newer = replace(BARE, modules={**base, "numpy": "2.0.2"})
    assert wanted(older, ["tflite"]) == [()]
    assert [names(some) for some in wanted(newer, ["tflite"])] == [{"ai-edge-litert"}]


def test_platforms_are_those_of_the_c_library() -> None:
    glibc = platforms(BARE)
    assert glibc[0] == "manylinux_2_36_aarch64" and glibc[-1] == "linux_aarch64"
    assert "manylinux2014_aarch64" in glibc and "manylinux_2_37_aarch64" not in glibc
    musl = platforms(replace(BARE, libc="musl", libc_version="1.2.5"))
    assert musl == ["musllinux_1_2_aarch64", "musllinux_1_1_aarch64", "linux_aarch64"]
    assert platforms(replace(BARE, libc="", libc_version="")) == ["linux_aarch64"]


def make_wheel(folder: Path, name: str, version: str, tag: str) -> Path:
    plain = name.replace("-", "_")
    path = folder / f"{plain}-{version}-{tag}.whl"
    information = f"{plain}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{plain}.py", "")
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(f"{information}/METADATA", metadata)
        archive.writestr(
            f"{information}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n"
        )
        archive.writestr(f"{information}/RECORD", "")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "wheels"
    made.mkdir()
    make_wheel(made, "onnxruntime", "1.20.0", "cp311-cp311-manylinux_2_28_aarch64")
    make_wheel(made, "onnxruntime", "1.19.0", "cp39-cp39-manylinux_2_17_aarch64")
    make_wheel(made, "onnxruntime", "1.21.0", "cp311-cp311-manylinux_2_39_aarch64")
    make_wheel(made, "onnxruntime", "1.22.0", "cp311-cp311-manylinux_2_28_x86_64")
    return made


def test_wheels_come_from_a_folder_without_a_network(folder: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (found,) = fetch(BARE, [("onnxruntime>=1.16,<2",)], into, folder=folder)
    assert found.name == "onnxruntime-1.20.0-cp311-cp311-manylinux_2_28_aarch64.whl"
    assert [path.name for path in into.iterdir()] == [found.name]


def test_an_absent_wheel_is_named_with_the_command_that_gets_it(
    folder: Path, tmp_path: Path
) -> None:
    armv7 = replace(BARE, architecture="armv7l")
    with pytest.raises(DeviceError) as caught:
        fetch(armv7, [("onnxruntime>=1.16,<2",)], tmp_path, folder=folder)
    assert "onnxruntime" in caught.value.message
    assert "Python 3.11, armv7l, glibc 2.36" in caught.value.message
    assert str(folder) in caught.value.message
    step = caught.value.next_step
    assert "pip download" in step and "--python-version 3.11" in step
    assert "manylinux_2_36_armv7l" in step and "'onnxruntime>=1.16,<2'" in step


def test_no_folder_and_no_pip_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="There is no folder"):
        fetch(BARE, [("numpy",)], tmp_path, folder=tmp_path / "none")
    # A Python without pip says what CPython says.
    without = tmp_path / "python"
    without.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    without.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(without))
    with pytest.raises(DeviceError, match="no pip to fetch them"):
        fetch(BARE, [("numpy",)], tmp_path, folder=tmp_path)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "edgedf" / "wheels"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert cache_folder() == Path.home() / ".cache" / "edgedf" / "wheels"
