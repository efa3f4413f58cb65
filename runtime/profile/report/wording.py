"""What a profile says, in words: for the terminal, for Markdown and for the HTML report alike."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

from edgedf.int8_kernels import kernels_in_words
from edgedf.reports.section import MARKS, NONE, Section, counted
from edgedf.runtime.int8_speed import slower_than_float
from edgedf.runtime.profile.document import (
    DeviceRun,
    Latency,
    OperatorShares,
    Problem,
    Profile,
    Ratio,
    Sustained,
    name_of,
)
from edgedf.runtime.profile.report.against_wording import compared, verdict_line
from edgedf.runtime.profile.report.figures import kib, megabytes, ms, number
from edgedf.runtime.profile.report.recommend_wording import recommended
from edgedf.runtime.profile.request import FULL

__all__ = [
    "compared",
    "device_line",
    "key",
    "problem_line",
    "sections",
    "standing",
    "sustained_line",
    "top_operators",
    "verdict_line",
]

_TOP = 10
_MOST_MINUTES = 12


def key(index: int) -> str:
    """The letter of a result in plots and tables: A to Z, then A2 and so on."""
    turn, letter = divmod(index, 26)
    return string.ascii_uppercase[letter] + (str(turn + 1) if turn else "")


def sustained_line(sustained: Sustained) -> str:
    """A sustained run in a sentence."""
    minutes = sustained.seconds / 60
    duration = f"{minutes:.0f} min" if minutes >= 2 else f"{sustained.seconds:.0f} s"
    interval = f"{number(sustained.ratio_low)} to {number(sustained.ratio_high)}"
    what = "held"
    if sustained.ratio_low > 1:
        what = "slowed down"
    elif sustained.ratio_high < 1:
        what = "got faster"
    last, first = "last minute", "the first minute"
    if sustained.seconds < 120:
        last, first = "second half", "the first"
    times = number(sustained.ratio)
    took = f"the {last} took {times} times as long as {first} ({interval})"
    return f"{duration} without a pause {what}: {took}"


def device_line(run: DeviceRun) -> str:
    """What was measured on, in a line."""
    machine = run.machine
    if machine is None:
        return f"{run.device}: never reached"
    facts = (
        *(machine.name, machine.cpu, machine.soc),
        "" if machine.cores is None else counted(machine.cores, "processor"),
        machine.architecture,
        "" if machine.memory_mb is None else f"{machine.memory_mb / 1024:.1f} GiB",
        {True: "int8 dot product", False: "no int8 dot product", None: ""}[
            machine.int8_dot_product
        ],
        machine.system,
        f"governor {', '.join(machine.governors)}" if machine.governors else "",
        f"Python {machine.python}" if machine.python else "",
    )
    return f"{run.device}: {', '.join(fact for fact in dict.fromkeys(facts) if fact)}"


def problem_line(problem: Problem) -> str:
    """A problem in a line, with what to do now."""
    where = f"{problem.step}: " if problem.step else ""
    expected = f" Expected: {problem.expected}." if problem.expected else ""
    next_step = f" Next step: {problem.next_step}." if problem.next_step else ""
    return f"{where}{problem.message}{expected}{next_step}"


def standing(profile: Profile) -> str:
    """Whether the figures may be published, and if not, why not."""
    if profile.publishable:
        return "Publishable: every figure is valid, and the effort was the full one."
    return f"Not publishable: {'; '.join(_faults(profile)) or 'nothing was measured'}."


def top_operators(shares: OperatorShares) -> tuple[tuple[int, float], ...]:
    """The ten operators that take the most time.

    Returns:
        Index into the operators and share of the time of all of them, 0 to 1, the largest first.
    """
    times = [operator.milliseconds for operator in shares.operators]
    total = sum(times)
    if not total > 0:
        return ()
    order = sorted(range(len(times)), key=lambda at: -times[at])
    return tuple((at, times[at] / total) for at in order[:_TOP])


def sections(profile: Profile, run: DeviceRun) -> tuple[Section, ...]:
    """All tables of a device, from latency to which file to ship.

    Parts without anything in them are left out; why a device's run is not complete is not among
    them.

    Args:
        profile: The document.
        run: One of its devices.
    """
    parts = (
        _latency(profile, run),
        _ratios(profile, run),
        _starts(profile, run),
        _pipelines(profile, run),
        *_operators(profile, run),
        *_sustained(profile, run),
        *recommended(profile, run),
        _problems(profile, run),
    )
    return tuple(section for section in parts if section.rows or section.remarks)


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


def _interval(latency: Latency) -> str:
    low, high = latency.p50_low_ms, latency.p50_high_ms
    return NONE if low is None or high is None else f"{number(low)} to {number(high)}"


def _latency(profile: Profile, run: DeviceRun) -> Section:
    headings = (
        *("model", "threads", "p50, ms", "95 % interval", "p90", "p99", "min", "mean", "std"),
        "per second",
    )
    rows, remarks = [], []
    for result in run.results:
        latency, mark = result.latency, MARKS[result.validity.status]
        figures = (NONE,) * (len(headings) - 2)
        if latency is not None:
            figures = (
                number(latency.p50_ms),
                _interval(latency),
                *(number(value) for value in (latency.p90_ms, latency.p99_ms, latency.minimum_ms)),
                *(number(value) for value in (latency.mean_ms, latency.std_ms, latency.throughput)),
            )
        file = profile.models[result.model].file
        rows.append((f"{mark} {file}", str(result.threads), *figures))
        if result.validity.reasons:
            reasons = "; ".join(result.validity.reasons)
            status = result.validity.status
            remarks.append(f"{mark} {name_of(profile, result)}: {status}: {reasons}.")
        if result.int8_kernels not in (None, "exact"):
            remarks.append(f"{file} in {result.runtime}: {kernels_in_words(result.int8_kernels)}.")
    keys = tuple(map(key, range(len(rows))))
    return Section("Latency", headings, tuple(rows), tuple(dict.fromkeys(remarks)), keys)


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
    turns = "Measured by turns (A B A B …), so what the machine did to both cancels."
    slower = filter(None, (_slower_int8(profile, run, ratio) for ratio in run.ratios))
    return Section("Ratios of medians", headings, rows, (turns, *slower) if rows else ())


def _slower_int8(profile: Profile, run: DeviceRun, ratio: Ratio) -> str:
    """That int8 is slower than float of the same format and threads; empty for other pairs."""
    results = run.results[ratio.first], run.results[ratio.second]
    first, second = (profile.models[result.model] for result in results)
    if first.format != second.format or results[0].threads != results[1].threads:
        return ""
    slower = slower_than_float(
        (first.precision, second.precision),
        *(ratio.ratio, ratio.low, ratio.high),
        None if run.machine is None else run.machine.int8_dot_product,
        "this processor" if run.device == "host" else run.device,
    )
    return slower and f"{first.format}, {counted(results[0].threads, 'thread')}: {slower}"


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
    definitions = (
        "Cold start: from reading the file to a first answer, in a fresh process. Memory: the peak "
        "over what interpreter and libraries take; process: the peak of all."
    )
    keys = tuple(map(key, range(len(rows))))
    return Section("Start and memory", headings, tuple(rows), (definitions,), keys)


def _pipelines(profile: Profile, run: DeviceRun) -> Section:
    measured = [
        (key(index), result, result.pipeline)
        for index, result in enumerate(run.results)
        if result.pipeline is not None
    ]
    rows = tuple(
        (
            profile.models[result.model].file,
            str(result.threads),
            ms(pipeline.p50_ms),
            number(pipeline.p90_ms),
            *(f"{ms(stage.p50_ms)}, {stage.share:.0%}" for stage in pipeline.stages),
        )
        for _, result, pipeline in measured
    )
    remarks = dict.fromkeys(
        f"{pipeline.pictures} pictures of {number(pipeline.megapixels)} megapixels."
        for _, _, pipeline in measured
    )
    names = [stage.name for stage in measured[-1][2].stages] if measured else []
    return Section(
        "From a photograph's bytes to a verdict",
        ("model", "threads", "p50", "p90", *names),
        rows,
        tuple(remarks),
        tuple(letter for letter, _, _ in measured),
    )


def _operators(profile: Profile, run: DeviceRun) -> Iterator[Section]:
    for result in run.results:
        shares = result.operators
        if shares is None:
            continue
        rows = tuple(
            (
                shares.operators[at].name,
                shares.operators[at].kind,
                ms(shares.operators[at].milliseconds),
                f"{share:.1%}",
                shares.operators[at].delegate or NONE,
            )
            for at, share in top_operators(shares)
        )
        remarks = [f"{shares.verdict}."]
        left = len(shares.operators) - len(rows)
        if left > 0:
            remarks.append(f"{counted(left, 'more operator')} take the rest.")
        cost = ""
        if shares.plain_ms > 0:
            cost = f"; {shares.inference_ms / shares.plain_ms - 1:+.0%} for timing them"
        remarks.append(f"Source: {shares.source}{cost}.")
        headings = ("operator", "kind", "time", "share", "delegate")
        yield Section(f"Operators of {name_of(profile, result)}", headings, rows, tuple(remarks))


def _sustained(profile: Profile, run: DeviceRun) -> Iterator[Section]:
    for result in run.results:
        sustained = result.sustained
        if sustained is None:
            continue
        rows = tuple(
            (
                f"{minute.at_s / 60:.0f}",
                ms(minute.p50_ms),
                ms(minute.p90_ms),
                _with_unit(minute.frequency_mhz, "MHz"),
                _with_unit(minute.temperature_c, "°C"),
            )
            for minute in (sustained.minutes[at] for at in _spread(len(sustained.minutes)))
        )
        headings = ("minute", "p50", "p90", "frequency", "temperature")
        remarks = (f"{sustained_line(sustained)}.",)
        yield Section(f"Sustained: {name_of(profile, result)}", headings, rows, remarks)


def _problems(profile: Profile, run: DeviceRun) -> Section:
    remarks = dict.fromkeys(
        f"{name_of(profile, result)}: {problem_line(problem)}"
        for result in run.results
        for problem in result.problems
    )
    return Section("What could not be measured", (), (), tuple(remarks))


def _with_unit(value: float | None, unit: str) -> str:
    return NONE if value is None else f"{number(value)} {unit}"


def _spread(count: int) -> Sequence[int]:
    """Indices of all, or of a dozen from the first to the last."""
    if count <= _MOST_MINUTES:
        return range(count)
    return [round(at * (count - 1) / (_MOST_MINUTES - 1)) for at in range(_MOST_MINUTES)]
