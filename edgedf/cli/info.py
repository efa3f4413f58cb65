"""``edgedf info``: what a model file says about itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from edgedf.artifact import Artifact
    from edgedf.int8_kernels import Int8Kernels
    from edgedf.spec import ModelSpec

__all__ = ["app"]

app = typer.Typer(add_completion=False)

_EPILOG = """Examples:

[bold]edgedf info build/student_int8.tflite[/]

[bold]edgedf info build/student_int8.onnx --json | jq .spec.threshold[/]

[bold]edgedf info --schema > spec.schema.json[/]"""


@app.command(epilog=_EPILOG)
def info(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A .tflite or .onnx file from edgedf convert."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of specs instead.")
    ] = False,
) -> None:
    """Show what a model file says about itself: its spec.

    Needs no runtime. Where the one for the file is installed, the model is loaded as well and its
    tensors are compared with the spec.
    """
    from edgedf.cli._console import print_json
    from edgedf.errors import ArtifactError, ConfigError

    if schema:
        from edgedf.spec import spec_schema

        print_json(spec_schema())
        return
    if file is None:
        raise ConfigError(
            "No file was named.",
            expected="edgedf info FILE",
            next_step="edgedf info build/student_int8.tflite",
        )
    from edgedf.artifact import read_artifact
    from edgedf.runtime.detector import naming

    try:
        artifact = read_artifact(file)
    except ArtifactError as error:
        raise naming(file, error) from error
    loaded = _loaded(artifact)
    if as_json:
        print_json(_document(artifact, loaded))
    else:
        _print_tables(artifact, loaded)


class _Loaded(NamedTuple):
    """What runs the model here: package and version, and how it multiplies int8."""

    runtime: str | None
    int8_kernels: Int8Kernels | None


def _loaded(artifact: Artifact) -> _Loaded:
    """Load the model; ``runtime`` is None where none is installed, or a broken one.

    Raises:
        ArtifactUnreadable: The runtime refuses the model.
        SpecMismatch: Its tensors are not those of its spec.
    """
    from edgedf.cli._console import quiet_natives
    from edgedf.errors import ArtifactError, EdgedfError
    from edgedf.runtime.detector import Detector

    try:
        with quiet_natives(), Detector(artifact.path, threads=1) as detector:
            return _Loaded(detector.runtime, detector.int8_kernels)
    except ArtifactError:
        raise
    except EdgedfError:
        return _Loaded(None, None)


def _document(artifact: Artifact, loaded: _Loaded) -> dict[str, Any]:
    import json

    from edgedf.files import sha256_of

    return {
        "path": str(artifact.path),
        "format": artifact.format,
        "bytes": len(artifact.model),
        "sha256": sha256_of(artifact.model),
        "loads_in": loaded.runtime,
        "int8_kernels": loaded.int8_kernels,
        "spec": json.loads(artifact.spec.to_json()),
    }


def _print_tables(artifact: Artifact, loaded: _Loaded) -> None:
    from edgedf.cli._console import new_console
    from edgedf.cli._figures import figures_table
    from edgedf.cli._tables import facts_table

    console = new_console()
    facts = (*_about_file(artifact, loaded), *_about_model(artifact.spec))
    console.print(facts_table(facts))
    if artifact.spec.accuracy:
        console.print(figures_table(artifact.spec.accuracy, "Accuracy as measured"))


def _about_file(artifact: Artifact, loaded: _Loaded) -> Iterator[tuple[str, str]]:
    from edgedf.files import sha256_of
    from edgedf.int8_kernels import kernels_in_words

    yield "file", str(artifact.path)
    yield "format", artifact.format
    yield "size", f"{len(artifact.model) / 1e6:.2f} MB"
    yield "sha256", sha256_of(artifact.model)
    if loaded.runtime is None:
        yield "tensors", f"not checked: install edgedf[{artifact.format}] to load the model"
    else:
        yield "tensors", f"as the spec says, loaded in {loaded.runtime}"
    if loaded.int8_kernels is not None:
        yield "arithmetic", kernels_in_words(loaded.int8_kernels)
    if artifact.spec.session_options:
        options = ", ".join(f"{k} = {v}" for k, v in artifact.spec.session_options.items())
        yield (
            "own sessions",
            f"set {options} on x86-64 without VNNI (docs/contract.md)",
        )


def _about_model(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    from edgedf.cli._conversion import names_of

    yield "model", spec.model_id
    yield "made by", spec.created_by
    yield "with", ", ".join(f"{name} {version}" for name, version in spec.tools.items()) or "-"
    yield "licence", spec.licence
    image = spec.input
    shape = f"(1, {image.height}, {image.width}, 3)"
    held = {"uint8": "", "int8": "; a byte less 128", "float32": "; a byte, 0 to 255"}[image.dtype]
    yield "input", f"{image.name}: {image.dtype} {shape} {image.channels} {image.layout}{held}"
    yield "normalisation", f"inside the model: mean {image.mean}, std {image.std}"
    steps = (f"{s.step} {s.size}" if s.size else s.step for s in spec.preprocessing)
    yield "preprocessing", " → ".join(steps)
    for output in spec.outputs:
        bounds = "" if output.minimum is None else f" in [{output.minimum:g}, {output.maximum:g}]"
        behind = (
            "" if output.scale is None else f"; scale {output.scale:.6g}, zero {output.zero_point}"
        )
        what = f"{output.name}: {output.dtype} {output.shape}, {output.units}{bounds}{behind}"
        yield "output", f"{what}. {output.meaning}"
    limits = f"real up to {spec.threshold.real_at:g}, fake from {spec.threshold.fake_at:g}"
    yield "thresholds", f"{limits}. {spec.threshold.how}".rstrip(". ")
    if spec.recalibration is not None:
        before = spec.recalibration.parent
        yield "parent's", f"real up to {before.real_at:g}, fake from {before.fake_at:g}"
    yield "trained on", f"{spec.training.data} ({spec.training.steps} steps)"
    yield "data sha256", spec.training.data_sha256
    if spec.calibration is not None:
        ranges = spec.calibration
        repairs = ", channels equalized" if ranges.equalized else ""
        repairs += ", biases corrected" if ranges.corrected_biases else ""
        how = f"{ranges.method} over {ranges.samples} images, seed {ranges.seed}{repairs}"
        yield "calibrated", how
    for entry in spec.overrides:
        yield "kept", f"{entry.precision} by {entry.pattern}: {names_of(entry)}"
    yield "parent sha256", spec.parent_sha256
    yield "schema", f"version {spec.schema_version}"
