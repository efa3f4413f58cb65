"""Celeb-DF v2 (Li et al., CVPR 2020): interviews of celebrities, and swaps among them.

``Celeb-real/id0_0000`` is a real video of person 0, ``Celeb-synthesis/id0_id1_0000`` that video
with the face of person 1, ``YouTube-real/00000`` a real video of somebody else.
``List_of_testing_videos.txt`` names the official test videos, a line each: 1 for real or 0 for
fake, and the path.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgedf.distill.datasets.dataset import (
    ClassName,
    Dataset,
    Layout,
    Sample,
    Split,
    list_samples,
)
from edgedf.distill.datasets.files import existing_folder, folders_in, read_lines
from edgedf.distill.datasets.frames import Clip, find_clips, frames_of
from edgedf.distill.datasets.splits import RATIO, TRAIN_AND_VAL, assign, components
from edgedf.distill.settings import FRAMES
from edgedf.errors import DataError
from edgedf.progress import Progress, silent

__all__ = ["LAYOUT", "TEST_LIST", "read_celebdf"]

_NAME = "celebdf"
_SHAPE = "Celeb-real/, Celeb-synthesis/ and YouTube-real/, best with List_of_testing_videos.txt"
TEST_LIST = "List_of_testing_videos.txt"

# Spelt in lower case: some tools write Youtube-real.
_PARTS: Mapping[str, ClassName] = {
    "celeb-real": "real",
    "youtube-real": "real",
    "celeb-synthesis": "fake",
}
_SYNTHESIS = "Celeb-synthesis"
_SET = "celeb-df v2"
_PERSON = re.compile(r"id\d+")
_LIST_LINE = "lines such as '1 YouTube-real/00170.mp4'"

_Key = tuple[str, str]


def _fits(folder: Path) -> bool:
    return any(
        place.name.lower() in ("celeb-real", "celeb-synthesis") for place in folders_in(folder)
    )


def read_celebdf(
    folder: str | Path,
    *,
    official: bool | None = None,
    frames: int = FRAMES,
    cache: str | Path | None = None,
    progress: Progress = silent,
) -> Dataset:
    """Read Celeb-DF v2.

    With the official list, its videos are ``test``. The persons in it are in most of the other
    videos too, so of those only the ones without any of these persons become ``train`` and ``val``
    (7:1, linked persons together); the rest is left out and counted. Without it, all videos are
    split 7:1:2 with linked persons together; as swaps link persons far and wide, that is as uneven
    as the groups are.

    Args:
        folder: The folder with ``Celeb-real`` and so on.
        official: Whether the official list makes the test split; None for where it is there.
        frames: Frames of each video, evenly spaced.
        cache: Where frames are put that have to be extracted.
        progress: Told about each video that is decoded.

    Raises:
        DataError: A class or the list is not there, the list names other videos, or videos need a
            cache.
    """
    root = existing_folder(folder)
    clips = _clips(root)
    listed = root / TEST_LIST
    if official or (official is None and listed.is_file()):
        testing, notes = _testing(listed, clips)
    else:
        testing, notes = frozenset(), [f"{TEST_LIST} is not used: split 7:1:2 by linked persons."]
    split_of, groups = _divided(clips, testing, notes)
    wanted = [key for key in clips if key in split_of]
    extracted = frames_of(
        [clips[key] for key in wanted], root, count=frames, cache=cache, progress=progress
    )
    notes += [f"{entry.file} is left out: {entry.reason}." for entry in extracted.skipped]
    samples = [
        Sample(
            path=path,
            set=_SET,
            label=_PARTS[key[0]],
            group=groups[key],
            split=split_of[key],
            source=f"{_SET} {clips[key].place.name}",
            video=f"{clips[key].place.name}/{key[1]}",
        )
        for key, pictures in zip(wanted, extracted.of, strict=True)
        for path in pictures
    ]
    return list_samples(root, samples, _NAME, notes, has_splits=bool(testing))


LAYOUT = Layout(
    _NAME,
    _SHAPE,
    _fits,
    lambda folder, how: read_celebdf(
        folder, frames=how.frames, cache=how.cache, progress=how.progress
    ),
)


def _clips(root: Path) -> dict[_Key, Clip]:
    """Clips by part (in lower case) and name."""
    clips: dict[_Key, Clip] = {}
    for place in folders_in(root):
        if place.name.lower() in _PARTS:
            clips.update(((place.name.lower(), clip.name), clip) for clip in find_clips(place))
    for label, name in (("real", "Celeb-real"), ("fake", _SYNTHESIS)):
        if not any(_PARTS[part] == label for part, _ in clips):
            raise DataError(
                f"Celeb-DF in {root} has no {label} video.",
                expected=f"{_SHAPE}; in each <video>.mp4, videos/, frames/<video>/ or <video>/",
                next_step=f"download {name} into it",
            )
    return clips


def _testing(path: Path, clips: Mapping[_Key, Clip]) -> tuple[frozenset[_Key], list[str]]:
    """Official test videos that are there."""
    named = set()
    for number, line in enumerate(read_lines(path, expected=_LIST_LINE), 1):
        label, _, name = line.partition(" ")
        video = Path(name.strip().replace("\\", "/"))
        part = video.parts[0].lower() if len(video.parts) > 1 else ""
        # 1 means real there, the other way round than here.
        if part not in _PARTS or label != {"real": "1", "fake": "0"}[_PARTS[part]]:
            raise DataError(
                f"Line {number} of {path} is {line[:80]!r}.",
                expected=f"{_LIST_LINE}, 1 for real and 0 for fake",
                next_step="download the list again",
            )
        named.add((part, video.stem))
    there = frozenset(named & set(clips))
    if not there:
        raise DataError(
            f"None of the {len(named)} videos in {path} are there.",
            expected="the videos that the list names",
            next_step="download them, or read the folder without the list (official=False)",
        )
    absent = len(named) - len(there)
    return there, [f"Official test videos that are not there: {absent} of {len(named)}."] * bool(
        absent
    )


def _divided(
    clips: Iterable[_Key], testing: frozenset[_Key], notes: list[str]
) -> tuple[dict[_Key, Split], dict[_Key, str]]:
    """Split and group of each video; none for those that are left out."""
    clips = tuple(clips)
    tested = {person for key in testing for person in _people(key)}
    others = [key for key in clips if key not in testing]
    kept = [key for key in others if not tested.intersection(_people(key))]
    if len(kept) < len(others):
        notes.append(
            "Videos left out of train and val, as a person in them is in the test split: "
            f"{len(others) - len(kept)}."
        )
    split_of: dict[_Key, Split] = dict.fromkeys(testing, "test")
    groups: dict[_Key, str] = {}
    for part in (testing, kept):
        linked = components(_people(key) for key in part)
        groups.update((key, f"{_SET} {linked[_people(key)[0]]}") for key in part)
    ratio = TRAIN_AND_VAL if testing else RATIO
    # Persons and strangers apart, so that neither kind is missing in a split.
    for celebrity in (True, False):
        part = [key for key in kept if (key[0] != "youtube-real") == celebrity]
        of_group = assign(Counter(groups[key] for key in part), ratio)
        split_of.update((key, of_group[groups[key]]) for key in part)
    return split_of, groups


def _people(key: _Key) -> list[str]:
    """Who is in a video; a name without persons stands for itself."""
    part, name = key
    persons = _PERSON.findall(name) if part != "youtube-real" else []
    return persons or [f"{part} {name}"]
