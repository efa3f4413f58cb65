"""The worker with a real load beside it: what a throttled or busy host looks like."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import edgedf.sample
from edgedf.runtime.profile.assemble import assemble
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.host import HostDevice
from edgedf.runtime.profile.events import Block, Event
from edgedf.runtime.profile.request import QUICK
from tests.runtime.tiny import write_tiny

SECONDS = 2.0
EFFORT = replace(QUICK, seconds=SECONDS, cold_starts=0, pipeline_queries=0, operator_queries=0)


def test_a_real_load_started_halfway_makes_the_result_invalid(tmp_path: Path) -> None:
    job = Job((write_tiny(tmp_path, "tflite"),), (Path(edgedf.sample.images()[0]),), (1,), EFFORT)
    events: list[Event] = []
    busy: list[subprocess.Popen[bytes]] = []

    def emit(event: Event) -> None:
        events.append(event)
        spent = sum(sum(one.times_ms) for one in events if isinstance(one, Block)) / 1e3
        if not busy and spent > SECONDS / 2:
            for _ in range(2):
                busy.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))

    try:
        HostDevice().run(job, emit)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert busy
    (result,) = assemble(job, events, "host").results
    assert result.validity.status == "invalid"
    assert any("busy" in reason or "latency was" in reason for reason in result.validity.reasons)
