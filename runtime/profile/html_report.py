"""A profile as one HTML file that needs nothing else: no script, no other file, no net.

Everything that comes from outside (names of files, of machines, messages) is escaped. Figures come
from the document; nothing is computed anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgedf.html_page import definitions, page, text
from edgedf.runtime.profile.against import Comparison
from edgedf.runtime.profile.document import DeviceRun, Model, Profile
from edgedf.runtime.profile.html_plots import device_plots, key
from edgedf.runtime.profile.plots.drawing import STYLE as PLOT_STYLE
from edgedf.runtime.profile.wording import (
    Section,
    compared,
    megabytes,
    name_of,
    problem_line,
    sections,
    standing,
)

__all__ = ["render"]

_STYLE = f"""
{PLOT_STYLE}
body {{ max-width: 78rem; }}
h3 {{ font-size: 1.02rem; margin: 1.75rem 0 .5rem; }}
section.device {{ border-top: 1px solid var(--line); margin-top: 2.5rem; }}
.plots {{ display: grid; gap: 1.75rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }}
.plots figcaption {{ margin-bottom: .4rem; font-weight: 600; }}
.plots figcaption p {{ margin: .2rem 0 0; font-weight: 400; color: var(--quiet); }}
.note {{ color: var(--quiet); font-size: .875rem; max-width: 46rem; }}
th.text {{ text-align: left; }} td.long {{ white-space: normal; }}
td:has(.badge) {{ grid-column: 1 / -1; }}
.badge {{ white-space: nowrap; padding: .05rem .45rem; border-radius: .3rem; font-weight: 600; }}
@media (min-width: 72rem) {{ td.long {{ min-width: 15rem; }} }}
@media (max-width: 72rem) {{
  tbody tr {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr));
    column-gap: 1rem; padding-left: 0; }}
  tbody th, td.long {{ grid-column: 1 / -1; }}
}}
@media (max-width: 40rem) {{ dl {{ display: grid; }} dd {{ margin: 0; }} }}
"""

_BADGES = {"✓": "pass", "~": "cannot-tell", "?": "cannot-tell", "✗": "fail"}
_LONG = 28  # characters of a cell that had better be broken into lines

_DEFINITIONS = (
    "p50, p90 and p99 are percentiles of single inferences, the image as the model takes it given; "
    "the interval of p50 is a 95 % bootstrap over blocks. The results take turns, a block each, so "
    "that drift of the machine meets all of them alike. ✓ valid; ~ semi-valid: too few or too "
    "noisy; ✗ invalid: the machine was throttled or did something else.",
)


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
        "" if comparison is None else "".join(map(_section, compared(comparison))),
        _models(profile.models),
        *(_device(profile, index) for index in range(len(profile.devices))),
    ]
    title = "edgedf profile: " + ", ".join(model.file for model in profile.models)
    return page(title, "".join(body), footer=_DEFINITIONS, style=_STYLE, cards_below="72rem")


def _banner(profile: Profile) -> str:
    style = "pass" if profile.publishable else "cannot-tell"
    if any(run.status == "failed" for run in profile.devices):
        style = "fail"
    return f'<p class="verdict {style}">{text(standing(profile))}</p>\n'


def _about(profile: Profile) -> str:
    effort = profile.effort
    asked = (
        f"at least {effort.queries:,} inferences and {effort.seconds:g} s of each, after a warm-up "
        f"of at most {effort.warm_up_seconds:g} s; {effort.cold_starts} cold starts, "
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
    return _section(Section("Models", headings, rows))


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
    names = [name_of(profile, result) for result in run.results]
    tables = "".join(_section(section, names) for section in sections(profile, run))
    plots = device_plots(profile, run, f"device-{index}")
    return (
        f'<section class="device">\n<h2>{text(run.device)}</h2>\n{_status(run)}{_machine(run)}'
        f"{tables}{plots}</section>\n"
    )


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


def _section(section: Section, names: Iterable[str] = ()) -> str:
    """A table; results get the letters that they have in the plots."""
    title = f"<h3>{text(section.title)}</h3>\n" if section.title else ""
    remarks = "".join(f"<p>{text(remark)}</p>\n" for remark in section.remarks)
    if not section.rows:
        return title + remarks
    styles = [_style(column) for column in zip(*section.rows, strict=True)]
    headings = "".join(
        f'<th scope="col"{style}>{text(name)}</th>'
        for name, style in zip(section.headings, styles, strict=True)
    )
    keys = {name: f"{key(index)} · {name}" for index, name in enumerate(names)}
    body = "".join(
        f'<tr><th scope="row">{text(keys.get(row[0], row[0]))}</th>'
        + "".join(
            f'<td{style} data-label="{text(name)}">{_cell(value)}</td>' if value else "<td></td>"
            for name, value, style in zip(section.headings[1:], row[1:], styles[1:], strict=True)
        )
        + "</tr>\n"
        for row in section.rows
    )
    return (
        f"{title}<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"
        f"{remarks}"
    )


def _cell(value: str) -> str:
    """The text of a cell; verdicts in color as well."""
    style = _BADGES.get(value[0])
    return text(value) if style is None else f'<span class="badge {style}">{text(value)}</span>'


def _style(column: tuple[str, ...]) -> str:
    """Words go to the left and are broken into lines, numbers to the right."""
    words = sum(bool(value) and not (value[0].isdigit() or value[0] in "-–<") for value in column)
    long = max(map(len, column)) > _LONG
    if long:
        return ' class="text long"'
    return ' class="text"' if words * 2 > len(column) else ""
