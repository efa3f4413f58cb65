"""Frames of videos: found where somebody extracted them, else extracted once into a cache."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2

from edgedf.ahead import run_ahead
from edgedf.distill.datasets.files import files_in, folders_in, pictures_in
from edgedf.distill.settings import FRAMES
from edgedf.errors import ConfigError, DataError
from edgedf.evaluation import MAX_SKIPPED, Skipped
from edgedf.files import write_bytes, write_text
from edgedf.imaging import MAX_PIXELS
from edgedf.machine import available_cores
from edgedf.progress import Progress, silent

__all__ = ["VIDEO_SUFFIXES", "Clip", "Frames", "find_clips", "frames_of", "spread"]

T = TypeVar("T")

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv"})

# What official scripts and DeepfakeBench call the folder with one folder of frames a video.
_FRAME_FOLDERS = ("frames", "images")
_VIDEO_FOLDER = "videos"

# Written last, so a folder that has it is complete.
_DONE = "frames.json"
_NAMED = 3


@dataclass(frozen=True)
class Clip:
    """A video of a data set.

    Args:
        name: File name without suffix, or name of the folder with its frames.
        place: Folder of the data set that it belongs to, such as ``Celeb-real``.
        frames: Frames that are there already; empty where only the video is.
        video: The video; None where only frames are there.
    """

    name: str
    place: Path
    frames: tuple[Path, ...] = ()
    video: Path | None = None


@dataclass(frozen=True)
class Frames:
    """Frames of some clips.

    Args:
        of: Frames of each clip, in the order of the clips; empty for one that cannot be read.
        skipped: Videos that cannot be read.
    """

    of: tuple[tuple[Path, ...], ...]
    skipped: tuple[Skipped, ...]


def find_clips(place: Path) -> tuple[Clip, ...]:
    """Videos in a folder, as frames or as files.

    Frames lie in ``frames/<video>/`` or ``images/<video>/``, videos in ``videos/``; either also in
    the folder itself. A video whose frames are there is not opened.

    Args:
        place: The folder; need not exist.

    Returns:
        The clips in natural order of their names.

    Raises:
        DataError: A folder may not be read.
    """
    clips: dict[str, Clip] = {}
    if not place.is_dir():
        return ()
    for folder in (place / _VIDEO_FOLDER, place):
        for video in files_in(folder, VIDEO_SUFFIXES) if folder.is_dir() else ():
            clips.setdefault(video.stem, Clip(video.stem, place, video=video))
    special = {*_FRAME_FOLDERS, _VIDEO_FOLDER}
    own = [folder for folder in folders_in(place) if folder.name not in special]
    for name in _FRAME_FOLDERS:
        own += folders_in(place / name) if (place / name).is_dir() else ()
    for folder in own:
        frames = pictures_in(folder)
        if frames:
            clips[folder.name] = Clip(folder.name, place, frames=frames)
    return tuple(clips[name] for name in sorted(clips, key=lambda name: (len(name), name)))


def frames_of(
    clips: Sequence[Clip],
    root: Path,
    *,
    count: int = FRAMES,
    cache: str | Path | None = None,
    progress: Progress = silent,
) -> Frames:
    """At most ``count`` frames of each clip, evenly spaced.

    Where only a video is there, frames are decoded with OpenCV and kept in the cache as PNG, so
    that no second compression covers the video's own. A video is decoded once: a run that is killed
    goes on with the next one, and a video of another size or date is decoded again.

    Args:
        clips: The clips.
        root: Folder of the data set: the cache has the same folders below it.
        count: Frames of a clip, at least 1.
        cache: Where extracted frames are kept, a folder for this data set alone.
        progress: Told about each video that is decoded.

    Raises:
        ConfigError: ``count`` is below 1.
        DataError: Videos without frames and no cache, or more than
            :data:`~edgedf.evaluation.MAX_SKIPPED` of the videos cannot be read.
        OutputError: The cache cannot be written.
    """
    if count < 1:
        raise ConfigError(
            f"{count} frames of a video cannot be used.",
            expected="at least 1",
            next_step="leave it out for the default",
        )
    videos = [clip.video for clip in clips if not clip.frames and clip.video is not None]
    if videos and cache is None:
        raise DataError(
            f"{len(videos)} of {len(clips)} videos in {root} have no extracted frames, such as "
            f"{videos[0]}.",
            expected=f"{_FRAME_FOLDERS[0]}/{videos[0].stem}/ with pictures, beside the videos",
            next_step="name a folder where frames may be put: --cache DIR (in Python cache=)",
        )
    chosen: list[tuple[Path, ...]] = []
    skipped: list[Skipped] = []

    def extract(clip: Clip) -> tuple[Path, ...]:
        if clip.frames or clip.video is None or cache is None:
            return clip.frames
        inside = clip.video.relative_to(root).with_suffix("")
        return _extracted(clip.video, Path(cache) / f"frames-{count}" / inside, count)

    done = 0
    for clip, frames in zip(clips, run_ahead(extract, clips, available_cores()), strict=True):
        chosen.append(spread(frames, count))
        if not clip.frames:
            done += 1
            progress("extracting frames", done, len(videos))
        if not frames:
            skipped.append(Skipped(str(clip.video), "no frame of it can be decoded"))
    if len(skipped) > MAX_SKIPPED * len(clips):
        named = ", ".join(entry.file for entry in skipped[:_NAMED])
        raise DataError(
            f"{len(skipped)} of {len(clips)} videos in {root} cannot be read, such as {named}.",
            expected=f"at most {MAX_SKIPPED:.0%}",
            next_step="download them again, or move them out of the folder",
        )
    return Frames(tuple(chosen), tuple(skipped))


def spread(items: Sequence[T], count: int) -> tuple[T, ...]:
    """At most ``count`` of the items, evenly spaced: the middles of ``count`` equal parts.

    Args:
        items: In their order.
        count: How many, at least 1.
    """
    return tuple(items[index] for index in _spread(len(items), count))


def _spread(total: int, count: int) -> tuple[int, ...]:
    if total <= count:
        return tuple(range(total))
    return tuple((2 * number + 1) * total // (2 * count) for number in range(count))


def _extracted(video: Path, folder: Path, count: int) -> tuple[Path, ...]:
    """Frames of a video in the cache, decoded now if they are not there."""
    try:
        stat = video.stat()
    except OSError:
        return ()
    identity = {"bytes": stat.st_size, "modified": stat.st_mtime_ns}
    kept = _kept(folder, identity)
    if kept:
        return kept
    names = []
    for index, png in _decode(video, count):
        names.append(f"{index:06d}.png")
        write_bytes(folder / names[-1], png)
    if names:
        write_text(folder / _DONE, json.dumps({**identity, "frames": names}))
    return tuple(folder / name for name in names)


def _kept(folder: Path, identity: dict[str, int]) -> tuple[Path, ...]:
    """Frames that an earlier run left, or none where they are incomplete or of another video."""
    try:
        noted = json.loads((folder / _DONE).read_text("utf-8"))
        frames = tuple(folder / Path(name).name for name in noted["frames"])
        same = all(noted[name] == value for name, value in identity.items())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
    return frames if same and all(frame.is_file() for frame in frames) else ()


def _decode(video: Path, count: int) -> Iterator[tuple[int, bytes]]:
    """Number and PNG of evenly spaced frames; fewer where the video ends before it says."""
    capture = cv2.VideoCapture(str(video))
    try:
        width = capture.get(cv2.CAP_PROP_FRAME_WIDTH)
        height = capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if not capture.isOpened() or total < 1 or width * height > MAX_PIXELS:
            return
        wanted = set(_spread(total, count))
        # Jumping to a frame is inexact with some encoders, so all before it are stepped through.
        for index in range(max(wanted) + 1):
            if not capture.grab():
                return
            if index in wanted:
                decoded, frame = capture.retrieve()
                if not decoded:
                    return
                yield index, cv2.imencode(".png", frame)[1].tobytes()
    except cv2.error:
        return
    finally:
        capture.release()
