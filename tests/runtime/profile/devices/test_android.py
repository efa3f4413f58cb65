from __future__ import annotations

import pytest

from edgedf.runtime.profile.devices.android import abis, machine, other_load, sections, state

FACTS = """\
@@props
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 8]
[ro.soc.model]: [Tensor G3]
[ro.board.platform]: [zuma]
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a]
@@uname
aarch64
5.15.110-android14
@@cpuinfo
processor	: 0
CPU implementer	: 0x41
CPU part	: 0xd46

processor	: 1
CPU implementer	: 0x41
CPU part	: 0xd4d
@@memory
MemTotal:        7812345 kB
@@cpus
0 sched_pixel 1704000
10 performance 2367000
2 sched_pixel 2914000
"""


def test_machine() -> None:
    facts = sections(FACTS.replace("\n", "\r\n"))
    found = machine(facts)
    assert found.name == "Google Pixel 8" and found.soc == "Tensor G3"
    assert found.system == "Android 14 (API 34), kernel 5.15.110-android14"
    assert found.architecture == "aarch64" and found.cores == 3 and found.memory_mb == 7629
    assert "Cortex-A510" in found.cpu and "Cortex-A715" in found.cpu
    assert found.governors == ("sched_pixel", "performance")
    assert found.maximum_mhz == (1704.0, 2914.0, 2367.0)  # in order of the processors' numbers
    assert abis(facts) == ("arm64-v8a", "armeabi-v7a")


def test_machine_that_says_little() -> None:
    old = "@@props\n[ro.product.cpu.abi]: [x86]\n[ro.board.platform]: [msm]\n@@cpus\ncpu* \n"
    found = machine(sections(old))
    assert (found.soc, found.cores, found.memory_mb, found.governors) == ("msm", None, None, ())
    assert abis(sections(old)) == ("x86",)
    assert abis({}) == ()


def test_zones_where_the_service_is_silent() -> None:
    zones = "45200 cpu-0-0\n31 skin-therm\n12000 modem\nx broken\n-274000 battery\n48000 cpu-0-0\n"
    found, counter = state({"zones": zones}, 1.5, throttled=-1)
    assert found.temperature_c == {"cpu-0-0": 48.0, "skin-therm": 31.0}
    assert found.at_s == 1.5 and found.throttled is None and counter == 0


def test_throttling_is_counted_from_the_first_state_on() -> None:
    hot, cool = {"thermal": "Thermal Status: 3"}, {"thermal": "Thermal Status: 0"}
    counter, told = -1, []
    for printed in (hot, cool, hot, hot):
        found, counter = state(printed, 0.0, throttled=counter)
        told.append(found.throttled)
    assert told == [0, 0, 1, 2]


def test_load_of_others() -> None:
    before = "cpu  100 0 100 1000 5 0 0 0 0 0\n50.00 90.00\n"
    after = "cpu  700 0 150 1500 5 0 0 0 0 0\n60.00 95.00\n0m0.00s 0m0.01s\n0m3.00s 0m0.50s\n"
    # 6.5 s of processor time in 10 s, 3.5 s of them ours
    assert other_load(before, after) == pytest.approx(0.3)
    assert other_load(before, after.replace("0m3.00s", "1m3.00s")) == 0.0
    assert other_load("", after) is None and other_load(before, "cpu  700") is None
