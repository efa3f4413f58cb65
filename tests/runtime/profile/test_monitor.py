import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedf.runtime.profile.monitor import Monitor
from tests.contract.test_machine import lay

linux = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="there is no /proc/stat")


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Another process that computes."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@linux
def test_the_load_of_others_is_seen_and_our_own_is_not() -> None:
    monitor = Monitor(time.monotonic())
    with busy():
        time.sleep(0.2)
        monitor.state()
        time.sleep(0.5)
        loaded = monitor.state()
    assert loaded.other_load is not None
    assert loaded.other_load > 0.3
    monitor.state()
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    own = monitor.state()
    assert own.other_load is not None
    # The rest of the machine may be doing something; our own half second is not in it twice.
    assert own.other_load < loaded.other_load + 0.7


def stat(busy: int, steal: int) -> str:
    return f"cpu  {busy} 0 0 1000 0 0 0 {steal} 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"


def test_what_others_and_the_hypervisor_used_is_counted_in_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedf.runtime.profile import monitor as module

    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module.os, "sysconf", lambda name: 100)
    lay(tmp_path, {"proc/stat": stat(1000, 50)})
    monitor = Monitor(0.0, tmp_path)
    now = 2.0
    lay(tmp_path, {"proc/stat": stat(1300, 70)})
    state = monitor.state()
    assert state.at_s == 2.0
    assert state.other_load == pytest.approx(1.5, abs=0.05)  # less what this test used itself
    assert state.stolen == pytest.approx(0.1)
    now = 4.0
    state = monitor.state()  # nothing but our own
    assert (state.other_load, state.stolen) == (0.0, 0.0)


def test_frequency_temperature_and_throttling(tmp_path: Path) -> None:
    cpus, thermal = "sys/devices/system/cpu", "sys/class/thermal"
    lay(
        tmp_path,
        {
            f"{cpus}/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
            f"{cpus}/cpu1/cpufreq/scaling_cur_freq": "600000\n",
            f"{cpus}/cpu0/thermal_throttle/core_throttle_count": "3\n",
            f"{thermal}/thermal_zone0/type": "cpu-thermal\n",
            f"{thermal}/thermal_zone0/temp": "61350\n",
            f"{thermal}/thermal_zone1/temp": "nothing\n",
            f"{thermal}/cooling_device0/type": "cpufreq-cpu0\n",
            f"{thermal}/cooling_device0/cur_state": "2\n",
            f"{thermal}/cooling_device1/type": "pwm-fan\n",
            f"{thermal}/cooling_device1/cur_state": "4\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "sys/fs/cgroup/cpu.stat": "nr_periods 9\nnr_throttled 7\n",
        },
    )
    monitor = Monitor(0.0, tmp_path)
    state = monitor.state()
    assert state.frequency_mhz == (1500.0, 600.0)
    assert state.temperature_c == {"cpu-thermal 0": 61.35}
    assert state.throttled == 3 + 2 + 4 + 7  # the fan is no throttling
    lay(tmp_path, {f"{thermal}/cooling_device0/cur_state": "5\n"})
    assert monitor.state().throttled == 3 + 5 + 4 + 7


def test_quotas_of_our_control_group_and_those_above_it(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/old\n3:memory:/old\n0::/app.slice/job\n",
            "sys/fs/cgroup/app.slice/cpu.stat": "nr_throttled 1\n",
            "sys/fs/cgroup/app.slice/job/cpu.stat": "nr_throttled 2\n",
            "sys/fs/cgroup/other/cpu.stat": "nr_throttled 50\n",
            "sys/fs/cgroup/cpu/old/cpu.stat": "nr_throttled 4\n",
        },
    )
    assert Monitor(0.0, tmp_path).state().throttled == 1 + 2 + 4


def test_a_machine_that_says_nothing_has_an_empty_state(tmp_path: Path) -> None:
    state = Monitor(0.0, tmp_path).state()
    assert (state.other_load, state.stolen, state.throttled) == (None, None, None)
    assert (state.frequency_mhz, state.temperature_c) == ((), {})


@pytest.mark.parametrize("text", ["", "cpu\n", "cpu a b c d e f g h\n", "cpu 1 2 3\n"])
def test_a_strange_stat_is_no_load(tmp_path: Path, text: str) -> None:
    lay(tmp_path, {"proc/stat": text})
    assert Monitor(0.0, tmp_path).state().other_load is None
