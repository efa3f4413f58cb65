"""Measuring on a phone with a Python there: the same worker as on a board or on this machine."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

from edgedf.artifact import read_model
from edgedf.errors import DeviceError
from edgedf.files import scratch_folder
from edgedf.machine import Machine
from edgedf.runtime.profile.devices import board
from edgedf.runtime.profile.devices.adb_client import Adb, Printed, finish
from edgedf.runtime.profile.devices.adb_errors import Cut
from edgedf.runtime.profile.devices.adb_folder import PhoneFolder
from edgedf.runtime.profile.devices.android import sections
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.board_answers import (
    Board,
    board_of,
    check_room,
    ended,
    not_received,
    parsed,
)
from edgedf.runtime.profile.devices.host import WORKER
from edgedf.runtime.profile.devices.payload import REQUEST, gather
from edgedf.runtime.profile.devices.stream import follow
from edgedf.runtime.profile.devices.wheels import MODULES
from edgedf.runtime.profile.events import Emit, Event, Progressed, Started

__all__ = ["WorkerRun"]

_WORD = "@@answer"
_UNPACK_SECONDS, _PROBE_SECONDS = 600.0, 120.0
_PATIENCE = 10.0


class WorkerRun:
    """One job on one phone.

    Args:
        adb: The phone.
        folder: Where to work on it.
        python: The interpreter there.
        wheels: Folder of this machine with wheels for it; None for the cache and pip's index.
        job: What to measure.
        emit: Takes the events.
    """

    def __init__(
        self,
        adb: Adb,
        folder: PhoneFolder,
        python: str,
        wheels: Path | None,
        job: Job,
        emit: Emit,
    ) -> None:
        self._adb, self._folder, self._python, self._wheels = adb, folder, python, wheels
        self._job, self._emit = job, emit
        self._where = f"the phone {adb.serial}"

    def go(self, machine: Machine) -> None:
        """Copy the worker and what it needs, run it, and hand on its events.

        Args:
            machine: The phone, as Android sees it.

        Raises:
            Cut: The connection broke.
            DeviceError: There is no Python that would do, a package is missing, the phone is full,
                or the worker failed.
        """
        with scratch_folder() as here:
            there = self._look(here)
            self._send(there, here)
        self._measure(machine)

    def _look(self, here: Path) -> Board:
        asked = {"folders": ["."], "modules": dict(MODULES)}
        printed = self._ask("probe.py", asked, here, _PROBE_SECONDS)
        return board_of(
            self._where,
            self._python,
            printed.status or 0,
            _answer(printed),
            printed.complaints,
        )

    def _send(self, there: Board, here: Path) -> None:
        formats = {read_model(path)[0] for path in self._job.models}
        into = here / "wheels"
        into.mkdir()
        payload = gather(self._job, formats, there.interpreter, into, self._wheels, self._emit)
        archive = here / "payload.tar"
        with archive.open("wb") as stream:
            payload.write_tar(stream, lambda done, total: None)
        needed = payload.taken + archive.stat().st_size
        check_room(self._where, there, needed)
        self._emit(Progressed("copying to the phone", 0, 1))
        self._folder.put(archive, archive.name, needed)
        receive = here / "receive.py"
        receive.write_text(board.text(receive.name), "utf-8")
        self._folder.put(receive, receive.name, needed)
        self._emit(Progressed("copying to the phone", 1, 1))
        printed = self._ask("unpack.py", {"imports": payload.imports}, here, _UNPACK_SECONDS)
        answer = _answer(printed) or {}
        if answer.get("kind") != "":
            raise not_received(self._where, there, needed, answer, printed.complaints)

    def _measure(self, machine: Machine) -> None:
        place = shlex.quote(self._folder.path)
        # What runs there reads our packages first and leaves nothing outside of the folder.
        process = self._adb.start(
            self._folder.script(
                f"d={place}\n"
                'export PYTHONUSERBASE="${PYTHONUSERBASE:-$HOME/.local}"\n'
                "export HOME=$d/tmp TMPDIR=$d/tmp XDG_CACHE_HOME=$d/tmp\n"
                "export PYTHONPATH=$d/package:$d/site PYTHONPYCACHEPREFIX=$d/tmp\n"
                "export ORT_DISABLE_TELEMETRY=1\n"
                f"{shlex.quote(self._python)} -m {WORKER} {REQUEST} --until-stdin-closes"
            )
        )

        def emit(event: Event) -> None:
            if isinstance(event, Started):
                event = dataclasses.replace(event, machine=_both(event.machine, machine))
            self._emit(event)

        try:
            follow(process, emit)
        except DeviceError as error:
            finish(process, _PATIENCE)
            # The client says 0 when the connection was cut; a worker that failed does not.
            if process.returncode == 0:
                raise Cut("the worker ran on it") from error
            raise ended(self._where, process.returncode, error) from error
        finally:
            finish(process, _PATIENCE)

    def _ask(self, script: str, asked: dict[str, Any], here: Path, seconds: float) -> Printed:
        """Run one of the scripts for boards."""
        path, question = here / script, here / "asked.json"
        path.write_text(board.text(script), "utf-8")
        question.write_text(json.dumps({**asked, "word": _WORD}) + "\n", "utf-8")
        for file in (path, question):
            self._folder.put(file, file.name, 0)
        command = (
            f"TMPDIR=$PWD PYTHONDONTWRITEBYTECODE=1 {shlex.quote(self._python)} {script} "
            f"<{question.name}"
        )
        printed = self._adb.run(self._folder.script(command), seconds=seconds)
        if printed.status is None:
            raise Cut("it was prepared")
        return printed


def _answer(printed: Printed) -> dict[str, Any] | None:
    """What a script answered; None for nothing."""
    text = sections(printed.output).get(_WORD[2:], "")
    answer = parsed(text.strip().partition("\n")[0])
    if answer is None:
        return None
    if (
        answer.get("system") == "Android"
    ):  # as Python calls it since 3.13; it is a Linux all the same
        answer["system"] = "Linux"
    return answer


def _both(worker: Machine, phone: Machine) -> Machine:
    """What the worker sees, and what only Android knows."""
    return dataclasses.replace(
        worker,
        name=phone.name or worker.name,
        soc=phone.soc or worker.soc,
        system=phone.system,
        governors=phone.governors or worker.governors,
        maximum_mhz=phone.maximum_mhz or worker.maximum_mhz,
    )
