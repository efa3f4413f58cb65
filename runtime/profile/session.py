"""One profile: devices are measured, what they say is kept, and a document is made of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timezone
from pathlib import Path

import edgedf
from edgedf.errors import ConfigError, DeviceError, EdgedfError
from edgedf.progress import Progress, silent
from edgedf.runtime.profile.assemble import assemble
from edgedf.runtime.profile.devices.base import Device, Job
from edgedf.runtime.profile.document import DeviceRun, Profile
from edgedf.runtime.profile.events import Emit, Event, Progressed
from edgedf.runtime.profile.models import describe_model
from edgedf.runtime.profile.record import Record
from edgedf.runtime.profile.validity import is_publishable

__all__ = ["HOST", "profile"]

HOST = "host"
"""Name of the device that this machine is."""

_LOOK_EVERY = 0.2  # seconds between looks for Ctrl-C


def profile(
    job: Job,
    devices: Sequence[Device],
    *,
    images_from: str,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[Profile, bool]:
    """Measure models on devices.

    Remote devices are measured at the same time. This machine comes last, when it has nothing else
    to do: packing wheels for a board would show in its own figures.

    Args:
        job: What to measure.
        devices: Where, at least one; no name twice.
        images_from: Where the photographs come from, in words.
        folder: Keeps each device's events there while they come, in ``NAME.events.jsonl``; a run
            that is killed loses none of them.
        resume: Do not measure devices again whose events in ``folder`` are complete and of the
            same job.
        progress: Told how far each device is.

    Returns:
        The document, and whether it was interrupted: a device that fails or is cut off is part of
        the document, with what it had given.

    Raises:
        ArtifactError: A model cannot be used.
        ConfigError: A device is named twice, or ``resume`` without ``folder``.
        OutputError: ``folder`` cannot be written.
    """
    names = [device.name for device in devices]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"A device is named twice: {', '.join(names)}.", next_step="name each device once"
        )
    if resume and folder is None:
        raise ConfigError(
            "There is nothing to resume without a folder.",
            expected="the folder of the run that was cut off",
            next_step="name it with --out",
        )
    models = tuple(describe_model(path) for path in job.models)
    runs = []
    for device in devices:
        record = Record.open(folder, device.name, job, models, resume=resume)
        runs.append(_Run(device, job, record))
    interrupted = _measure(runs, progress)
    measured = tuple(run.assembled() for run in runs)
    document = Profile(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        edgedf=edgedf.__version__,
        effort=job.effort,
        publishable=is_publishable(measured, job.effort),
        images=len(job.images),
        images_from=images_from,
        models=models,
        devices=measured,
    )
    return document, interrupted


class _Run:
    """A device on its way."""

    def __init__(self, device: Device, job: Job, record: Record) -> None:
        self.device, self._job, self._record = device, job, record
        self.problem: EdgedfError | None = None
        self.done = record.complete

    def go(self, emit: Emit) -> None:
        try:
            self.device.run(self._job, emit)
        except EdgedfError as error:
            self.problem = error
        self.done = True

    def take(self, event: Event) -> None:
        self._record.add(event)

    def assembled(self) -> DeviceRun:
        problem = self.problem
        if problem is None and not self.done:
            problem = DeviceError(
                "The measurement was interrupted.",
                next_step="run it again; with --out and --resume complete devices are kept",
            )
        events, name = self._record.events, self.device.name
        return assemble(self._job, events, name, problem)


def _measure(runs: Sequence[_Run], progress: Progress) -> bool:
    """Let every device run; whether the user stopped it."""
    remote = [run for run in runs if run.device.name != HOST and not run.done]
    here = [run for run in runs if run.device.name == HOST and not run.done]
    several = len(runs) > 1
    stopped = threading.Event()
    lock = threading.Lock()

    def emit_of(run: _Run) -> Emit:
        def emit(event: Event) -> None:
            if stopped.is_set():
                raise KeyboardInterrupt
            if isinstance(event, Progressed):
                step = f"{run.device.name}: {event.step}" if several else event.step
                with lock:
                    progress(step, event.done, event.total)
                return
            run.take(event)

        return emit

    try:
        if remote:
            _side_by_side(remote, emit_of, stopped)
        for run in here:
            run.go(emit_of(run))
    except KeyboardInterrupt:
        return True
    return False


def _side_by_side(
    runs: Sequence[_Run], emit_of: Callable[[_Run], Emit], stopped: threading.Event
) -> None:
    """Each device in a thread of its own; Ctrl-C reaches them with their next event."""
    if len(runs) == 1:
        runs[0].go(emit_of(runs[0]))
        return
    with ThreadPoolExecutor(len(runs), thread_name_prefix="edgedf-device") as pool:
        waiting: set[Future[None]] = {pool.submit(run.go, emit_of(run)) for run in runs}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=_LOOK_EVERY)
                for future in done:
                    future.result()
        except KeyboardInterrupt:
            stopped.set()
            raise
