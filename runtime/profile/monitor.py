"""What a machine does beside the measurement: load of others, frequency, temperature, throttling.

Everything is read from Linux's ``/proc`` and ``/sys``. What a machine lacks stays None or empty.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from edgedf.machine import number_in, text_in
from edgedf.runtime.profile.events import State

__all__ = ["Monitor"]

_STEAL = 7  # column of /proc/stat: user nice system idle iowait irq softirq steal guest guest_nice
_BUSY = (0, 1, 2, 5, 6)  # guest time is in user and nice already
_RASPBERRY_PI = "sys/devices/platform/soc/soc:firmware/get_throttled"
_COOLING_CPU = ("cpu", "thermal-cpu", "processor")


class Monitor:
    """Takes states; each tells of the time since the one before.

    Args:
        started: The worker's zero on the monotonic clock.
        root: Of the file system with ``proc`` and ``sys``.
    """

    def __init__(self, started: float, root: Path = Path("/")) -> None:
        self._started, self._root = started, root
        self._before = self._times()

    def state(self) -> State:
        """The machine now."""
        before, now = self._before, self._times()
        self._before = now
        other = stolen = None
        elapsed = now[0] - before[0]
        if before[2] is not None and now[2] is not None and elapsed > 0:
            own = now[1] - before[1]
            # Ticks are hundredths of a second; over a short time theirs may be fewer than ours.
            other = max(0.0, (now[2][0] - before[2][0] - own) / elapsed)
            stolen = max(0.0, (now[2][1] - before[2][1]) / elapsed)
        return State(
            at_s=round(now[0] - self._started, 4),
            other_load=None if other is None else round(other, 4),
            stolen=None if stolen is None else round(stolen, 4),
            frequency_mhz=tuple(self._frequencies()),
            temperature_c=dict(self._temperatures()),
            throttled=self._throttled(),
        )

    def _times(self) -> tuple[float, float, tuple[float, float] | None]:
        """Now, our own processor time, and what all processes and the hypervisor used; seconds."""
        used = (
            resource.getrusage(resource.RUSAGE_SELF),
            resource.getrusage(resource.RUSAGE_CHILDREN),
        )
        own = sum(usage.ru_utime + usage.ru_stime for usage in used)
        return time.monotonic(), own, self._all()

    def _all(self) -> tuple[float, float] | None:
        first = text_in(self._root / "proc/stat").partition("\n")[0].split()
        try:
            ticks = [int(column) for column in first[1:]]
            second = os.sysconf("SC_CLK_TCK")
            return sum(ticks[at] for at in _BUSY) / second, ticks[_STEAL] / second
        except (ValueError, IndexError, OSError):
            return None

    def _frequencies(self) -> Iterator[float]:
        folder = self._root / "sys/devices/system/cpu"
        for path in sorted(folder.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")):
            khz = number_in(path)
            if khz is not None:
                yield khz / 1e3

    def _temperatures(self) -> Iterator[tuple[str, float]]:
        for zone in sorted((self._root / "sys/class/thermal").glob("thermal_zone*")):
            thousandths = number_in(zone / "temp")
            if thousandths is not None:
                yield f"{text_in(zone / 'type') or 'zone'} {zone.name[12:]}", thousandths / 1e3

    def _throttled(self) -> int | None:
        """A number that rises whenever the machine slows itself down further."""
        counters = list(self._throttling())
        return sum(counters) if counters else None

    def _throttling(self) -> Iterator[int]:
        cpus, thermal = self._root / "sys/devices/system/cpu", self._root / "sys/class/thermal"
        for path in cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"):  # Intel
            yield number_in(path) or 0
        bits = text_in(self._root / _RASPBERRY_PI)  # of low voltage, capped frequency, heat
        if bits:
            with contextlib.suppress(ValueError):
                yield bin(int(bits, 16)).count("1")
        for device in thermal.glob("cooling_device*"):  # of Arm boards and phones: levels
            if text_in(device / "type").lower().startswith(_COOLING_CPU):
                yield number_in(device / "cur_state") or 0
        for folder in self._control_groups():
            for line in text_in(folder / "cpu.stat").splitlines():
                name, _, value = line.partition(" ")
                if name == "nr_throttled" and value.isdigit():  # a quota of processor time
                    yield int(value)

    def _control_groups(self) -> Iterator[Path]:
        """Our own and those above it, each of which may have a quota (cgroups(7))."""
        for line in text_in(self._root / "proc/self/cgroup").splitlines() or ["0::/"]:
            _, _, rest = line.partition(":")
            controllers, _, name = rest.partition(":")
            top = self._root / "sys/fs/cgroup"
            if controllers:  # version 1
                if "cpu" not in controllers.split(","):
                    continue
                top /= "cpu"
            parts = [part for part in name.split("/") if part not in ("", "..")]
            for depth in range(len(parts) + 1):
                yield top.joinpath(*parts[:depth])
