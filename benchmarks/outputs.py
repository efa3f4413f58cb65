"""What every verb writes, on the shipped student and sample, as files to compare.

Run it before and after a change that is to change nothing, on the same machine, and compare:

    python benchmarks/outputs.py before/
    python benchmarks/outputs.py after/
    diff -r before/ after/

Each command's JSON document is written with its exit code; what time, place and process decide is
left out of it. Each file that a command makes is written as its SHA-256. ``--only WORD`` runs those
commands whose name contains a word.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.progress import track

from edgedf import sample
from edgedf.runtime.models import shipped_model

MADE = ("*.tflite", "*.onnx", "*.safetensors", "*.npz", "*.png", "*.csv", "*.toml")
# What differs from run to run: times, speeds and what is measured of them, places, the machine.
VARIES = (
    "ms",
    "timings_ms",
    "seconds",
    "started",
    "speed",
    "latency",
    "ratio",
    "host",
    "path",
    "system",
    "at_s",
)
PLACES = ("run", "timings", "machine", "runs", "seed_of_bootstrap", "elapsed", "memory", "duration")


LIMITS = "limits.toml"


def commands() -> dict[str, list[str]]:
    """Arguments of every command by its name; ``{photos}`` is a folder of labelled pictures."""
    convert = ["convert", "--json", "--out", "made"]
    gate = ["--gate", "{photos}", "--limits", LIMITS]
    made = "made/student_int8.{}"
    floats = {name: str(shipped_model(name)) for name in ("tflite", "onnx")}
    found = {
        "convert": convert,
        "convert fp32": [*convert, "--precision", "fp32"],
        "convert fp16": [*convert, "--precision", "fp16"],
        "convert int8-weights": [*convert, "--precision", "int8-weights"],
        "convert int8-a16": [*convert, "--precision", "int8-a16"],
        "convert int8-dynamic": [*convert, "--precision", "int8-dynamic", "--to", "tflite"],
        "convert io float32": [*convert, "--io", "float32"],
        "convert io int8": [*convert, "--io", "int8"],
        "convert keep tflite": [*convert, "--to", "tflite", "--keep", "fp32:*Conv_project*"],
        "convert keep onnx": [*convert, "--to", "onnx", "--keep", "fp32:decoder.*"],
        "convert mse": [*convert, "--method", "mse", "--samples", "16"],
        "convert equalize": [*convert, "--equalize", "--correct-biases", "--samples", "16"],
        "convert gate": [*convert, "--to", "tflite", *gate],
        "convert auto": [*convert, "--to", "tflite", "--precision", "auto", *gate],
        "convert lint": ["convert", "--lint", "--json"],
        "convert no dynamic onnx": [*convert, "--precision", "int8-dynamic", "--to", "onnx"],
        "info schema": ["info", "--schema"],
        "detect": ["detect", "{photos}", "--json", "--model", floats["tflite"]],
        "evaluate": ["evaluate", floats["tflite"], "{photos}", "--json"],
        "doctor": ["doctor", "--json"],
        "distill map": ["distill", "map", "{photos}/real", "--json", "--out", "maps"],
        "distill audit": ["distill", "audit", "{photos}", "--json"],
    }
    for name, file in floats.items():
        int8 = made.format(name)
        found[f"info {name}"] = ["info", int8, "--json"]
        found[f"verify {name}"] = ["verify", int8, "--data", "{photos}", "--json"]
        found[f"verify layers {name}"] = [*found[f"verify {name}"], "--layers", "3"]
        found[f"diff {name}"] = ["diff", file, int8, "--no-latency", "--json"]
        found[f"diff markdown {name}"] = ["diff", file, int8, "--no-latency", "--markdown"]
    found["diff formats"] = ["diff", made.format("tflite"), made.format("onnx"), "--no-latency"]
    found["diff formats"] += ["--json"]
    return found


def main() -> int:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder to write into")
    parser.add_argument("--only", default="", metavar="WORD", help="commands with WORD in the name")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        photos = _photos(Path(folder))
        # The sample is too small for the default limits on differences.
        Path(folder, LIMITS).write_text("auc_drop_bound = 1.0\nflips_bound = 1.0\n", "utf-8")
        wanted = {name: c for name, c in commands().items() if options.only in name}
        for name, command in track(wanted.items(), "commands", disable=not sys.stderr.isatty()):
            arguments = [word.replace("{photos}", str(photos)) for word in command]
            text = _run(arguments, Path(folder))
            path = options.out / f"{name.replace(' ', '_')}.json"
            path.write_text(text.replace(folder, "FOLDER"), "utf-8")
    return 0


def _photos(folder: Path) -> Path:
    """The shipped sample as a folder of labelled pictures."""
    for image in sample.images():
        target = folder / "photos" / image.label / image.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(image.path.read_bytes())
    return folder / "photos"


def _run(arguments: list[str], folder: Path) -> str:
    before = _hashes(folder)
    done = subprocess.run(
        [sys.executable, "-m", "edgedf.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    changed = {name: sha for name, sha in _hashes(folder).items() if before.get(name) != sha}
    documents: list[Any] = []
    try:
        documents = [json.loads(done.stdout)]
    except ValueError:
        for line in done.stdout.splitlines():
            try:
                documents.append(json.loads(line))
            except ValueError:
                documents.append(line)
    errors = done.stderr.splitlines() if done.returncode not in (0, 1) else []
    found = {
        "arguments": arguments,
        "exit": done.returncode,
        "files": changed,
        "documents": [_steady(document) for document in documents],
        "errors": errors,
    }
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in MADE
        for path in folder.rglob(pattern)
    }


def _steady(value: Any, name: str = "") -> Any:
    """A document without what differs from run to run."""
    if any(name == word or name.endswith(f"_{word}") for word in (*VARIES, *PLACES)):
        return "…"
    if isinstance(value, dict):
        return {key: _steady(entry, key) for key, entry in value.items()}
    if isinstance(value, list):
        return [_steady(entry) for entry in value]
    return value


if __name__ == "__main__":
    sys.exit(main())
