"""What the verbs that train share: settings from a file, from ``--set`` and from shortcuts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from edgedf.progress import Progress

if TYPE_CHECKING:
    from edgedf.evaluation import Skipped

__all__ = [
    "CacheFolder",
    "ConfigFile",
    "Overrides",
    "Workers",
    "run_and_report",
    "settings_of",
    "show_settings",
]

T = TypeVar("T")


class Outcome(Protocol):
    """What a run gives: at least the pictures that could not be read."""

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """These."""


OutcomeT = TypeVar("OutcomeT", bound=Outcome)

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="TOML file with settings, such as settings.toml of a run."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One setting, such as loop.patience=3; may be repeated. Wins over --config.",
    ),
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Where what is computed is kept, for runs to share. Default: in --out.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Processes that compute maps. Default: one a core.",
    ),
]


def settings_of(
    cls: type[T],
    config: Path | None,
    overrides: Sequence[str] | None,
    shortcuts: Mapping[str, Any],
) -> T:
    """Settings from defaults, then a file, then ``--set``, then options of their own.

    Args:
        cls: Dataclass of the settings.
        config: The file.
        overrides: What ``--set`` was given.
        shortcuts: Values by key; None where the option was not given.

    Raises:
        ConfigError: As :func:`edgedf.settings.load_settings`.
    """
    from edgedf.settings import load_settings

    given = [f"{key}={value}" for key, value in shortcuts.items() if value is not None]
    return load_settings(cls, config, [*(overrides or ()), *given])


def run_and_report(
    run: Callable[[Progress, int], OutcomeT],
    settings: Any,
    workers: int | None,
    report: Path,
    *,
    as_json: bool,
) -> OutcomeT | None:
    """Run what trains, in one of torchrun's processes, of which the first alone speaks.

    Args:
        run: Takes whom to tell and the number of worker processes.
        settings: Shown first, unless JSON is wanted.
        workers: What ``--workers`` was given.
        report: The JSON that the run leaves.
        as_json: Print that and nothing else.

    Returns:
        What ``run`` gave; None where there is nothing left to say.

    Raises:
        EdgedfError: As ``run``.
        typer.Exit: Another process's failure has stopped this one.
    """
    from edgedf.cli._console import StepProgress, new_console, print_json
    from edgedf.cli._figures import skipped_text
    from edgedf.distill.distributed import MainFailed, cores_a_process, is_main

    speaks = is_main()
    if speaks and not as_json:
        show_settings(settings)
    try:
        with StepProgress() as progress:
            outcome = run(progress, workers or cores_a_process())
    except MainFailed as error:  # the main process says why
        raise typer.Exit(2) from error
    if speaks and as_json:
        print_json(json.loads(report.read_text("utf-8")))
    if not speaks or as_json:
        return None
    if outcome.skipped:
        new_console(stderr=True).print(skipped_text(outcome.skipped), soft_wrap=True)
    return outcome


def show_settings(settings: Any) -> None:
    """Print settings as TOML on standard error: standard output is for results."""
    from edgedf.cli._console import new_console, printable
    from edgedf.settings import dump_settings

    console = new_console(stderr=True)
    console.print("Settings:", style="bold")
    for line in dump_settings(settings).splitlines():
        console.print(f"  {printable(line)}" if line else "", soft_wrap=True, markup=False)
