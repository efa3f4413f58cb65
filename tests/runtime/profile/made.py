"""Events, models and whole documents made up for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgedf.machine import Machine
from edgedf.runtime.profile.assemble import assemble
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.document import Model, Profile
from edgedf.runtime.profile.events import (
    Block,
    ColdStart,
    Event,
    Finished,
    Loaded,
    Operators,
    OperatorTime,
    PipelineTimes,
    Started,
    State,
    WarmedUp,
)
from edgedf.runtime.profile.request import FULL, Effort
from edgedf.runtime.profile.validity import is_publishable

MACHINE = Machine("A processor", "aarch64", "Linux 6", cores=4, memory_mb=4096, python="3.11")
RUNTIME = "a-runtime 1.0"
ROUNDS = 60  # of a second each, as long as the full effort


def model(file: str, precision: str = "int8", *, size: int = 1_000_000, sha: str = "a") -> Model:
    return Model(file, f"test {precision}", file.rpartition(".")[2], precision, size, sha * 64)


FLOAT = model("float.tflite", "fp32", size=3_000_000)
INT8 = model("int8.tflite", sha="b")
MODELS = (FLOAT, INT8)


def job(models: Sequence[Model] = MODELS, effort: Effort = FULL) -> Job:
    files = tuple(Path(described.file) for described in models)
    return Job(files, (Path("a.jpg"),), (1,), effort)


def blocks(
    levels: Sequence[float], *, configuration: int = 0, others: int = 0, seed: int = 0
) -> list[Block]:
    """A block of a second for each level in milliseconds, with a tail of some per cent.

    ``others`` is how many configurations take turns with this one.
    """
    rng = np.random.default_rng([seed, configuration])
    found = []
    for number, level in enumerate(levels):
        times = level * (1 + rng.gamma(2, 0.01, max(4, round(1e3 / level))))
        at = (number * (1 + others) + configuration) * 1.05
        found.append(Block(configuration, number, at, tuple(times.tolist())))
    return found


def states(
    count: int, load: Sequence[float] | float | None = 0.02, **changes: object
) -> list[State]:
    """A state each second."""
    loads = load if isinstance(load, Sequence) else [load] * count
    made = [State(at + 1.0, loads[at], 0.0, (2000.0,) * 4, {"cpu": 50.0}, 0) for at in range(count)]
    return [replace(state, **changes) for state in made]  # type: ignore[arg-type]


def run_events(
    levels: Sequence[Sequence[float]], *, load: float | None = 0.02, runtime: str = RUNTIME
) -> list[Event]:
    """A whole run: of each configuration the level of each of its blocks."""
    found: list[Event] = [Started(MACHINE)]
    for at, own in enumerate(levels):
        found += [Loaded(at, runtime), ColdStart(at, 20.0, 5.0, 40_000, 46_000 + at)]
        found += [WarmedUp(at, 50, 0.4, True)]
        found += blocks(own, configuration=at, others=len(levels) - 1)
        found += [PipelineTimes(at, (8.0, 9.0), (2.0, 3.0), (5.0, 5.0), (0.5, 0.5), (2.0, 12.0))]
        made = (OperatorTime("conv", "CONV_2D", 3.0, "XNNPACK"), OperatorTime("cast", "CAST", 1.0))
        found += [Operators(at, "made up", made, 2, 4.4, 4.0, 1, 1, ("CAST",))]
    return [*found, *states(int(max(map(len, levels)) * len(levels) * 1.05) + 2, load), Finished()]


def document(
    levels: Sequence[Sequence[float]] = ((20.0,) * ROUNDS, (10.0,) * ROUNDS),
    *,
    models: Sequence[Model] = MODELS,
    machine: Machine = MACHINE,
    runtime: str = RUNTIME,
    load: float | None = 0.02,
    device: str = "host",
) -> Profile:
    """A whole document, assembled from a run."""
    events = [
        Started(machine) if isinstance(event, Started) else event
        for event in run_events(levels, load=load, runtime=runtime)
    ]
    run = assemble(job(models), events, device)
    return Profile(
        created="2026-01-01T00:00:00+00:00",
        edgedf="0.0.0",
        effort=FULL,
        publishable=is_publishable((run,), FULL),
        images=7,
        images_from="made up",
        models=tuple(models),
        devices=(run,),
    )
