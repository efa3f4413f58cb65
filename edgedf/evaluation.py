"""From judged pictures to a report: by set, by source and all together, pictures and videos.

A set is what a data set calls so; a source is the camera, site or generator within it. Most sources
have one class only, so beside its own rates each source of fakes is measured against the real
pictures of its set.

A video has the mean logit of its frames; a still picture counts as a video of its own.

The records that a report consists of stand beside what fills them, so this module is a long one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from edgedf.errors import DataError
from edgedf.figures import Figure
from edgedf.map_metrics import MapMetrics
from edgedf.metrics import Metrics, auc_with_interval, detection_metrics, mean_auc_with_interval
from edgedf.progress import Progress, silent
from edgedf.result import Threshold, sigmoid

__all__ = [
    "ALL",
    "MAX_SKIPPED",
    "MEAN",
    "UNCHANGED",
    "Judgement",
    "MapRow",
    "Picture",
    "Report",
    "RobustnessRow",
    "Row",
    "Skipped",
    "check_skipped",
    "make_report",
    "robustness_rows",
    "to_videos",
]

MAX_SKIPPED = 0.05
"""Largest share of unreadable pictures with which figures are still given."""

ALL = "all"
MEAN = "mean over sets"
UNCHANGED = "unchanged"

_Level = Literal["frame", "video"]
_By = Literal["all", "set", "source", "fakes"]

_NAMED = 3


@dataclass(frozen=True)
class Picture:
    """A picture of which the truth is known.

    Args:
        file: Its path.
        set: Name of its set.
        source: Where it came from.
        group: Pictures of one group are not independent.
        label: ``real`` or ``fake``.
        video: Frames of one video share it; empty for a still picture.
    """

    file: str
    set: str
    source: str
    group: str
    label: Literal["real", "fake"]
    video: str = ""


@dataclass(frozen=True)
class Judgement:
    """What a model says of a picture.

    Args:
        picture: The picture.
        logit: The model's logit of fake.
        damaged: Whether its decoder found the file damaged.
    """

    picture: Picture
    logit: float
    damaged: bool = False

    @property
    def score(self) -> float:
        """Sigmoid of the logit, in [0, 1]."""
        return sigmoid(self.logit)


@dataclass(frozen=True)
class Row:
    """Figures of some of the pictures.

    Args:
        level: ``frame``: each picture by itself; ``video``: the frames of a video together.
        by: ``all``; ``set``; ``source``: the pictures of one source of one set; ``fakes``: the
            fakes of one source against all real pictures of its set.
        name: ``all``, the set, or set and source with a slash between.
        metrics: The figures.
    """

    level: _Level
    by: _By
    name: str
    metrics: Metrics


@dataclass(frozen=True)
class MapRow:
    """How good defocus maps are.

    Args:
        name: The set.
        against: ``exact``: maps that came with the pictures, as with synthetic depth of field;
            ``physical``: maps computed from the pictures, which are no ground truth.
        metrics: The figures.
    """

    name: str
    against: Literal["exact", "physical"]
    metrics: MapMetrics


@dataclass(frozen=True)
class RobustnessRow:
    """What a change of the pictures does.

    Args:
        change: Name of the change; ``unchanged`` for the pictures as they are.
        definition: What it does, exactly.
        name: ``all``, ``mean over sets``, or a set.
        auc: AUC of the changed pictures.
    """

    change: str
    definition: str
    name: str
    auc: Figure


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read.

    Args:
        file: Its path.
        reason: What was wrong with it.
    """

    file: str
    reason: str


@dataclass(frozen=True)
class Report:
    """How good a model is on a data set.

    Args:
        model: Which model.
        data: The folder.
        split: The split, ``all`` for everything.
        pictures: Number of pictures that were judged.
        threshold: Thresholds of the verdicts; None where the model has none.
        mean_auc: AUC averaged over the sets that have both classes; None where there is none.
        rows: Figures of the scores.
        maps: Figures of the maps.
        robustness: AUC of changed pictures.
        skipped: Pictures that could not be read.
        damaged: Files that were judged although their decoder found them damaged.
        left_out: Files of the folder that were left out for their suffix, by suffix.
    """

    model: str
    data: str
    split: str
    pictures: int
    threshold: Threshold | None
    mean_auc: Figure | None
    rows: tuple[Row, ...]
    maps: tuple[MapRow, ...] = ()
    robustness: tuple[RobustnessRow, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    damaged: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)


def make_report(
    judgements: Sequence[Judgement],
    *,
    model: str,
    data: str,
    split: str,
    threshold: Threshold | None = None,
    derived: Sequence[Judgement] = (),
    maps: Sequence[MapRow] = (),
    robustness: Sequence[RobustnessRow] = (),
    skipped: Sequence[Skipped] = (),
    progress: Progress = silent,
) -> Report:
    """Measure everything that the judgements allow.

    Args:
        judgements: Of all pictures.
        model: Which model.
        data: Which folder.
        split: Which split.
        threshold: Turns scores into verdicts.
        derived: Of pictures made from those of the data set, such as self-blends: a source of the
            set they name, and not part of the figures by set nor of those of all pictures.
        maps: Goes into the report as it is.
        robustness: Goes into the report as it is.
        skipped: Goes into the report as it is.
        progress: Told about each row.

    Raises:
        DataError: There is no judgement, or a logit that is no finite number.
    """
    if not judgements:
        raise DataError(
            f"There is no picture to judge in {data}.",
            expected="at least one",
            next_step="check the folder and the split",
        )
    levels: list[tuple[_Level, Sequence[Judgement], Sequence[Judgement]]] = [
        ("frame", judgements, derived)
    ]
    if any(entry.picture.video for entry in judgements):
        levels.append(("video", to_videos(judgements), to_videos(derived)))
    parts = [(level, *part) for level, whole, more in levels for part in _parts(whole, more)]
    rows: list[Row] = []
    measured: dict[frozenset[int], Metrics] = {}
    for done, (level, by, name, entries) in enumerate(parts, 1):
        same = frozenset(map(id, entries))  # a set with one source is measured once
        if same not in measured:
            measured[same] = detection_metrics(*_columns(entries), threshold)
        rows.append(Row(level, by, name, measured[same]))
        progress("figures", done, len(parts))
    return Report(
        model,
        data,
        split,
        len(judgements),
        threshold,
        _mean_auc(judgements),
        tuple(rows),
        tuple(maps),
        tuple(robustness),
        tuple(skipped),
        tuple(entry.picture.file for entry in judgements if entry.damaged),
    )


def to_videos(judgements: Iterable[Judgement]) -> tuple[Judgement, ...]:
    """One judgement a video, with the mean logit of its frames; stills stay as they are.

    Frames belong together when set, source, label and video are the same, so the real and the
    changed part of one video are two.

    Args:
        judgements: Of frames and still pictures.

    Returns:
        In the order of first frames, whose file and group they have.
    """
    together: dict[object, list[Judgement]] = defaultdict(list)
    for number, entry in enumerate(judgements):
        picture = entry.picture
        frame_of = (picture.set, picture.source, picture.label, picture.video)
        together[frame_of if picture.video else number].append(entry)
    return tuple(
        replace(frames[0], logit=float(np.mean([frame.logit for frame in frames])))
        for frames in together.values()
    )


def robustness_rows(
    change: str, definition: str, judgements: Sequence[Judgement]
) -> tuple[RobustnessRow, ...]:
    """AUC of changed pictures: of all of them, by set, and averaged over sets.

    Args:
        change: Name of the change.
        definition: What it does.
        judgements: Of the changed pictures.

    Returns:
        A row for everything that has both classes; the mean where that is more than one set.

    Raises:
        DataError: A logit that is no finite number.
    """
    parts = [(ALL, list(judgements)), *_grouped("set", judgements)]
    rows = [
        RobustnessRow(change, definition, name, auc_with_interval(*_columns(part)))
        for name, part in parts
        if len({entry.picture.label for entry in part}) == 2
    ]
    mean = _mean_auc(judgements) if len(rows) > 2 else None
    return (*rows, *([] if mean is None else [RobustnessRow(change, definition, MEAN, mean)]))


def check_skipped(skipped: Sequence[Skipped], pictures: int) -> None:
    """Stop where so many pictures cannot be read that the rest may be no fair sample.

    Args:
        skipped: Those that cannot be read.
        pictures: Number of all pictures.

    Raises:
        DataError: More than :data:`MAX_SKIPPED` of them.
    """
    if len(skipped) <= MAX_SKIPPED * pictures:
        return
    named = "; ".join(f"{entry.file}: {entry.reason}" for entry in skipped[:_NAMED])
    more = f"; and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
    raise DataError(
        f"{len(skipped)} of {pictures} pictures cannot be read. {named}{more}",
        expected=f"at most {MAX_SKIPPED:.0%}: what is left may be no fair sample",
        next_step="replace each such file, or take its line out of the manifest",
    )


def _parts(
    judgements: Sequence[Judgement], derived: Sequence[Judgement]
) -> Iterator[tuple[_By, str, list[Judgement]]]:
    """What the rows are about, in their order."""
    yield "all", ALL, list(judgements)
    for name, part in _grouped("set", judgements):
        yield "set", name, part
        real = [entry for entry in part if entry.picture.label == "real"]
        for source, entries in _grouped("source", part):
            yield "source", f"{name} / {source or '-'}", entries
            others = [entry for entry in real if entry.picture.source != source]
            if others and any(entry.picture.label == "fake" for entry in entries):
                yield "fakes", f"{name} / {source or '-'}", [*others, *entries]
        for source, entries in _grouped("source", dict(_grouped("set", derived)).get(name, ())):
            title = f"{name} / {source or '-'}"
            yield "source", title, entries
            fakes = [entry for entry in entries if entry.picture.label == "fake"]
            if real and fakes:
                yield "fakes", title, [*real, *fakes]


def _grouped(
    by: Literal["set", "source"], judgements: Iterable[Judgement]
) -> list[tuple[str, list[Judgement]]]:
    parts: dict[str, list[Judgement]] = defaultdict(list)
    for entry in judgements:
        parts[getattr(entry.picture, by)].append(entry)
    return sorted(parts.items())


def _columns(
    judgements: Sequence[Judgement],
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, logits and groups."""
    labels = np.array([float(entry.picture.label == "fake") for entry in judgements])
    logits = np.array([entry.logit for entry in judgements])
    return labels, logits, [entry.picture.group for entry in judgements]


def _mean_auc(judgements: Sequence[Judgement]) -> Figure | None:
    if not any(
        len({entry.picture.label for entry in part}) == 2 for _, part in _grouped("set", judgements)
    ):
        return None
    return mean_auc_with_interval(
        *_columns(judgements), [entry.picture.set for entry in judgements]
    )
