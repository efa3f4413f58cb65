"""All plots of one device, for the HTML report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edgedf.runtime.profile.document import DeviceRun, Profile, Result, name_of
from edgedf.runtime.profile.report.plots.distribution import distribution_plot
from edgedf.runtime.profile.report.plots.drawing import WIDTH, Drawing, fit
from edgedf.runtime.profile.report.plots.operators import operators_plot
from edgedf.runtime.profile.report.plots.over_time import (
    machine_plot,
    over_time_plot,
    sustained_plot,
)
from edgedf.runtime.profile.report.plots.pareto import Candidate, efficient, pareto_plot
from edgedf.runtime.profile.report.plots.pipeline import pipeline_plot
from edgedf.runtime.profile.report.plots.ratios import Interval, ratios_plot
from edgedf.runtime.profile.report.plots.spans import disturbed
from edgedf.runtime.profile.report.wording import key, sustained_line

__all__ = ["Figure", "Plots", "glance", "plots"]

_CAPTION = 1.6 * WIDTH  # two lines of a caption; tables have the whole names
_SHADED = {
    "loaded": " Shaded: other work took processors.",
    "throttled": " Shaded, with a bar at the bottom: the machine was slowed down.",
}


class Figure(NamedTuple):
    """A drawing, what is written above it, and the remarks below that."""

    drawing: Drawing
    caption: str
    remarks: tuple[str, ...] = ()


class Plots(NamedTuple):
    """Figures under one heading; without figures there is nothing to show."""

    title: str
    figures: list[Figure]
    note: str = ""


def glance(profile: Profile, run: DeviceRun) -> Plots:
    """Draw what compares a device's results.

    Args:
        profile: The document.
        run: One of its devices.
    """
    return Plots("At a glance", list(_overview(profile, run)))


def plots(profile: Profile, run: DeviceRun) -> list[Plots]:
    """Draw what was measured of each of a device's results.

    Args:
        profile: The document.
        run: One of its devices.
    """
    named = list(zip(_names(profile, run), run.results, strict=True))
    until = _until(run)
    spans = disturbed(run, until)
    shaded = "".join(_SHADED[why] for why in _SHADED if any(span.why == why for span in spans))
    machine = machine_plot(run.states, spans, until_s=until)
    return [
        Plots(
            "Distribution of latency",
            [
                Figure(distribution_plot(each.distribution, each.latency, name), name)
                for name, each in named
                if each.distribution is not None and each.latency is not None
            ],
            "Each on its own scale.",
        ),
        Plots(
            "Latency over time",
            [
                *(
                    Figure(over_time_plot(each.over_time, spans, name, until_s=until), name)
                    for name, each in named
                    if each.over_time
                ),
                *([] if machine is None else [Figure(machine, machine.title)]),
            ],
            "Block by block; time since the worker started, the same axis for all. Slow blocks "
            f"beyond the axis are marked ▲.{shaded}",
        ),
        Plots(
            "Operators",
            [
                Figure(
                    operators_plot(each.operators, name),
                    name,
                    (f"{each.operators.verdict}. Source: {each.operators.source}.",),
                )
                for name, each in named
                if each.operators is not None and each.operators.operators
            ],
        ),
        Plots(
            "Sustained",
            [
                Figure(
                    sustained_plot(each.sustained, name), name, (sustained_line(each.sustained),)
                )
                for name, each in named
                if each.sustained is not None and each.sustained.minutes
            ],
        ),
    ]


def _names(profile: Profile, run: DeviceRun) -> list[str]:
    return [
        fit(f"{key(index)} · {name_of(profile, each)}", _CAPTION)
        for index, each in enumerate(run.results)
    ]


def _overview(profile: Profile, run: DeviceRun) -> Iterator[Figure]:
    candidates = [
        candidate
        for index, each in enumerate(run.results)
        if (candidate := _candidate(profile, each, key(index))) is not None
    ]
    if len(candidates) > 1:
        yield _pareto(candidates)
    ratios = [
        Interval(f"{key(r.second)} / {key(r.first)}", r.ratio, r.low, r.high) for r in run.ratios
    ]
    if ratios:
        faster = "Left of the line at 1 the first one named is the faster one."
        yield Figure(ratios_plot(ratios), "Ratios of latency", (faster,))
    pipelines = [
        (name, each.pipeline)
        for name, each in zip(_names(profile, run), run.results, strict=True)
        if each.pipeline is not None and each.pipeline.stages
    ]
    if pipelines:
        yield Figure(pipeline_plot(pipelines), "From a photograph's bytes to a verdict")


def _pareto(candidates: list[Candidate]) -> Figure:
    drawing = pareto_plot(candidates)
    best = ", ".join(each.key for each in efficient(candidates))
    without = ", ".join(each.key for each in candidates if each.auc is None)
    if all(each.auc is None for each in candidates):
        only = f"Nothing here is both smaller and faster than: {best} (dotted line). No model "
        return Figure(drawing, "Pareto: size and latency", (f"{only}states an AUC.",))
    remarks = (
        "Nothing here is at least as good in size, latency and AUC and better in one than: "
        f"{best} (dotted line). Area is size, lines are 95 % intervals; dashed circles are not "
        "valid.",
        without and f"Without an AUC, so not shown: {without}.",
    )
    return Figure(drawing, "Pareto: size, latency and AUC", remarks)


def _candidate(profile: Profile, result: Result, letter: str) -> Candidate | None:
    latency = result.latency
    if latency is None:
        return None
    model = profile.models[result.model]
    return Candidate(
        letter,
        model.size_bytes / 1e6,
        latency.p50_ms if latency.p50_ms is not None else latency.mean_ms,
        latency.p50_low_ms,
        latency.p50_high_ms,
        model.auc,
        model.auc_low,
        model.auc_high,
        result.validity.status == "valid",
    )


def _until(run: DeviceRun) -> tuple[float, float]:
    """Begin and end of the time axis: the blocks that count, else all that is known."""
    times = [moment.at_s for each in run.results for moment in each.over_time]
    times = times or [state.at_s for state in run.states] or [0.0]
    return min(times), max(times)
