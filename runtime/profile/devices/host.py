"""This machine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from edgedf import typed_json
from edgedf.errors import DeviceError
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.stream import follow
from edgedf.runtime.profile.events import Emit

__all__ = ["WORKER", "HostDevice"]

WORKER = "edgedf.runtime.profile.worker"
"""Module that is run as the worker."""

_PATIENCE_S = 5.0


class HostDevice:
    """The machine that this runs on.

    The worker is a process of its own, as it is anywhere else: what the asking side does, such as
    drawing a progress bar, is then not part of its memory and processor time. It inherits the
    environment, since libraries may be found through it.
    """

    name = "host"

    def run(self, job: Job, emit: Emit) -> None:
        """See :meth:`edgedf.runtime.profile.devices.base.Device.run`."""
        models = tuple(str(path.absolute()) for path in job.models)
        images = tuple(str(path.absolute()) for path in job.images)
        request = typed_json.encode(job.request(models, images))
        with tempfile.TemporaryDirectory(prefix="edgedf-profile-") as folder:
            path = Path(folder) / "request.json"
            path.write_text(json.dumps(request), encoding="utf-8")
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", WORKER, str(path), "--until-stdin-closes"],
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
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for the worker's end, which a closed standard input brings about; then insist."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    for insist in (process.terminate, process.kill):
        try:
            process.wait(_PATIENCE_S)
            break
        except subprocess.TimeoutExpired:
            insist()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
