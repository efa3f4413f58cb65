"""The same inputs give the same bytes, in another process, folder, year and hash order."""

import os
import subprocess
import sys
from pathlib import Path

from edgedf.files import sha256_of
from tests.quantize.students import photograph_folder, small_model

# What decides nothing: clock, time zone, hash order, folder for temporary files, place of the
# results. The clock is shifted for everything that asks Python's ``time``, as zip files do.
_CONVERT = """
import sys, time
years, out, pictures, *sources = sys.argv[1:]
real, local = time.time, time.localtime
time.time = lambda: real() + float(years) * 365.25 * 86400
time.localtime = lambda seconds=None: local(time.time() if seconds is None else seconds)
from edgedf import CalibrationImages, Recipe, convert
images = CalibrationImages(pictures, samples=8)
for precision in ("int8", "fp16"):
    for source in sources:
        report = convert(
            source, Recipe(precision), calibration=images, out=out, keep_failing=True
        )
        assert report.models[0].written
"""


def started(folder: Path, *, years: int, zone: str, seed: int) -> subprocess.Popen[bytes]:
    (folder / "temporary").mkdir(parents=True)
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(seed),
        "TZ": zone,
        "TMPDIR": str(folder / "temporary"),
        "OMP_NUM_THREADS": str(1 + seed % 2),
    }
    sources = [small_model("tflite"), small_model("onnx")]
    return subprocess.Popen(
        [sys.executable, "-c", _CONVERT, str(years), folder / "out", photograph_folder(), *sources],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_two_conversions_on_different_days_are_byte_identical(tmp_path: Path) -> None:
    runs = {
        "today": started(tmp_path / "today", years=0, zone="UTC", seed=1),
        "later": started(tmp_path / "later" / "deeper", years=3, zone="Asia/Tokyo", seed=2),
    }
    said = {name: run.communicate(timeout=120)[1].decode() for name, run in runs.items()}
    for name, run in runs.items():
        assert run.returncode == 0, said[name]
    folders = tmp_path / "today" / "out", tmp_path / "later" / "deeper" / "out"
    names = {"small_int8.tflite", "small_int8.onnx", "small_fp16.tflite", "small_fp16.onnx"}
    hashes = [{path.name: sha256_of(path) for path in folder.iterdir()} for folder in folders]
    assert hashes[0].keys() == names
    assert hashes[0] == hashes[1]
    # No name of a place or of a machine is inside.
    for path in folders[1].iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
