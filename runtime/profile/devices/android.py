"""What an Android phone says of itself: shell scripts for it, and what their output means."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgedf.machine import Machine, int8_dot_product, processor_name
from edgedf.runtime.profile.events import State

__all__ = ["FACTS", "STATE", "abis", "machine", "other_load", "sections", "state"]

_MARK = "@@"
_CPUS = "/sys/devices/system/cpu/cpu[0-9]*"

FACTS = f"""\
echo {_MARK}props; getprop
echo {_MARK}uname; uname -m; uname -r
echo {_MARK}cpuinfo; cat /proc/cpuinfo
echo {_MARK}memory; head -n 1 /proc/meminfo
echo {_MARK}cpus; for c in {_CPUS}; do
  echo "${{c##*/cpu}} $(cat "$c/cpufreq/scaling_governor") $(cat "$c/cpufreq/cpuinfo_max_freq")"
done
"""
"""Prints what :func:`machine` and :func:`abis` read. Does not change while it runs."""

STATE = f"""\
echo {_MARK}cpus; for c in {_CPUS}; do
  f="$c/cpufreq"
  echo "${{c##*/cpu}} $(cat "$f/scaling_cur_freq") $(cat "$f/scaling_max_freq")"
done
echo {_MARK}thermal; dumpsys thermalservice
echo {_MARK}zones; for z in /sys/class/thermal/thermal_zone*; do
  echo "$(cat "$z/temp") $(cat "$z/type")"
done
echo {_MARK}battery; dumpsys battery
"""
"""Prints what :func:`state` reads."""

_SENSORS = re.compile(r"cpu|soc|skin|batt|tsens|^ap|big|mid|lit", re.IGNORECASE)
_MOST_SENSORS = 16  # a Snapdragon has a hundred zones


def sections(output: str) -> dict[str, str]:
    """What a script printed below each of its ``@@name`` lines."""
    parts = re.split(rf"^{_MARK}(\w+)[ \t]*\r?\n?", output, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def abis(facts: Mapping[str, str]) -> tuple[str, ...]:
    """Binary interfaces that the phone runs, the preferred one first, such as ``arm64-v8a``."""
    props = _properties(facts.get("props", ""))
    listed = props.get("ro.product.cpu.abilist") or props.get("ro.product.cpu.abi", "")
    return tuple(abi for abi in listed.split(",") if abi)


def machine(facts: Mapping[str, str]) -> Machine:
    """The phone, by what :data:`FACTS` printed."""
    props = _properties(facts.get("props", ""))
    maker, model = props.get("ro.product.manufacturer", ""), props.get("ro.product.model", "")
    named = model if model.lower().startswith(maker.lower()) else f"{maker} {model}"
    architecture, _, kernel = facts.get("uname", "").strip().partition("\n")
    release, level = (
        props.get("ro.build.version.release", ""),
        props.get("ro.build.version.sdk", ""),
    )
    system = f"Android {release}" + (f" (API {level})" if level else "")
    memory = re.search(r"MemTotal:\s+(\d+) kB", facts.get("memory", ""))
    governors, maximum = [], []
    cpus = sorted(_rows(facts.get("cpus", "")), key=lambda row: int(row[0]))
    for row in cpus:
        governors += [word for word in row[1:2] if not word.isdigit()]
        maximum += [int(word) / 1000 for word in row[2:3] if word.isdigit()]
    return Machine(
        cpu=processor_name(facts.get("cpuinfo", "")),
        architecture=architecture.strip(),
        system=system + (f", kernel {kernel.strip()}" if kernel.strip() else ""),
        name=named.strip(),
        soc=props.get("ro.soc.model") or props.get("ro.board.platform", ""),
        cores=len(cpus) or None,
        memory_mb=int(memory[1]) // 1024 if memory else None,
        governors=tuple(dict.fromkeys(governors)),
        maximum_mhz=tuple(maximum),
        int8_dot_product=int8_dot_product(facts.get("cpuinfo", "")),
    )


def state(
    printed: Mapping[str, str],
    at_s: float,
    *,
    throttled: int,
    load: float | None = None,
) -> tuple[State, int]:
    """The phone at one moment, by what :data:`STATE` printed.

    Android tells how hard it throttles now, not how often it has: a counter goes up with every
    state in which it does.

    Args:
        printed: Sections of the output.
        at_s: Seconds since the measurement began.
        throttled: The counter so far; -1 for the first state, which sets it to 0.
        load: Processors that others kept busy since the last state.

    Returns:
        The state, and the counter.
    """
    cpus = sorted(_rows(printed.get("cpus", "")), key=lambda row: int(row[0]))
    frequency = tuple(int(row[1]) / 1000 for row in cpus if len(row) > 1 and row[1].isdigit())
    status = re.search(r"Thermal Status: (\d+)", printed.get("thermal", ""))
    hot = status is not None and int(status[1]) > 0
    counter = 0 if throttled < 0 else throttled + hot
    return (
        State(
            at_s=at_s,
            other_load=load,
            frequency_mhz=frequency,
            temperature_c=_temperatures(printed),
            throttled=counter if status else None,
        ),
        counter,
    )


def other_load(before: str, after: str) -> float | None:
    """Processors that processes other than the benchmark kept busy while it ran.

    Args:
        before: First line of ``/proc/stat``, then ``/proc/uptime``, before it.
        after: The same after it, then what the shell's ``times`` says.

    Returns:
        The number, at least 0; None where the phone does not tell all of that.
    """
    first, last = _busy(before), _busy(after)
    used = re.findall(r"(\d+)m([\d.]+)s", after)
    if first is None or last is None or len(used) < 4:
        return None
    ours = sum(60 * int(minutes) + float(seconds) for minutes, seconds in used[-2:])
    passed = last[1] - first[1]
    if passed <= 0:
        return None
    return max(0.0, (last[0] - first[0] - ours) / passed)


_TICKS = 100  # of /proc/stat in a second: USER_HZ, 100 on every architecture that Android knows


def _busy(text: str) -> tuple[float, float] | None:
    """Processor time spent and time passed since the phone started, in seconds."""
    stat = re.search(r"^cpu +(\d+(?: \d+){6,})", text, re.MULTILINE)
    uptime = re.search(r"^(\d+\.\d+) \d+\.\d+\s*$", text, re.MULTILINE)
    if stat is None or uptime is None:
        return None
    user, nice, system, _idle, _io, irq, softirq = map(int, stat[1].split()[:7])
    return (user + nice + system + irq + softirq) / _TICKS, float(uptime[1])


def _properties(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\[(.+?)\]: \[(.*)\]\s*$", text, re.MULTILINE))


def _rows(text: str) -> list[list[str]]:
    return [words for words in map(str.split, text.splitlines()) if words and words[0].isdigit()]


def _temperatures(printed: Mapping[str, str]) -> dict[str, float]:
    """Of the thermal service where it answers, else of the kernel's zones; and the battery's."""
    thermal = printed.get("thermal", "")
    _, now, current = thermal.partition("Current temperatures from HAL:")
    current = current.partition("cooling devices")[0] if now else ""
    degrees_of: dict[str, float] = {}
    for value, name in re.findall(r"Temperature\{mValue=([-\d.]+), .*?mName=([^,}]+)", current):
        _take(degrees_of, name, float(value))
    if not degrees_of:
        for line in printed.get("zones", "").splitlines():
            degrees, _, kind = line.strip().partition(" ")
            if re.fullmatch(r"-?\d+", degrees) and _SENSORS.search(kind):
                number = int(degrees)
                _take(degrees_of, kind, number / 1000 if abs(number) >= 1000 else float(number))
    battery = re.search(r"^\s*temperature: (-?\d+)", printed.get("battery", ""), re.MULTILINE)
    if battery:
        _take(degrees_of, "battery", int(battery[1]) / 10)
    return degrees_of


def _take(degrees_of: dict[str, float], name: str, degrees: float) -> None:
    if -40 < degrees < 150 and (len(degrees_of) < _MOST_SENSORS or name == "battery"):
        degrees_of[name] = max(degrees, degrees_of.get(name, degrees))
