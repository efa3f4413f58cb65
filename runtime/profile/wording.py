"""What a profile says, in words: for the terminal, for Markdown and for the HTML report alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgedf.int8_kernels import kernels_in_words
from edgedf.runtime.int8_speed import slower_than_float
from edgedf.runtime.profile.against_wording import VERDICT_MARKS, compared, verdict_line
from edgedf.runtime.profile.document import (
    DeviceRun,
    Latency,
    OperatorShares,
    Problem,
    Profile,
    Ratio,
    Result,
    Sustained,
    ValidityStatus,
)
from edgedf.runtime.profile.figures import NONE, Section, kib, megabytes, ms, number
from edgedf.runtime.profile.recommend_wording import recommended
from edgedf.runtime.profile.request import FULL

__all__ = [
    "MARKS",
    "VERDICT_MARKS",
    "Section",
    "compared",
    "device_line",
    "headline",
    "kib",
    "megabytes",
    "ms",
    "name_of",
    "number",
    "problem_line",
    "ratio_line",
    "sections",
    "standing",
    "sustained_line",
    "top_operators",
    "verdict_line",
]

MARKS: Mapping[ValidityStatus, str] = {"valid": "✓", "semi-valid": "~", "invalid": "✗"}

_TOP = 10
_MOST_MINUTES = 12


def name_of(profile: Profile, result: Result) -> str:
    """``student_int8.tflite, 1 thread``."""
    return f"{profile.models[result.model].file}, {result.threads} thread{_s(result.threads)}"


def headline(profile: Profile, result: Result) -> str:
    """A result in a line: p50 with interval, p90, throughput, size, memory, validity."""
    name, found = name_of(profile, result), result.latency
    if found is None:
        why = "; ".join(result.validity.reasons)
        if result.problems:
            why = result.problems[0].message.rstrip(".")
        return f"{name}: not measured: {why}"
    said = [_middle(found)]
    if found.p90_ms is not None:
        said.append(f"p90 {ms(found.p90_ms)}")
    said.append(f"{number(found.throughput)} a second")
    takes = [megabytes(profile.models[result.model].size_bytes)]
    if result.memory is not None:
        takes.append(f"{kib(result.memory.model_kib)} of memory")
    return f"{name}: {', '.join(said)}; {', '.join(takes)}; {result.validity.status}"


def ratio_line(profile: Profile, run: DeviceRun, ratio: Ratio) -> str:
    """A ratio in a sentence: which takes how many times as long, with its interval."""
    first, second = (name_of(profile, run.results[at]) for at in (ratio.first, ratio.second))
    value, low, high, word = ratio.ratio, ratio.low, ratio.high, "slower"
    if ratio.ratio < 1 and ratio.low > 0:
        value, low, high, word = 1 / ratio.ratio, 1 / ratio.high, 1 / ratio.low, "faster"
    if ratio.low <= 1 <= ratio.high:
        return (
            f"{second} is as fast as {first} as far as can be told: {number(ratio.ratio)} times as "
            f"long ({number(ratio.low)} to {number(ratio.high)})"
        )
    return (
        f"{second} is {number(value)} times {word} than {first} ({number(low)} to {number(high)})"
        if word == "faster"
        else f"{second} takes {number(value)} times as long as {first} "
        f"({number(low)} to {number(high)})"
    )


def sustained_line(found: Sustained) -> str:
    """A sustained run in a sentence."""
    minutes = found.seconds / 60
    long = f"{minutes:.0f} min" if minutes >= 2 else f"{found.seconds:.0f} s"
    interval = f"{number(found.ratio_low)} to {number(found.ratio_high)}"
    parts = "last minute" if found.seconds >= 120 else "second half"
    against = "the first" if found.seconds < 120 else "the first minute"
    if found.ratio_low > 1:
        said = f"slowed down: the {parts} took {number(found.ratio)} times as long as {against}"
    elif found.ratio_high < 1:
        said = f"got faster: the {parts} took {number(found.ratio)} times as long as {against}"
    else:
        said = f"held: the {parts} took {number(found.ratio)} times as long as {against}"
    return f"{long} without a pause {said} ({interval})"


def device_line(run: DeviceRun) -> str:
    """What was measured on, in a line."""
    machine = run.machine
    if machine is None:
        return f"{run.device}: never reached"
    cores = "" if machine.cores is None else f"{machine.cores} processor{_s(machine.cores)}"
    memory = "" if machine.memory_mb is None else f"{machine.memory_mb / 1024:.1f} GiB"
    governors = ", ".join(machine.governors)
    python = f"Python {machine.python}" if machine.python else ""
    dot = {True: "int8 dot product", False: "no int8 dot product", None: ""}
    said = (
        *(machine.name, machine.cpu, machine.soc, cores, machine.architecture, memory),
        dot[machine.int8_dot_product],
        *(machine.system, f"governor {governors}" if governors else "", python),
    )
    return f"{run.device}: {', '.join(part for part in dict.fromkeys(said) if part)}"


def problem_line(problem: Problem) -> str:
    """A problem in a line, with what to do now."""
    where = f"{problem.step}: " if problem.step else ""
    expected = f" Expected: {problem.expected}." if problem.expected else ""
    todo = f" Next step: {problem.next_step}." if problem.next_step else ""
    return f"{where}{problem.message}{expected}{todo}"


def standing(profile: Profile) -> str:
    """Whether the figures may be published, and if not, why not."""
    if profile.publishable:
        return "Publishable: every figure is valid, and the effort was the full one."
    return f"Not publishable: {'; '.join(_faults(profile)) or 'nothing was measured'}."


def top_operators(found: OperatorShares) -> tuple[tuple[int, float], ...]:
    """The ten operators that take the most time.

    Returns:
        Index into the operators and share of the time of all of them, 0 to 1, the largest first.
    """
    total = sum(operator.milliseconds for operator in found.operators)
    if not total > 0:
        return ()
    order = sorted(range(len(found.operators)), key=lambda at: -found.operators[at].milliseconds)
    return tuple((at, found.operators[at].milliseconds / total) for at in order[:_TOP])


def sections(profile: Profile, run: DeviceRun) -> tuple[Section, ...]:
    """All tables of a device, from latency to which file to ship.

    Parts without anything in them are left out; why a device's run is not complete is not among
    them.

    Args:
        profile: The document.
        run: One of its devices.
    """
    found = (
        _latency(profile, run),
        _ratios(profile, run),
        _starts(profile, run),
        _pipelines(profile, run),
        *_operators(profile, run),
        *_sustained(profile, run),
        *recommended(profile, run),
        _problems(profile, run),
    )
    return tuple(section for section in found if section.rows or section.remarks)


def _faults(profile: Profile) -> Iterator[str]:
    effort = profile.effort
    if effort.queries < FULL.queries or effort.seconds < FULL.seconds:
        yield (
            f"{effort.queries:,} inferences and {effort.seconds:g} s were asked for, "
            f"{FULL.queries:,} and {FULL.seconds:g} s are needed"
        )
    for run in profile.devices:
        if run.status != "complete":
            yield f"{run.device} {'was cut off' if run.status == 'partial' else 'gave nothing'}"
    results = [result for run in profile.devices for result in run.results]
    for status in ("semi-valid", "invalid"):
        count = sum(result.validity.status == status for result in results)
        if count:
            yield f"{count} of {len(results)} results {'is' if count == 1 else 'are'} {status}"


def _middle(found: Latency) -> str:
    if found.p50_ms is None:
        return f"mean {ms(found.mean_ms)}"
    return f"p50 {ms(found.p50_ms)}{_interval(found, ' ({} to {})')}"


def _interval(found: Latency, form: str) -> str:
    low, high = found.p50_low_ms, found.p50_high_ms
    return "" if low is None or high is None else form.format(number(low), number(high))


def _latency(profile: Profile, run: DeviceRun) -> Section:
    headings = (
        *("model", "threads", "p50, ms", "95 % interval", "p90", "p99", "min", "mean", "std"),
        "per second",
    )
    rows, said = [], []
    for result in run.results:
        found, mark = result.latency, MARKS[result.validity.status]
        figures = (NONE,) * (len(headings) - 2)
        if found is not None:
            figures = (
                number(found.p50_ms),
                _interval(found, "{} to {}") or NONE,
                *(number(value) for value in (found.p90_ms, found.p99_ms, found.minimum_ms)),
                *(number(value) for value in (found.mean_ms, found.std_ms, found.throughput)),
            )
        file = profile.models[result.model].file
        rows.append((f"{mark} {file}", str(result.threads), *figures))
        if result.validity.reasons:
            reasons = "; ".join(result.validity.reasons)
            said.append(f"{mark} {name_of(profile, result)}: {result.validity.status}: {reasons}.")
        if result.int8_kernels not in (None, "exact"):
            said.append(f"{file} in {result.runtime}: {kernels_in_words(result.int8_kernels)}.")
    return Section("Latency", headings, tuple(rows), tuple(dict.fromkeys(said)))


def _ratios(profile: Profile, run: DeviceRun) -> Section:
    rows = tuple(
        (
            name_of(profile, run.results[ratio.second]),
            name_of(profile, run.results[ratio.first]),
            f"{number(ratio.ratio)}×",
            f"{number(ratio.low)} to {number(ratio.high)}",
            str(ratio.rounds),
        )
        for ratio in run.ratios
    )
    headings = ("takes", "as long as", "ratio", "95 % interval", "rounds")
    said = ("Measured by turns (A B A B …), so what the machine did to both cancels.",)
    slower = filter(None, (_slower_int8(profile, run, ratio) for ratio in run.ratios))
    return Section("Ratios of medians", headings, rows, (*said, *slower) if rows else ())


def _slower_int8(profile: Profile, run: DeviceRun, ratio: Ratio) -> str:
    """That int8 is slower than float of the same format and threads; empty for other pairs."""
    results = run.results[ratio.first], run.results[ratio.second]
    first, second = (profile.models[result.model] for result in results)
    if first.format != second.format or results[0].threads != results[1].threads:
        return ""
    said = slower_than_float(
        (first.precision, second.precision),
        *(ratio.ratio, ratio.low, ratio.high),
        None if run.machine is None else run.machine.int8_dot_product,
        "this processor" if run.device == "host" else run.device,
    )
    return said and f"{first.format}, {results[0].threads} thread{_s(results[0].threads)}: {said}"


def _starts(profile: Profile, run: DeviceRun) -> Section:
    rows = []
    for result in run.results:
        cold, memory = result.cold_start, result.memory
        rows.append(
            (
                profile.models[result.model].file,
                str(result.threads),
                megabytes(profile.models[result.model].size_bytes),
                *((ms(cold.load_ms), ms(cold.first_run_ms)) if cold else (NONE, NONE)),
                ms(cold.total_ms) if cold else NONE,
                *((kib(memory.model_kib), kib(memory.peak_kib)) if memory else (NONE, NONE)),
            )
        )
    headings = ("model", "threads", "size", "load", "first run", "cold start", "memory", "process")
    if not any(result.cold_start or result.memory for result in run.results):
        return Section("", (), ())
    said = (
        "Cold start: from reading the file to a first answer, in a fresh process. Memory: the peak "
        "over what interpreter and libraries take; process: the peak of all.",
    )
    return Section("Start and memory", headings, tuple(rows), said)


def _pipelines(profile: Profile, run: DeviceRun) -> Section:
    rows: list[tuple[str, ...]] = []
    said: list[str] = []
    names: list[str] = []
    for result in run.results:
        found = result.pipeline
        if found is None:
            continue
        names = [stage.name for stage in found.stages]
        rows.append(
            (
                profile.models[result.model].file,
                str(result.threads),
                ms(found.p50_ms),
                number(found.p90_ms),
                *(f"{ms(stage.p50_ms)}, {stage.share:.0%}" for stage in found.stages),
            )
        )
        said.append(f"{found.pictures} pictures of {number(found.megapixels)} megapixels.")
    headings = ("model", "threads", "p50", "p90", *names)
    title = "From a photograph's bytes to a verdict"
    return Section(title, headings, tuple(rows), tuple(dict.fromkeys(said)))


def _operators(profile: Profile, run: DeviceRun) -> Iterator[Section]:
    for result in run.results:
        found = result.operators
        if found is None:
            continue
        rows = tuple(
            (
                found.operators[at].name,
                found.operators[at].kind,
                ms(found.operators[at].milliseconds),
                f"{share:.1%}",
                found.operators[at].delegate or NONE,
            )
            for at, share in top_operators(found)
        )
        said = [f"{found.verdict}."]
        left = len(found.operators) - len(rows)
        if left > 0:
            said.append(f"{left} more operator{_s(left)} take the rest.")
        cost = ""
        if found.plain_ms > 0:
            cost = f"; {found.inference_ms / found.plain_ms - 1:+.0%} for timing them"
        said.append(f"Source: {found.source}{cost}.")
        headings = ("operator", "kind", "time", "share", "delegate")
        yield Section(f"Operators of {name_of(profile, result)}", headings, rows, tuple(said))


def _sustained(profile: Profile, run: DeviceRun) -> Iterator[Section]:
    for result in run.results:
        found = result.sustained
        if found is None:
            continue
        rows = tuple(
            (
                f"{found.minutes[at].at_s / 60:.0f}",
                ms(found.minutes[at].p50_ms),
                ms(found.minutes[at].p90_ms),
                _with_unit(found.minutes[at].frequency_mhz, "MHz"),
                _with_unit(found.minutes[at].temperature_c, "°C"),
            )
            for at in _spread(len(found.minutes))
        )
        headings = ("minute", "p50", "p90", "frequency", "temperature")
        said = (f"{sustained_line(found)}.",)
        yield Section(f"Sustained: {name_of(profile, result)}", headings, rows, said)


def _problems(profile: Profile, run: DeviceRun) -> Section:
    said: list[str] = []
    for result in run.results:
        said.extend(f"{name_of(profile, result)}: {problem_line(p)}" for p in result.problems)
    return Section("What could not be measured", (), (), tuple(dict.fromkeys(said)))


def _with_unit(value: float | None, unit: str) -> str:
    return NONE if value is None else f"{number(value)} {unit}"


def _spread(count: int) -> Sequence[int]:
    """Indices of all, or of a dozen from the first to the last."""
    if count <= _MOST_MINUTES:
        return range(count)
    return [round(at * (count - 1) / (_MOST_MINUTES - 1)) for at in range(_MOST_MINUTES)]


def _s(count: int) -> str:
    return "" if count == 1 else "s"
