"""What a profile says, in words: for the terminal, for Markdown and for the HTML report alike."""

from __future__ import annotations

from typing import NamedTuple

from edgedf.runtime.profile.against import Comparison
from edgedf.runtime.profile.document import DeviceRun, Problem, Profile, Ratio, Result, Sustained

__all__ = [
    "MARKS",
    "Section",
    "compared",
    "device_line",
    "headline",
    "kib",
    "megabytes",
    "ms",
    "name_of",
    "problem_line",
    "ratio_line",
    "sections",
    "standing",
    "sustained_line",
]

MARKS = {"valid": "✓", "semi-valid": "~", "invalid": "✗"}


class Section(NamedTuple):
    """A table with what has to be said below it.

    Args:
        title: Empty for the first.
        headings: Of its columns; the first column is text, the others mostly numbers with units.
        rows: Its cells, as many as there are headings.
        remarks: Sentences.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...] = ()


def ms(value: float | None) -> str:
    """Milliseconds with three significant digits, ``-`` for None: ``2.81 ms``."""
    raise NotImplementedError


def kib(value: int | None) -> str:
    """KiB as MiB: ``5.3 MiB``; ``-`` for None."""
    raise NotImplementedError


def megabytes(size: int) -> str:
    """Bytes of a file: ``1.142 MB``."""
    raise NotImplementedError


def name_of(profile: Profile, result: Result) -> str:
    """``student_int8.tflite, 1 thread``."""
    raise NotImplementedError


def headline(profile: Profile, result: Result) -> str:
    """A result in a line: p50 with interval, p90, throughput, size, memory, validity."""
    raise NotImplementedError


def ratio_line(profile: Profile, run: DeviceRun, ratio: Ratio) -> str:
    """A ratio in a sentence: which takes how many times as long, with its interval."""
    raise NotImplementedError


def sustained_line(found: Sustained) -> str:
    """A sustained run in a sentence."""
    raise NotImplementedError


def device_line(run: DeviceRun) -> str:
    """What was measured on, in a line."""
    raise NotImplementedError


def problem_line(problem: Problem) -> str:
    """A problem in a line, with what to do now."""
    raise NotImplementedError


def standing(profile: Profile) -> str:
    """Whether the figures may be published, and if not, why not."""
    raise NotImplementedError


def sections(profile: Profile, run: DeviceRun) -> tuple[Section, ...]:
    """All tables of a device: latency, ratios, start and memory, pipeline, operators, sustained."""
    raise NotImplementedError


def compared(comparison: Comparison) -> tuple[Section, ...]:
    """Tables of what changed against an earlier profile."""
    raise NotImplementedError
