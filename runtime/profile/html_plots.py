"""All plots of one device, as a part of the HTML report."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from edgedf.html_page import text
from edgedf.runtime.profile.document import DeviceRun, Profile, Result
from edgedf.runtime.profile.html_tables import key
from edgedf.runtime.profile.plots.distribution import distribution_plot
from edgedf.runtime.profile.plots.drawing import WIDTH, Drawing, fit
from edgedf.runtime.profile.plots.operators import operators_plot
from edgedf.runtime.profile.plots.over_time import (
    machine_plot,
    over_time_plot,
    sustained_plot,
)
from edgedf.runtime.profile.plots.pareto import Candidate, efficient, pareto_plot
from edgedf.runtime.profile.plots.pipeline import pipeline_plot
from edgedf.runtime.profile.plots.ratios import Interval, ratios_plot
from edgedf.runtime.profile.plots.spans import Span, disturbed
from edgedf.runtime.profile.wording import name_of, sustained_line

__all__ = ["glance", "plots"]

_CAPTION = 1.6 * WIDTH  # two lines of a caption; tables have the whole names


@dataclass(frozen=True)
class _Figure:
    """A drawing with what is written above it, and below that."""

    drawing: Drawing
    caption: str
    remarks: tuple[str, ...] = ()


def glance(profile: Profile, run: DeviceRun, identifier: str) -> str:
    """Draw what compares a device's results.

    Args:
        profile: The document.
        run: One of its devices.
        identifier: Unlike any other on the page.

    Returns:
        HTML: a heading and figures; empty where there is nothing to compare.
    """
    figures = list(_overview(profile, run, _names(profile, run)))
    return _parts([("At a glance", "", figures)], identifier)


def plots(profile: Profile, run: DeviceRun, identifier: str) -> str:
    """Draw what each of a device's results gave.

    Args:
        profile: The document.
        run: One of its devices.
        identifier: Unlike any other on the page.

    Returns:
        HTML: headings and figures; empty where nothing was measured.
    """
    names = _names(profile, run)
    until = _until(run)
    spans = disturbed(run, until)
    parts: list[_Part] = [
        (
            "Distribution of latency",
            "Each on its own scale.",
            [
                _Figure(distribution_plot(each.distribution, each.latency, name), name)
                for name, each in zip(names, run.results, strict=True)
                if each.distribution is not None and each.latency is not None
            ],
        ),
        (
            "Latency over time",
            "Block by block; time since the worker started, the same axis for all. Slow blocks "
            "beyond the axis are marked ▲." + _said_of(spans),
            [
                *(
                    _Figure(over_time_plot(each.over_time, spans, name, until_s=until), name)
                    for name, each in zip(names, run.results, strict=True)
                    if each.over_time
                ),
                *_machine(run, spans, until),
            ],
        ),
        (
            "Operators",
            "",
            [
                _Figure(
                    operators_plot(each.operators, name),
                    name,
                    (f"{each.operators.verdict}. Source: {each.operators.source}.",),
                )
                for name, each in zip(names, run.results, strict=True)
                if each.operators is not None and each.operators.operators
            ],
        ),
        (
            "Sustained",
            "",
            [
                _Figure(
                    sustained_plot(each.sustained, name), name, (sustained_line(each.sustained),)
                )
                for name, each in zip(names, run.results, strict=True)
                if each.sustained is not None and each.sustained.minutes
            ],
        ),
    ]
    return _parts(parts, identifier)


_Part = tuple[str, str, list[_Figure]]  # heading, note, figures


def _names(profile: Profile, run: DeviceRun) -> list[str]:
    return [
        fit(f"{key(index)} · {name_of(profile, each)}", _CAPTION)
        for index, each in enumerate(run.results)
    ]


def _parts(parts: list[_Part], identifier: str) -> str:
    numbers = itertools.count()
    return "".join(
        f"<h3>{title}</h3>\n"
        + (f'<p class="note">{note}</p>\n' if note else "")
        + '<div class="plots">\n'
        + "".join(_html(figure, f"{identifier}-{next(numbers)}") for figure in figures)
        + "</div>\n"
        for title, note, figures in parts
        if figures
    )


def _html(figure: _Figure, identifier: str) -> str:
    remarks = "".join(f"<p>{text(remark)}</p>" for remark in figure.remarks if remark)
    return (
        f"<figure><figcaption>{text(figure.caption)}{remarks}</figcaption>"
        f"{figure.drawing.svg(identifier)}</figure>\n"
    )


def _overview(profile: Profile, run: DeviceRun, names: list[str]) -> Iterator[_Figure]:
    candidates = [
        found
        for index, each in enumerate(run.results)
        if (found := _candidate(profile, each, key(index))) is not None
    ]
    if len(candidates) > 1:
        with_auc = any(each.auc is not None for each in candidates)
        without = [each.key for each in candidates if each.auc is None]
        best = ", ".join(each.key for each in efficient(candidates))
        what = "size, latency and AUC" if with_auc else "size and latency"
        remarks = [
            f"Nothing here is at least as good in {what} and better in one than: {best} "
            "(dotted line). Area is size, lines are 95 % intervals; "
            "dashed circles are not valid."
            if with_auc
            else f"Nothing here is both smaller and faster than: {best} (dotted line). No model "
            "states an AUC.",
        ]
        if with_auc and without:
            remarks.insert(1, f"Without an AUC, so not shown: {', '.join(without)}.")
        yield _Figure(pareto_plot(candidates), f"Pareto: {what}", tuple(remarks))
    ratios = [
        Interval(f"{key(r.second)} / {key(r.first)}", r.ratio, r.low, r.high) for r in run.ratios
    ]
    if ratios:
        yield _Figure(
            ratios_plot(ratios),
            "Ratios of latency",
            ("Left of the line at 1 the first one named is the faster one.",),
        )
    pipelines = [
        (name, each.pipeline)
        for name, each in zip(names, run.results, strict=True)
        if each.pipeline is not None and each.pipeline.stages
    ]
    if pipelines:
        yield _Figure(pipeline_plot(pipelines), "From a photograph's bytes to a verdict")


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


def _machine(
    run: DeviceRun, spans: tuple[Span, ...], until: tuple[float, float]
) -> Iterator[_Figure]:
    drawing = machine_plot(run.states, spans, until_s=until)
    if drawing is not None:
        yield _Figure(drawing, drawing.title)


def _until(run: DeviceRun) -> tuple[float, float]:
    """Begin and end of the time axis: the blocks that count, else all that is known."""
    times = [moment.at_s for each in run.results for moment in each.over_time]
    times = times or [state.at_s for state in run.states] or [0.0]
    return min(times), max(times)


def _said_of(spans: tuple[Span, ...]) -> str:
    kinds = {span.why for span in spans}
    said = ""
    if "loaded" in kinds:
        said += " Shaded: other work took processors."
    if "throttled" in kinds:
        said += " Shaded, with a bar at the bottom: the machine was slowed down."
    return said
