"""``edgedf doctor``: what is installed, what is missing and what that costs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from edgedf.formats import Format
    from edgedf.int8_kernels import Int8Kernels

__all__ = ["app"]

app = typer.Typer(add_completion=False)

# What each extra is for, in the order in which people need them.
_NEEDED_FOR = {
    "tflite": "running .tflite models: edgedf detect",
    "onnx": "running .onnx models: edgedf detect",
    "convert": "edgedf convert, edgedf diff",
    "export": "edgedf convert CHECKPOINT",
    "distill": "edgedf distill",
}
# Packages that do the job of the one an extra names.
_STAND_INS = {
    "ai-edge-litert": ("tflite-runtime",),
    "opencv-python-headless": (
        "opencv-python",
        "opencv-contrib-python-headless",
        "opencv-contrib-python",
    ),
}
_LOAD_TIMEOUT_S = 120
_NEWEST_PYTHON = (3, 14)  # that the packages of extras with pinned versions have wheels for


@dataclass(frozen=True)
class Extra:
    """One extra of edgedf, or its core.

    Args:
        name: Of the extra; empty for the core.
        needed_for: What cannot be done without it.
        installed: Version by package.
        missing: Packages that are not there.
        other_version: Packages that are there in another version than the pinned one.
    """

    name: str
    needed_for: str
    installed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    other_version: list[str] = field(default_factory=list)

    @property
    def install(self) -> str:
        """The command that brings it."""
        return f"pip install 'edgedf[{self.name}]'" if self.name else "pip install edgedf"


@dataclass(frozen=True)
class ShippedModel:
    """Whether the student that edgedf carries runs here.

    Args:
        format: ``tflite`` or ``onnx``.
        path: Where it should be.
        runs: Whether it judged a picture.
        detail: Time and verdict, or what went wrong.
        int8_kernels: How its runtime multiplies int8 here; None where it does not run.
    """

    format: str
    path: str
    runs: bool
    detail: str
    int8_kernels: Int8Kernels | None = None


_EPILOG = """Examples:

[bold]edgedf doctor[/]

[bold]edgedf doctor --json | jq .models[/]

Exit code: 0 edgedf detect works here, 1 it does not."""


@app.command(epilog=_EPILOG)
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Say what is installed, what is missing and what that costs.

    Runs the student that edgedf carries once in each runtime that is installed.
    """
    from edgedf.cli._console import print_json
    from edgedf.formats import formats

    system = _system()
    uses = {"": "everything", **_NEEDED_FOR} if _version("edgedf") else {}
    extras = [_checked(Extra(name, use), _requirements(name)) for name, use in uses.items()]
    models = [_try_model(entry) for entry in formats()]
    works = any(model.runs for model in models)
    if as_json:
        packages = [{**asdict(extra), "install": extra.install} for extra in extras]
        shipped = [asdict(model) for model in models]
        print_json({"system": system, "extras": packages, "models": shipped, "detect": works})
    else:
        _print_tables(system, extras, models)
    if not works:
        raise typer.Exit(1)


def _system() -> dict[str, Any]:
    from edgedf import __version__
    from edgedf.machine import available_cores, this_processor

    processor = this_processor()
    unknown = "" if _version("edgedf") else " (not installed, so what it needs is not known)"
    return {
        "edgedf": __version__ + unknown,
        "python": platform.python_version() + _without_wheels(),
        "system": platform.platform(),
        "cpu": processor.name,
        "int8 dot product": {True: "yes", False: "no", None: "unknown"}[processor.int8_dot_product],
        "cores": available_cores(),
    }


def _without_wheels() -> str:
    """What of the pinned packages this Python cannot have, in brackets."""
    if sys.version_info[:2] > _NEWEST_PYTHON:
        newest = ".".join(map(str, _NEWEST_PYTHON))
        return f" (convert, export and distill need 3.10 to {newest}: no wheels for a newer one)"
    absent = ", ".join(
        f"{requirement.name} {_pin(requirement)}"
        for requirement in _requires()
        if _pin(requirement) and not any(_is_of(requirement, extra) for extra in _NEEDED_FOR)
    )
    return f" (no wheel of {absent}: an older one is used)" if absent else ""


def _checked(extra: Extra, requirements: dict[str, str]) -> Extra:
    """Fill in what is installed of the packages that the extra asks for."""
    for package, pinned in requirements.items():
        for candidate in (package, *_STAND_INS.get(package, ())):
            version = _version(candidate)
            if version is None:
                continue
            extra.installed[candidate] = version
            if candidate == package and pinned and version.split("+")[0] != pinned:
                extra.other_version.append(f"{package} {version} (wanted: {pinned})")
            break
        else:
            extra.missing.append(package)
    return extra


def _requirements(extra: str) -> dict[str, str]:
    """Pinned version, or an empty string, by package, as edgedf's own metadata have them."""
    pins: dict[str, str] = {}
    for requirement in _requires():
        if not _is_of(requirement, extra):
            continue
        if requirement.name != "edgedf":
            pins[requirement.name] = _pin(requirement)
        for nested in requirement.extras:
            pins |= _requirements(nested)
    return pins


def _requires() -> list[Requirement]:
    """What edgedf's own metadata ask for; nothing where it is not installed."""
    from packaging.requirements import Requirement

    lines = importlib.metadata.requires("edgedf") if _version("edgedf") else None
    return [Requirement(line) for line in lines or ()]


def _pin(requirement: Requirement) -> str:
    return next((each.version for each in requirement.specifier if each.operator == "=="), "")


def _is_of(requirement: Requirement, extra: str) -> bool:
    """Whether an extra, or the core, asks for it with this Python."""
    marker = requirement.marker
    if marker is None:
        return not extra
    python = "{}.{}".format(*sys.version_info[:2])
    holds = [marker.evaluate({"extra": each, "python_version": python}) for each in ("", extra)]
    return holds[1] and (not extra or not holds[0])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _try_model(model_format: Format) -> ShippedModel:
    """Judge a picture with the shipped student, in a process of its own: a crash is a finding."""
    from edgedf.errors import EdgedfError
    from edgedf.int8_kernels import kernels_in_words
    from edgedf.runtime.models import shipped_model

    name, path = model_format.name, ""
    try:
        path = str(shipped_model(name))
        if model_format.runtime() is None:
            return ShippedModel(name, path, False, model_format.why_not_runnable())
        from edgedf.sample import images

        picture = os.fspath(images()[0])
    except EdgedfError as error:  # a part of edgedf is lost
        return ShippedModel(name, path, False, error.message)
    command = [sys.executable, "-m", "edgedf.cli", "detect", "--json", "--model", path]
    try:
        run = subprocess.run(
            [*command, picture],
            capture_output=True,
            text=True,
            timeout=_LOAD_TIMEOUT_S,
            env={**os.environ, "NO_COLOR": "1"},
            cwd=Path(path).parent,  # Python looks for modules here first: nobody else's
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ShippedModel(name, path, False, f"no result in {_LOAD_TIMEOUT_S} s")
    if run.returncode < 0:
        return ShippedModel(name, path, False, f"crashed with signal {-run.returncode}")
    if run.returncode > 0:
        lines = [line for line in run.stderr.splitlines() if line.startswith(("Error", "Failed"))]
        return ShippedModel(name, path, False, lines[0] if lines else "failed")
    verdict = json.loads(run.stdout)
    milliseconds = verdict["timings_ms"]["inference"]
    kernels = model_format.int8_kernels()
    detail = f"{milliseconds:.1f} ms for its first picture; {kernels_in_words(kernels)}"
    return ShippedModel(name, path, True, detail, kernels)


def _print_tables(system: dict[str, Any], extras: list[Extra], models: list[ShippedModel]) -> None:
    from rich.text import Text

    from edgedf.cli._console import new_console
    from edgedf.cli._tables import facts_table, mark, new_table, shown

    console = new_console()
    console.print(facts_table((name, str(value)) for name, value in system.items()))

    packages = new_table(("", "extra", "needed for", "installed", "missing"), title="Packages")
    named: set[str] = set()  # the extras contain each other; each package is shown once
    for extra in extras:
        new = {name: version for name, version in extra.installed.items() if name not in named}
        installed = ", ".join(f"{name} {version}" for name, version in new.items())
        named |= new.keys()
        missing = Text(", ".join(extra.missing), style="red")
        if extra.other_version:
            missing.append(f"\nother version: {', '.join(extra.other_version)}", style="yellow")
        if extra.missing or extra.other_version:
            missing.append(f"\n{extra.install}", style="bold")
        verdict = mark("fail" if extra.missing else "pass")
        packages.add_row(verdict, extra.name or "(core)", extra.needed_for, installed, missing)
    if extras:
        console.print(packages)

    shipped = new_table(("", "format", "runs here", "path"), title="Shipped student")
    for model in models:
        good = model.runs and model.int8_kernels != "saturating"
        cells = map(shown, (model.format, model.detail, model.path))
        shipped.add_row(mark("pass" if good else "fail"), *cells)
    console.print(shipped)
