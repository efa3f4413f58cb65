"""What is wrong with a calibration: with its images, and with the ranges that came of them.

A *note* is worth knowing, a *warning* worth acting on, and an *error* is what broken calibrations
look like; whether the model suffers is for the gate to say. The limits come from measurements: see
the figures beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedf.errors import ImageError
from edgedf.imaging import preprocess, read_image_bytes
from edgedf.picture_hash import NEAR, distance
from edgedf.progress import Progress, silent
from edgedf.quantize.calibration.coverage import TensorCoverage
from edgedf.quantize.calibration.image_facts import ImageFacts, facts_of

__all__ = [
    "CalibrationAudit",
    "Finding",
    "audit_calibration",
    "coverage_findings",
    "facts_of_files",
    "image_findings",
    "overlap_findings",
    "worst_covered",
]

Severity = Literal["note", "warning", "error"]

# With 8 or 16 images of the shipped sample an activation loses up to 0.3 % on others, with 32 it
# is 0.1 %.
FEW_IMAGES = 16
MIN_MINORITY = 0.25
MAX_UPSCALED = 0.25
# Among 800 photographs and generated pictures of five sets, 1 in 1000 has a 99th percentile below
# 45, and 1 in 100 a standard deviation below 14.
DARK = 48.0
LOW_CONTRAST = 10.0
SOME_DARK, MANY_DARK = 0.25, 0.5
# The activation that loses most loses 0.006 to 0.1 % with 32 images of the sample or of each of
# four sets, on others of the same set or of all sets; 1.1 % with twelve dissimilar photographs and
# an untrained student; 7 % with flat grey pictures, 14 % with ten that are nearly black, 63 % with
# noise; a logit with a moving average 15 to 62 %.
LOST_WARNING, LOST_ERROR = 0.002, 0.03
# On the same images the narrowest use was 72 % of a range.
LEAST_USED = 0.5
MANY_UNUSED = 0.25

_NAMED = 3
_WORST = 5


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        severity: How bad it is.
        about: ``images``, ``classes``, ``size``, ``codec``, ``dark``, ``coverage``, ``width`` or
            ``overlap``.
        message: What was found, with figures.
        next_step: What to do.
    """

    severity: Severity
    about: str
    message: str
    next_step: str


@dataclass(frozen=True)
class CalibrationAudit:
    """The outcome of :func:`audit_calibration`.

    Args:
        images: Number of calibration images.
        real: How many of them are known to be real.
        fake: How many are known to be fake.
        codecs: How many have each codec, such as ``jpeg, IJG quality 90``.
        upscaled: How many are smaller than the model's input.
        dark: How many are nearly black, or nearly of one grey level.
        held_out: Number of images that the ranges were held against.
        coverage: The tensors that are covered worst, by format.
        findings: What is wrong, the worst first.
    """

    images: int
    real: int
    fake: int
    codecs: dict[str, int]
    upscaled: int
    dark: int
    held_out: int
    coverage: dict[str, tuple[TensorCoverage, ...]]
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Severity | None:
        """The worst severity among the findings; None without any."""
        return self.findings[0].severity if self.findings else None


def audit_calibration(
    facts: Sequence[ImageFacts],
    size: int,
    covered: Mapping[str, Sequence[TensorCoverage]],
    held_out: int,
    gate: Sequence[ImageFacts] = (),
) -> CalibrationAudit:
    """Audit calibration images and the ranges that were found on them.

    Args:
        facts: Facts of the calibration images; none where ranges alone are to be judged.
        size: Side of the model's input in pixels.
        covered: What :func:`edgedf.quantize.calibration.coverage.coverage` says of the ranges on
            other images, by format.
        held_out: How many other images.
        gate: Facts of the pictures that the result will be judged on.
    """
    findings = [*image_findings(facts, size)] if facts else []
    for name, tensors in covered.items():
        findings += coverage_findings(tensors, name, held_out)
    findings += overlap_findings(facts, gate)
    order: tuple[Severity, ...] = ("error", "warning", "note")
    return CalibrationAudit(
        images=len(facts),
        real=sum(entry.label == "real" for entry in facts),
        fake=sum(entry.label == "fake" for entry in facts),
        codecs=dict(Counter(entry.codec for entry in facts).most_common()),
        upscaled=sum(entry.side < size for entry in facts),
        dark=sum(map(_is_dark, facts)),
        held_out=held_out,
        coverage={name: worst_covered(tensors) for name, tensors in covered.items()},
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
    )


def image_findings(facts: Sequence[ImageFacts], size: int) -> Iterator[Finding]:
    """What is wrong with calibration images by themselves.

    Args:
        facts: Facts of the images, at least one.
        size: Side of the model's input in pixels.

    Yields:
        Findings, in no particular order.
    """
    count = len(facts)
    if count < FEW_IMAGES:
        yield Finding(
            "warning",
            "images",
            f"There are {count} calibration images.",
            f"calibrate with at least {FEW_IMAGES}; the default is 32",
        )
    labels = Counter(entry.label for entry in facts if entry.label is not None)
    known = sum(labels.values())
    if known and min(labels["real"], labels["fake"]) < MIN_MINORITY * known:
        yield Finding(
            "warning",
            "classes",
            f"{labels['real']} calibration images are real and {labels['fake']} fake.",
            "give about as many of each: ranges found on one class need not fit the other",
        )
    dark = [entry for entry in facts if _is_dark(entry)]
    if len(dark) > SOME_DARK * count:
        yield Finding(
            "error" if len(dark) > MANY_DARK * count else "warning",
            "dark",
            f"{len(dark)} of {count} calibration images are nearly black or nearly of one grey "
            f"level, such as {_names(dark)}.",
            "use photographs that are exposed like those the model will see",
        )
    small = [entry for entry in facts if entry.side < size]
    if len(small) > MAX_UPSCALED * count:
        yield Finding(
            "warning",
            "size",
            f"{len(small)} of {count} calibration images are smaller than the model's input of "
            f"{size} x {size} and are enlarged, such as {_names(small)}.",
            f"use originals of at least {size} pixels on each side: enlarged ones have no fine "
            "detail",
        )
    codecs = {entry.codec for entry in facts}
    if len(codecs) == 1:
        yield Finding(
            "note",
            "codec",
            f"All calibration images are of one codec: {codecs.pop()}.",
            "mix in images as the model will get them, of several qualities",
        )


def coverage_findings(
    tensors: Sequence[TensorCoverage], name: str, images: int
) -> Iterator[Finding]:
    """Whether ranges are too narrow or too wide for other images.

    Args:
        tensors: What :func:`edgedf.quantize.calibration.coverage.coverage` says.
        name: Name of the format.
        images: How many images were looked at.

    Yields:
        Findings.
    """
    narrow = [tensor for tensor in tensors if tensor.lost > LOST_WARNING]
    if narrow:
        worst = worst_covered(narrow)[0]
        yield Finding(
            "error" if worst.lost > LOST_ERROR else "warning",
            "coverage",
            f"{name}: {len(narrow)} of {len(tensors)} activations lose more than "
            f"{LOST_WARNING:.1%} of their signal to clipping on {images} images that calibration "
            f"did not see. {_described(narrow)}.",
            "calibrate with more images, and with such as the model will see",
        )
    wide = [tensor for tensor in tensors if tensor.used < LEAST_USED]
    if len(wide) > MANY_UNUSED * len(tensors):
        least = min(wide, key=lambda tensor: tensor.used)
        yield Finding(
            "warning",
            "width",
            f"{name}: {len(wide)} of {len(tensors)} activations use less than {LEAST_USED:.0%} of "
            f"their range on {images} images that calibration did not see; {least.tensor} uses "
            f"{least.used:.0%}. Steps are that much coarser.",
            "take unusual images (noise, test charts) out, or calibrate with --method mse",
        )


def overlap_findings(facts: Sequence[ImageFacts], gate: Sequence[ImageFacts]) -> Iterator[Finding]:
    """Calibration images among those that judge the result.

    Args:
        facts: Facts of the calibration images.
        gate: Facts of the others.

    Yields:
        At most one finding for equal files, and one for pictures that look the same.
    """
    known = {entry.sha256 for entry in gate}
    equal = [entry for entry in facts if entry.sha256 in known]
    if equal:
        yield Finding(
            "error",
            "overlap",
            f"{len(equal)} of {len(facts)} calibration images are also among the {len(gate)} "
            f"pictures of the gate, such as {_names(equal)}.",
            "calibrate with other pictures: those of a manifest's train split, not test",
        )
    near = [
        entry
        for entry in facts
        if entry.sha256 not in known
        and not _is_dark(entry)
        and any(distance(entry.looks, other.looks) <= NEAR for other in gate)
    ]
    if near:
        yield Finding(
            "warning",
            "overlap",
            f"{len(near)} calibration images look like pictures of the gate, such as "
            f"{_names(near)}.",
            "keep copies and crops of one photograph on the same side",
        )


def facts_of_files(
    files: Sequence[str], size: int, *, progress: Progress = silent
) -> tuple[ImageFacts, ...]:
    """Facts of image files; those that cannot be read are passed over.

    Args:
        files: Paths.
        size: Side of the model's input in pixels.
        progress: Told about each file.
    """
    facts = []
    for done, file in enumerate(files, 1):
        try:
            data = read_image_bytes(file)
            facts.append(facts_of(Path(file), None, data, preprocess(data, size)))
        except ImageError:
            pass
        progress("read pictures of the gate", done, len(files))
    return tuple(facts)


def worst_covered(
    tensors: Sequence[TensorCoverage], limit: int = _WORST
) -> tuple[TensorCoverage, ...]:
    """The tensors that lose most to clipping, the worst first."""
    return tuple(sorted(tensors, key=lambda tensor: (-tensor.lost, -tensor.outside))[:limit])


def _described(narrow: Sequence[TensorCoverage]) -> str:
    return "; ".join(
        f"{tensor.tensor} loses {tensor.lost:.1%}, {tensor.outside:.2%} of its values are outside "
        f"{tensor.low:.3g} to {tensor.high:.3g}"
        for tensor in worst_covered(narrow, _NAMED)
    )


def _is_dark(entry: ImageFacts) -> bool:
    return entry.brightness < DARK or entry.spread < LOW_CONTRAST


def _names(facts: Sequence[ImageFacts]) -> str:
    return ", ".join(entry.path.name for entry in facts[:_NAMED])
