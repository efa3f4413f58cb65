"""A profile as one HTML file that needs nothing else: no script, no other file, no net.

Everything that comes from outside (names of files, of machines, messages) is escaped. Figures come
from the document; nothing is computed anew.
"""

from __future__ import annotations

from edgedf.html_page import definitions, page, text
from edgedf.runtime.profile.against import Comparison
from edgedf.runtime.profile.against_wording import compared, verdict_line
from edgedf.runtime.profile.document import DeviceRun, Model, Profile, Result
from edgedf.runtime.profile.figures import NONE, Section, megabytes, ms, number
from edgedf.runtime.profile.html_plots import glance, plots
from edgedf.runtime.profile.html_tables import CARDS_BELOW, TABLE_STYLE, Keys, table
from edgedf.runtime.profile.plots.drawing import STYLE as PLOT_STYLE
from edgedf.runtime.profile.wording import problem_line, sections, standing

__all__ = ["render"]

_STYLE = f"""
{PLOT_STYLE}{TABLE_STYLE}
body {{ max-width: 78rem; }}
h3 {{ font-size: 1.02rem; margin: 1.75rem 0 .5rem; }}
section.device {{ border-top: 1px solid var(--line); margin-top: 2.5rem; }}
.plots {{ display: grid; gap: 1.75rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }}
.plots figcaption {{ margin-bottom: .4rem; font-weight: 600; }}
.plots figcaption p {{ margin: .2rem 0 0; font-weight: 400; color: var(--quiet); }}
.note {{ color: var(--quiet); font-size: .875rem; max-width: 60rem; }}
details {{ margin: 1rem 0; }} summary {{ cursor: pointer; font-weight: 600; }}
details h3 {{ display: none; }}
@media (max-width: 40rem) {{ dl {{ display: grid; }} dd {{ margin: 0; }} }}
"""

_DEFINITIONS = (
    "p50, p90 and p99 are percentiles of single inferences, the image as the model takes it given; "
    "the interval of p50 is a 95 % bootstrap over blocks. The results take turns, a block each, so "
    "that drift of the machine meets all of them alike. ✓ valid; ~ semi-valid: too few or too "
    "noisy; ✗ invalid: the machine was throttled or did something else.",
)
_LONG_TABLES = ("operator", "minute")  # heads of tables that plots show as well: to unfold


def render(profile: Profile, comparison: Comparison | None = None) -> str:
    """Write the report.

    Args:
        profile: The document.
        comparison: What became of an earlier profile's figures, where there is one.

    Returns:
        A whole HTML document.
    """
    body = [
        "<h1>edgedf profile</h1>\n",
        _banner(profile),
        _about(profile),
        "" if comparison is None else _comparison(comparison),
        _models(profile.models),
        *(_device(profile, index) for index in range(len(profile.devices))),
    ]
    title = "edgedf profile: " + ", ".join(model.file for model in profile.models)
    return page(title, "".join(body), footer=_DEFINITIONS, style=_STYLE, cards_below=CARDS_BELOW)


def _banner(profile: Profile) -> str:
    style = "pass" if profile.publishable else "cannot-tell"
    if any(run.status == "failed" for run in profile.devices):
        style = "fail"
    return f'<p class="verdict {style}">{text(standing(profile))}</p>\n'


def _about(profile: Profile) -> str:
    effort = profile.effort
    starts = f"{effort.cold_starts} cold start{'' if effort.cold_starts == 1 else 's'}"
    asked = (
        f"at least {effort.queries:,} inferences and {effort.seconds:g} s of each, after a warm-up "
        f"of at most {effort.warm_up_seconds:g} s; {starts}, "
        f"{effort.pipeline_queries} pictures through the pipeline"
    )
    if effort.sustained_seconds:
        asked += f"; {effort.sustained_seconds / 60:g} min without a pause"
    return definitions(
        {
            "made": f"{profile.created} by edgedf {profile.edgedf}",
            "effort": asked,
            "pictures": f"{profile.images:,}, {profile.images_from}",
        }
    )


def _comparison(comparison: Comparison) -> str:
    style = comparison.verdict.replace(" ", "-")
    line = f'<p class="verdict {style}">{text(verdict_line(comparison))}</p>\n'
    return line + "".join(map(table, compared(comparison)))


def _models(models: tuple[Model, ...]) -> str:
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
    headings = ("file", "model", "format", "precision", "size", "AUC", "sha256")
    return table(Section("Models", headings, rows))


def _auc(model: Model) -> str:
    if model.auc is None:
        return "not stated"
    said = f"{model.auc:.3f}"
    if model.auc_low is not None and model.auc_high is not None:
        said += f" ({model.auc_low:.3f} to {model.auc_high:.3f})"
    if model.auc_n is not None:
        said += f", {model.auc_n:,} pictures"
    return said + (f" of {model.auc_dataset}" if model.auc_dataset else "")


def _device(profile: Profile, index: int) -> str:
    run = profile.devices[index]
    keys = Keys(profile, run)
    found = sections(profile, run)
    banner = "" if run.problem is None else problem_line(run.problem)
    said = [
        part._replace(remarks=remarks)
        for part in found
        if not part.rows and (remarks := tuple(r for r in part.remarks if r != banner))
    ]
    tables = [part for part in found if part.rows]
    unfolded = [part for part in tables if part.headings[0] not in _LONG_TABLES]
    folded = [part for part in tables if part.headings[0] in _LONG_TABLES]
    identifier = f"device-{index}"
    return "".join(
        (
            f'<section class="device">\n<h2>{text(run.device)}</h2>\n{_status(run)}',
            _machine(run),
            *(table(part, keys) for part in (*unfolded[:1], *said)),
            glance(profile, run, f"{identifier}-glance"),
            *(table(part, keys) for part in (*unfolded[1:], _measuring(profile, run))),
            plots(profile, run, identifier),
            *(_folded(part, keys) for part in folded),
            "</section>\n",
        )
    )


def _measuring(profile: Profile, run: DeviceRun) -> Section:
    """What was run and for how long: what the other tables take for granted."""
    rows = tuple(
        (
            profile.models[result.model].file,
            str(result.threads),
            result.runtime or NONE,
            _warm_up(result),
            NONE if found is None else f"{found.queries:,}",
            NONE if found is None else f"{number(found.seconds)} s",
            NONE if found is None else ms(found.maximum_ms),
        )
        for result in run.results
        for found in (result.latency,)
    )
    headings = ("model", "threads", "runtime", "warm-up", "inferences", "in", "slowest")
    return Section("How it was measured" if rows else "", headings, rows)


def _warm_up(result: Result) -> str:
    if result.warm_up_queries is None:
        return NONE
    steady = {None: "", True: ", steady", False: ", not steady"}[result.steady]
    return f"{result.warm_up_queries:,}{steady}"


def _folded(section: Section, keys: Keys) -> str:
    return f"<details><summary>{text(section.title)}</summary>\n{table(section, keys)}</details>\n"


def _status(run: DeviceRun) -> str:
    if run.status == "complete" and run.problem is None:
        return ""
    style = "fail" if run.status == "failed" else "cannot-tell"
    what = {
        "complete": "Complete",
        "partial": "Cut off: what had been measured by then is below.",
        "failed": "Nothing was measured.",
    }[run.status]
    why = f" {problem_line(run.problem)}" if run.problem is not None else ""
    return f'<p class="verdict {style}">{text(what + why)}</p>\n'


def _machine(run: DeviceRun) -> str:
    machine = run.machine
    if machine is None:
        return ""
    speeds = sorted(set(machine.maximum_mhz))
    return definitions(
        {
            "machine": machine.name,
            "SoC": machine.soc,
            "processor": machine.cpu,
            "processors": ", ".join(
                part
                for part in (
                    "" if machine.cores is None else f"{machine.cores}",
                    machine.architecture,
                    {True: "int8 dot product", False: "no int8 dot product", None: ""}[
                        machine.int8_dot_product
                    ],
                    f"up to {' / '.join(f'{each:,.0f}' for each in speeds)} MHz" if speeds else "",
                    f"governor {' / '.join(machine.governors)}" if machine.governors else "",
                )
                if part
            ),
            "memory": "" if machine.memory_mb is None else f"{machine.memory_mb:,} MB",
            "system": machine.system,
            "Python": machine.python,
            "edgedf there": machine.edgedf,
        }
    )
