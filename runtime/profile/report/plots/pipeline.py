"""How much of the way from a photograph's bytes to a verdict each step takes."""

from __future__ import annotations

from collections.abc import Sequence

from edgedf.runtime.profile.document import Pipeline
from edgedf.runtime.profile.report.figures import number
from edgedf.runtime.profile.report.plots.drawing import WIDTH, Drawing, fit, text_width

__all__ = ["pipeline_plot"]

_COLORS = ("seg-1", "seg-2", "seg-3", "seg-4")
_ROW, _BAR = 46, 20


def pipeline_plot(pipelines: Sequence[tuple[str, Pipeline]]) -> Drawing:
    """Draw one bar for each result, all equally long: what counts is the share.

    Args:
        pipelines: Name of the result and its pipeline, at least one.
    """
    names = list(dict.fromkeys(stage.name for _, pipe in pipelines for stage in pipe.stages))
    drawing = Drawing(
        "Shares of the pipeline",
        " ".join(
            f"{name}: {number(pipe.p50_ms)} ms, "
            + ", ".join(f"{stage.name} {stage.share:.0%}" for stage in pipe.stages)
            + "."
            for name, pipe in pipelines
        ),
        24 + _ROW * len(pipelines),
    )
    _legend(drawing, names)
    for row, (name, pipe) in enumerate(pipelines):
        y = 24.0 + row * _ROW
        total = f"{number(pipe.p50_ms)} ms"
        drawing.text(0, y + 14, fit(name, WIDTH - text_width(total) - 12))
        drawing.text(WIDTH, y + 14, total, anchor="end", style="strong")
        x = 0.0
        for stage in pipe.stages:
            width = min(max(stage.share, 0.0), 1.0) * WIDTH
            tip = f"{stage.name}: p50 {number(stage.p50_ms)} ms, {stage.share:.1%}"
            color = _COLORS[names.index(stage.name) % len(_COLORS)]
            drawing.rectangle(x, y + 20, max(width - 1, 0.5), _BAR, color, tip=tip)
            share = f"{stage.share:.0%}"
            said = next(
                (s for s in (f"{stage.name} {share}", share) if text_width(s) + 4 <= width), ""
            )
            if said:
                drawing.text(x + (width - 1) / 2, y + 34, said, anchor="middle", style="inside")
            x += width
    return drawing


def _legend(drawing: Drawing, names: Sequence[str]) -> None:
    x = 0.0
    for index, name in enumerate(names):
        drawing.rectangle(x, 3, 10, 10, _COLORS[index % len(_COLORS)])
        drawing.text(x + 14, 12, name)
        x += 14 + text_width(name) + 10
