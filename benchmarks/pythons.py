"""Do the first commands of the README work on every Python that it names?

For each: ``make convert`` from a bare copy of the repository, then ``pip install '.[tflite]'`` and
``'.[onnx]'`` in environments of their own and ``edgedf detect`` with what was converted. Looks for
``python3.10`` and so on on the PATH and below pyenv's folder; needs a package index.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgedf.files import sha256_of
from edgedf.sample import images

ROOT = Path(__file__).resolve().parents[1]
_COPIED = ("edgedf", "distill", "quantize", "runtime")
_FILES = ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "NOTICE")
_RUNTIMES = {"tflite": "ai-edge-litert", "onnx": "onnxruntime"}
_VERSIONS = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"


@dataclass(frozen=True)
class Result:
    """What one Python did.

    ``verdicts`` are the scores of one picture by format; ``sha256`` are of the files.
    """

    python: str
    works: bool
    convert_seconds: float = float("nan")
    versions: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, float] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    failure: str = ""


class Failed(Exception):
    """A command did not work; its message is the last thing that it said."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pythons", nargs="+", default=named_pythons(), metavar="3.X")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    results = []
    for version in arguments.pythons:
        python = find(version)
        if python is None:
            results.append(Result(version, works=False, failure="not found on this machine"))
            continue
        with tempfile.TemporaryDirectory(prefix="edgedf-") as folder:
            results.append(tried(version, python, Path(folder)))
    if arguments.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    else:
        print(markdown(results))
    return 0 if all(result.works for result in results) else 1


def named_pythons() -> list[str]:
    """Those that ``pyproject.toml`` names."""
    return re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())


def find(version: str) -> Path | None:
    """A Python of that version that runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [*sorted(pyenv.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")]
    for candidate in filter(None, candidates):
        asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return Path(candidate)
    return None


def tried(version: str, python: Path, folder: Path) -> Result:
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in _COPIED:
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in _FILES:
        shutil.copy(ROOT / name, source / name)
    started = time.monotonic()
    try:
        run("make", "-C", source, "convert", f"PYTHON={python}")
        seconds = round(time.monotonic() - started, 1)
        packages = (*_RUNTIMES.values(), "numpy", "opencv-python-headless")
        found = run(source / ".venv/convert/bin/python", "-c", _VERSIONS, *packages).split()
        models = {name: source / "build" / f"student_int8.{name}" for name in _RUNTIMES}
        return Result(
            version,
            works=True,
            convert_seconds=seconds,
            versions=dict(zip(packages, found, strict=True)),
            verdicts={
                name: score_with(name, model, python, folder) for name, model in models.items()
            },
            sha256={model.name: sha256_of(model) for model in models.values()},
        )
    except Failed as failure:
        return Result(version, works=False, failure=str(failure))


def score_with(extra: str, model: Path, python: Path, folder: Path) -> float:
    """Install one extra alone and judge a picture."""
    run(python, "-m", "venv", folder / extra)
    own = folder / extra / "bin" / "python"
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet", "install")
    run(own, *pip, f"{folder / 'source'}[{extra}]")
    detect = ("-m", "edgedf.cli", "detect", "--json", "--model", model, images()[0].path)
    return float(json.loads(run(own, *detect))["score"])


def run(*command: str | Path) -> str:
    """What a command prints."""
    print(*command, file=sys.stderr)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=clean, check=False, cwd="/"
    )
    if done.returncode:
        raise Failed((done.stderr.strip() or done.stdout.strip() or "failed").splitlines()[-1])
    return done.stdout


def markdown(results: Sequence[Result]) -> str:
    same: list[dict[str, str]] = []
    lines = [
        "| Python | `make convert` | packages | score of a picture, TFLite, ONNX | files |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        if not result.works:
            lines.append(f"| {result.python} | ✗ {result.failure} | | | |")
            continue
        if result.sha256 not in same:
            same.append(result.sha256)
        packages = ", ".join(f"{name} {version}" for name, version in result.versions.items())
        scores = ", ".join(f"{score:.4f}" for score in result.verdicts.values())
        kind = chr(ord("A") + same.index(result.sha256))
        lines.append(
            f"| {result.python} | {result.convert_seconds:.0f} s | {packages} | {scores} | {kind} |"
        )
    return "\n".join([*lines, "", "Rows with the same letter gave the same bytes."])


if __name__ == "__main__":
    raise SystemExit(main())
