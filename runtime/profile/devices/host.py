"""This machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from edgedf import typed_json
from edgedf.errors import DeviceError
from edgedf.files import scratch_folder
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.stream import end, follow
from edgedf.runtime.profile.events import Emit

__all__ = ["WORKER", "HostDevice"]

WORKER = "edgedf.runtime.profile.worker"
"""Module that is run as the worker."""

_PATIENCE_S = 5.0
_LEFT_OUT = frozenset(
    {
        "PYTHONASYNCIODEBUG",
        "PYTHONDEVMODE",
        "PYTHONDUMPREFS",
        "PYTHONINSPECT",
        "PYTHONMALLOC",
        "PYTHONMALLOCSTATS",
        "PYTHONPROFILEIMPORTTIME",
        "PYTHONTRACEMALLOC",
        "PYTHONVERBOSE",
    }
)


class HostDevice:
    """The machine that this runs on.

    The worker is a process of its own, as it is anywhere else: what the asking side does, such as
    drawing a progress bar, is then not part of its memory and processor time. It inherits the
    environment, since libraries may be found through it, but for what makes Python slower or
    leaves it open at the end. It starts in an empty folder: ``python -m`` looks for modules there
    first, and the user's folder may hold a ``numpy.py``.
    """

    name = "host"

    def run(self, job: Job, emit: Emit) -> None:
        """See :meth:`edgedf.runtime.profile.devices.base.Device.run`."""
        models = tuple(str(path.absolute()) for path in job.models)
        images = tuple(str(path.absolute()) for path in job.images)
        request = typed_json.encode(job.request(models, images))
        with scratch_folder() as folder:
            path = folder / "request.json"
            path.write_text(json.dumps(request), encoding="utf-8")
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", WORKER, str(path), "--until-stdin-closes"],
                    cwd=folder,
                    env=_environment(os.environ),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    # Ctrl-C is for us; the worker ends when we have taken what it had to say.
                    start_new_session=True,
                )
            except OSError as error:
                raise DeviceError(
                    f"Python cannot be started again ({sys.executable}): {error.strerror}.",
                    next_step="see that memory and processes are not used up, then run it again",
                ) from error
            try:
                follow(process, emit)
            finally:
                # A worker that waits for a full pipe would not see that its input is closed.
                if process.stdout is not None:
                    process.stdout.close()
                end(process, seconds=_PATIENCE_S)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """That of the worker; relative paths in ``PYTHONPATH`` are those of our folder, not of its."""
    taken = {name: value for name, value in own.items() if name not in _LEFT_OUT}
    if taken.get("PYTHONPATH"):
        entries = taken["PYTHONPATH"].split(os.pathsep)
        taken["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries)
    return taken
