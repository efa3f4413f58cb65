"""FaceForensics++ (Rössler et al., ICCV 2019): videos of faces, swapped or re-enacted.

``original_sequences/youtube/<compression>/`` holds the real videos, ``000`` to ``999``;
``manipulated_sequences/<manipulation>/<compression>/`` those made from two of them: ``000_003`` has
the scene of 000 and the face (or the expression) of 003.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedf.distill.datasets.dataset import (
    SPLITS,
    ClassName,
    Dataset,
    Layout,
    Sample,
    Split,
    list_samples,
)
from edgedf.distill.datasets.files import existing_folder, pictures_in, read_json
from edgedf.distill.datasets.frames import Clip, find_clips, frames_of
from edgedf.distill.datasets.splits import assign, components
from edgedf.distill.settings import FRAMES
from edgedf.errors import ConfigError, DataError
from edgedf.progress import Progress, silent

__all__ = ["COMPRESSIONS", "LAYOUT", "MANIPULATIONS", "read_faceforensics"]

_NAME = "faceforensics"
_SHAPE = (
    "original_sequences/youtube/c23/ and manipulated_sequences/Deepfakes/c23/ (or another "
    "manipulation, c0, c40), each with videos/, frames/<video>/ or images/<video>/"
)

MANIPULATIONS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
COMPRESSIONS = ("c0", "c23", "c40")

_ORIGINAL, _MANIPULATED = "original_sequences", "manipulated_sequences"
_YOUTUBE = "youtube"
# The official download script says raw where its documentation says c0.
_FOLDERS = {"c0": ("c0", "raw"), "c23": ("c23",), "c40": ("c40",)}
_SPLIT_PLACES = (".", "splits", "dataset/splits")
_SPLIT_FILE = 'a list of pairs of videos, such as [["071", "054"], ["087", "081"]]'
_CLIP = re.compile(r"\d{3}(_\d{3})?")
_MASKS = "masks"


@dataclass(frozen=True)
class _Part:
    """Clips of one source at one compression."""

    label: ClassName
    source: str
    compression: str
    clips: tuple[Clip, ...]


def read_faceforensics(
    folder: str | Path,
    *,
    manipulations: Iterable[str] | None = None,
    compressions: Iterable[str] | None = None,
    splits: str | Path | None = None,
    frames: int = FRAMES,
    cache: str | Path | None = None,
    progress: Progress = silent,
) -> Dataset:
    """Read FaceForensics++.

    Each compression is a set, ``ff++ c23``, each manipulation in it a source, ``ff++ Deepfakes
    c23``. Splits are the official ones where ``train.json``, ``val.json`` and ``test.json`` are
    found (in the folder, in ``splits/`` or in ``dataset/splits/``). Else videos are split 7:1:2;
    both videos of a pair stay together, and so does whatever pairs link, so that no person is in
    two splits. That division does not depend on the manipulations chosen.

    A fake has its mask where ``masks/frames/<video>/`` (or ``images/``, or ``masks/<video>/``
    beside the frames) has a picture of the frame's name; masks that are videos are not read.

    Args:
        folder: The folder with ``original_sequences`` and ``manipulated_sequences``.
        manipulations: Of :data:`MANIPULATIONS`; None for those that are there.
        compressions: Of :data:`COMPRESSIONS`; None for those that are there.
        splits: Folder with the official JSON files; None to look for them.
        frames: Frames of each video, evenly spaced.
        cache: Where frames are put that have to be extracted.
        progress: Told about each video that is decoded.

    Raises:
        ConfigError: A manipulation or a compression that does not exist.
        DataError: Something that was asked for is not there, videos that need a cache, or splits
            that cannot be used.
    """
    root = existing_folder(folder)
    _check_names("manipulation", manipulations, MANIPULATIONS)
    _check_names("compression", compressions, COMPRESSIONS)
    parts = _parts(root, manipulations, compressions)
    links = _links(root)
    split_of = official = _official(root, splits)
    notes = []
    if split_of is None:
        groups = components(links)
        of_group = assign(Counter(groups.values()))
        split_of = {video: of_group[group] for video, group in groups.items()}
        notes.append("No train.json, val.json and test.json: videos are split 7:1:2 by pair.")
    else:
        groups = components([*links, *([video] for video in split_of)])
    wanted, unlisted, misnamed = [], 0, 0
    for part in parts:
        for clip in part.clips:
            if not _CLIP.fullmatch(clip.name):
                misnamed += 1
            elif all(video in split_of for video in clip.name.split("_")):
                wanted.append((part, clip))
            else:
                unlisted += 1
    if misnamed:
        notes.append(f"Videos left out, as their names are not like 000 or 000_003: {misnamed}.")
    if unlisted:
        notes.append(f"Videos left out, as the official splits do not name them: {unlisted}.")
    extracted = frames_of(
        [clip for _, clip in wanted], root, count=frames, cache=cache, progress=progress
    )
    notes += [f"{entry.file} is left out: {entry.reason}." for entry in extracted.skipped]
    samples = []
    for (part, clip), pictures in zip(wanted, extracted.of, strict=True):
        samples += _samples(part, clip, pictures, split_of, groups, root)
    return list_samples(root, samples, _NAME, notes, has_splits=official is not None)


LAYOUT = Layout(
    _NAME,
    _SHAPE,
    lambda folder: (folder / _ORIGINAL).is_dir() or (folder / _MANIPULATED).is_dir(),
    lambda folder, how: read_faceforensics(
        folder, frames=how.frames, cache=how.cache, progress=how.progress
    ),
)


def _check_names(what: str, given: Iterable[str] | None, known: Sequence[str]) -> None:
    for name in given or ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise ConfigError(
                f"FaceForensics++ has no {what} {name!r}.",
                expected=", ".join(known),
                next_step=f"did you mean {close[0]}?" if close else "choose one of these",
            )


def _parts(
    root: Path, manipulations: Iterable[str] | None, compressions: Iterable[str] | None
) -> list[_Part]:
    """Clips of everything asked for: all of it has to be there, and both classes."""
    youtube = root / _ORIGINAL / _YOUTUBE
    parts = []
    chosen = tuple(compressions) if compressions is not None else COMPRESSIONS
    for compression in chosen:
        real = _clips(youtube, compression)
        fakes = {
            name: _clips(root / _MANIPULATED / name, compression)
            for name in (MANIPULATIONS if manipulations is None else tuple(manipulations))
        }
        if compressions is None and not real and not any(fakes.values()):
            continue
        if not real:
            raise _missing(youtube / compression)
        for name, clips in fakes.items():
            if not clips and manipulations is not None:
                raise _missing(root / _MANIPULATED / name / compression)
        if not any(fakes.values()):
            raise _missing(root / _MANIPULATED / MANIPULATIONS[0] / compression)
        parts.append(_Part("real", _YOUTUBE, compression, real))
        parts += [_Part("fake", name, compression, clips) for name, clips in fakes.items() if clips]
    if not parts:
        raise _missing(youtube / COMPRESSIONS[1])
    return parts


def _missing(place: Path) -> DataError:
    return DataError(
        f"FaceForensics++ has no videos and no frames in {place}.",
        expected=_SHAPE,
        next_step="download what is missing, or choose other manipulations and compressions",
    )


def _clips(place: Path, compression: str) -> tuple[Clip, ...]:
    for name in _FOLDERS[compression]:
        clips = find_clips(place / name)
        if clips:
            return clips
    return ()


def _links(root: Path) -> list[list[str]]:
    """Real videos and pairs of them, whatever of it was asked for."""
    fakes = (root / _MANIPULATED / name for name in MANIPULATIONS)
    return [
        clip.name.split("_")
        for place in (root / _ORIGINAL / _YOUTUBE, *fakes)
        for compression in COMPRESSIONS
        for clip in _clips(place, compression)
        if _CLIP.fullmatch(clip.name)
    ]


def _official(root: Path, given: str | Path | None) -> dict[str, Split] | None:
    """Split of each video by the JSON files, or None where there are none."""
    places = [root / place for place in _SPLIT_PLACES] if given is None else [Path(given)]
    for place in places:
        files = {split: place / f"{split}.json" for split in SPLITS}
        absent = [path.name for path in files.values() if not path.is_file()]
        if not absent:
            return _read_official(files)
        if given is not None or len(absent) < len(files):
            raise DataError(
                f"{place} has no {', '.join(absent)}.",
                expected=", ".join(path.name for path in files.values()),
                next_step="copy dataset/splits from the repository of FaceForensics++",
            )
    return None


def _read_official(files: Mapping[Split, Path]) -> dict[str, Split]:
    split_of: dict[str, Split] = {}
    for split, path in files.items():
        for pair in _pairs(path):
            for video in pair:
                if split_of.setdefault(video, split) != split:
                    raise DataError(
                        f"Video {video} is in {split_of[video]}.json and in {split}.json.",
                        expected="each video in one split",
                        next_step="copy dataset/splits from the repository of FaceForensics++",
                    )
    return split_of


def _pairs(path: Path) -> list[list[str]]:
    pairs: Any = read_json(path, expected=_SPLIT_FILE, limit=1 << 22)
    good = isinstance(pairs, list) and all(
        isinstance(pair, list) and all(isinstance(video, str) for video in pair) for pair in pairs
    )
    if not good:
        raise DataError(
            f"{path} holds something else than pairs of videos.",
            expected=_SPLIT_FILE,
            next_step="copy dataset/splits from the repository of FaceForensics++",
        )
    return pairs


def _samples(
    part: _Part,
    clip: Clip,
    pictures: Sequence[Path],
    split_of: Mapping[str, Split],
    groups: Mapping[str, str],
    root: Path,
) -> list[Sample]:
    first = clip.name.split("_")[0]
    masks = _masks(clip) if part.label == "fake" else {}
    return [
        Sample(
            path=path,
            set=f"ff++ {part.compression}",
            label=part.label,
            group=f"ff++ {groups[first]}",
            split=split_of[first],
            source=f"ff++ {part.source} {part.compression}",
            mask=masks.get(path.stem),
            video=f"{clip.place.relative_to(root).as_posix()}/{clip.name}",
        )
        for path in pictures
    ]


def _masks(clip: Clip) -> dict[str, Path]:
    """Masks of a fake's frames by name."""
    places = (
        *(clip.place.parent / _MASKS / folder / clip.name for folder in ("frames", "images")),
        clip.place / _MASKS / clip.name,
    )
    for place in places:
        if place.is_dir():
            return {path.stem: path for path in pictures_in(place)}
    return {}
