"""What the gate measured, as an HTML page with the pictures on which the models differ most."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from edgedf.imaging import RGBImage
from edgedf.quantize.accuracy.verify import Example, Verification
from edgedf.quantize.accuracy.wording import figures, headline
from edgedf.quantize.layer_error.ranking import LayerRanking
from edgedf.quantize.layer_error.wording import section as layer_section
from edgedf.reports import page
from edgedf.reports.section import MARKS
from edgedf.runtime.overlay import SCALE_MAXIMUM, color_map, encode_jpeg, fit_square

__all__ = ["render"]

_SIDE = 256  # of each picture, in pixels


class _Image(NamedTuple):
    """A picture inside the page."""

    source: Markup
    width: int
    height: int
    description: str
    caption: str


class _Example(NamedTuple):
    """A photograph with the defocus maps of both models."""

    file: str
    images: tuple[_Image, ...]
    remark: str


def render(
    verification: Verification,
    examples: Iterable[Example] = (),
    *,
    layers: LayerRanking | None = None,
) -> str:
    """Write the report.

    Args:
        verification: What the gate measured.
        examples: Pictures to show with both maps, the worst first.
        layers: The layers by the error they cause, where that was asked for.

    Returns:
        A whole HTML document.
    """
    seen = verification.measurements
    counts = f"{seen.pictures:,} in {seen.groups:,} groups"
    if verification.real or verification.fake:
        counts += f": {verification.real:,} real, {verification.fake:,} fake"
    ramp = np.linspace(0, SCALE_MAXIMUM, _SIDE, dtype=np.float32)[np.newaxis].repeat(_SIDE, axis=0)
    return page.render(
        "verify.html",
        title=f"edgedf verify: {verification.artifact} against {verification.parent}",
        verdict=verification.verdict,
        headline=f"{MARKS[verification.verdict]} {headline(verification)}",
        facts={
            "artifact": verification.artifact,
            "parent": verification.parent,
            "data": f"{verification.data}, split {verification.split}",
            "pictures": counts,
        },
        figures=figures(verification),
        layers=None if layers is None else layer_section(layers),
        examples=tuple(map(_example, examples)),
        scale=_image(color_map(ramp, side=_SIDE)[:8], "color scale of the maps"),
        scale_maximum=f"{SCALE_MAXIMUM:g}",
        files={
            "Damaged, and judged as they decode": verification.damaged,
            "Left out: not readable": [f"{e.file}: {e.reason}" for e in verification.skipped],
            "Left out for their suffix": [f"{n} {s}" for s, n in verification.left_out.items()],
        },
    )


def _example(example: Example) -> _Example:
    seen = example.compared
    what = "verdict changed" if seen.changed else "same verdict"
    if seen.flipped:
        what = "verdict flipped"
    truth = "no label" if seen.label == "unknown" else seen.label
    parent = f"parent: {seen.parent_verdict}, score {seen.parent_score:.3f}"
    artifact = f"artifact: {seen.artifact_verdict}, score {seen.artifact_score:.3f}"
    parent_map = color_map(example.parent_map, side=_SIDE)
    artifact_map = color_map(example.artifact_map, side=_SIDE)
    return _Example(
        seen.file,
        (
            _image(fit_square(example.picture, _SIDE), "picture", f"truth: {truth}"),
            _image(parent_map, "the parent's defocus map", parent),
            _image(artifact_map, "the artifact's defocus map", artifact),
        ),
        f"{what}; the maps differ by {seen.map_error:.3f} px on average",
    )


def _image(pixels: RGBImage, description: str, caption: str = "") -> _Image:
    data = base64.b64encode(encode_jpeg(pixels)).decode("ascii")
    height, width = pixels.shape[:2]
    source = Markup(f"data:image/jpeg;base64,{data}")
    return _Image(source, width, height, description, caption)
