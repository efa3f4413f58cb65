"""A profile as an HTML page: all its figures, nothing computed anew."""

from __future__ import annotations

from typing import NamedTuple

from edgedf.reports import page
from edgedf.reports.section import NONE, Section, counted
from edgedf.runtime.profile.against import Comparison
from edgedf.runtime.profile.document import DeviceRun, Model, Profile, Result, name_of
from edgedf.runtime.profile.report.against_wording import compared, verdict_line
from edgedf.runtime.profile.report.figures import megabytes, ms, number
from edgedf.runtime.profile.report.html_plots import Plots, glance, plots
from edgedf.runtime.profile.report.plots.drawing import STYLE
from edgedf.runtime.profile.report.wording import key, problem_line, sections, standing

__all__ = ["render"]

_FOLDED = ("operator", "minute")  # first headings of long tables, which plots show as well
_STATUS = {
    "complete": "Complete, but:",
    "partial": "Cut off: what had been measured by then is below.",
    "failed": "Nothing was measured.",
}


class _Device(NamedTuple):
    """What the page shows of a device, in this order."""

    run: DeviceRun
    status: str
    facts: dict[str, str]
    first: list[Section]
    glance: Plots
    others: list[Section]
    plots: list[Plots]
    folded: list[Section]
    names: dict[str, str]


def render(profile: Profile, comparison: Comparison | None = None) -> str:
    """Write the report.

    Args:
        profile: The document.
        comparison: What became of an earlier profile's figures, where there is one.

    Returns:
        A whole HTML document.
    """
    failed = any(run.status == "failed" for run in profile.devices)
    return page.render(
        "profile.html",
        title="edgedf profile: " + ", ".join(model.file for model in profile.models),
        plot_style=STYLE,
        standing=standing(profile),
        standing_tone="fail" if failed else "pass" if profile.publishable else "cannot-tell",
        facts=_facts(profile),
        comparison=comparison,
        comparison_line="" if comparison is None else verdict_line(comparison),
        compared=() if comparison is None else compared(comparison),
        models=_models(profile.models),
        devices=[_device(profile, run) for run in profile.devices],
    )


def _facts(profile: Profile) -> dict[str, str]:
    effort = profile.effort
    asked = (
        f"at least {effort.queries:,} inferences and {effort.seconds:g} s of each, after a warm-up "
        f"of at most {effort.warm_up_seconds:g} s; {counted(effort.cold_starts, 'cold start')}, "
        f"{effort.pipeline_queries} pictures through the pipeline"
    )
    if effort.sustained_seconds:
        asked += f"; {effort.sustained_seconds / 60:g} min without a pause"
    return {
        "made": f"{profile.created} by edgedf {profile.edgedf}",
        "effort": asked,
        "pictures": f"{profile.images:,}, {profile.images_from}",
    }


def _models(models: tuple[Model, ...]) -> Section:
    rows = tuple(
        (
            model.file,
            model.model_id,
            model.format,
            model.precision,
            megabytes(model.size_bytes),
            _auc(model),
            model.sha256[:12],
        )
        for model in models
    )
    return Section(
        "Models", ("file", "model", "format", "precision", "size", "AUC", "sha256"), rows
    )


def _auc(model: Model) -> str:
    if model.auc is None:
        return "not stated"
    value = f"{model.auc:.3f}"
    if model.auc_low is not None and model.auc_high is not None:
        value += f" ({model.auc_low:.3f} to {model.auc_high:.3f})"
    if model.auc_n is not None:
        value += f", {model.auc_n:,} pictures"
    return value + (f" of {model.auc_dataset}" if model.auc_dataset else "")


def _device(profile: Profile, run: DeviceRun) -> _Device:
    every = (*sections(profile, run), _measuring(profile, run))
    remarks = [section for section in every if not section.rows]
    tables = [section for section in every if section.rows]
    folded = [section for section in tables if section.headings[0] in _FOLDED]
    unfolded = [section for section in tables if section.headings[0] not in _FOLDED]
    names: dict[str, str] = {}
    for index, result in enumerate(run.results):
        name = name_of(profile, result)
        names.setdefault(name, f"{key(index)} · {name}")
    return _Device(
        run,
        _status(run),
        _machine(run),
        [*unfolded[:1], *remarks],
        glance(profile, run),
        unfolded[1:],
        plots(profile, run),
        folded,
        names,
    )


def _measuring(profile: Profile, run: DeviceRun) -> Section:
    """What was run and for how long: what the other tables take for granted."""
    rows = tuple(
        (
            profile.models[result.model].file,
            str(result.threads),
            result.runtime or NONE,
            _warm_up(result),
            NONE if latency is None else f"{latency.queries:,}",
            NONE if latency is None else f"{number(latency.seconds)} s",
            NONE if latency is None else ms(latency.maximum_ms),
        )
        for result in run.results
        for latency in (result.latency,)
    )
    headings = ("model", "threads", "runtime", "warm-up", "inferences", "in", "slowest")
    keys = tuple(map(key, range(len(rows))))
    return Section("How it was measured" if rows else "", headings, rows, keys=keys)


def _warm_up(result: Result) -> str:
    if result.warm_up_queries is None:
        return NONE
    steady = {None: "", True: ", steady", False: ", not steady"}[result.steady]
    return f"{result.warm_up_queries:,}{steady}"


def _status(run: DeviceRun) -> str:
    if run.problem is None:
        return "" if run.status == "complete" else _STATUS[run.status]
    return f"{_STATUS[run.status]} {problem_line(run.problem)}"


def _machine(run: DeviceRun) -> dict[str, str]:
    machine = run.machine
    if machine is None:
        return {}
    speeds = " / ".join(f"{speed:,.0f}" for speed in sorted(set(machine.maximum_mhz)))
    processors = (
        "" if machine.cores is None else f"{machine.cores}",
        machine.architecture,
        {True: "int8 dot product", False: "no int8 dot product", None: ""}[
            machine.int8_dot_product
        ],
        speeds and f"up to {speeds} MHz",
        f"governor {' / '.join(machine.governors)}" if machine.governors else "",
    )
    return {
        "machine": machine.name,
        "SoC": machine.soc,
        "processor": machine.cpu,
        "processors": ", ".join(filter(None, processors)),
        "memory": "" if machine.memory_mb is None else f"{machine.memory_mb:,} MB",
        "system": machine.system,
        "Python": machine.python,
        "edgedf there": machine.edgedf,
    }
