"""DiffusionDB (Wang et al., ACL 2023), all fake, and COCO (Lin et al., ECCV 2014), all real.

The paper (Jeon & Woo, CIKM 2025) tells one from the other. They differ in size, format and
compression as well, so look at ``edgedf distill audit`` before you trust a figure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edgedf.distill.datasets.dataset import Dataset, Layout, Sample, list_samples
from edgedf.distill.datasets.files import existing_folder, folders_in, pictures_in, read_json
from edgedf.distill.datasets.splits import assign, hash_order
from edgedf.errors import ConfigError, DataError
from edgedf.files import sha256_of

__all__ = ["LAYOUTS", "read_coco", "read_diffusiondb", "read_diffusiondb_coco"]

_NAME, _COCO_NAME, _PAIR_NAME = "diffusiondb", "coco", "diffusiondb-coco"
_SHAPE = "images/part-000001/ (or part-000001/ itself) with pictures and part-000001.json"
_COCO_SHAPE = "train2017/, val2017/ (or another year's) with pictures"
_PAIR_SHAPE = "diffusiondb/ and coco/, each as it was unpacked"

_PART = re.compile(r"part-\d{6}")
# The 2M subset has images/, the large one two folders.
_PART_FOLDERS = re.compile(r"images|diffusiondb-large-part-\d")
_COCO = re.compile(r"(train|val|test|unlabeled)20\d\d")
# 2014's files are called COCO_train2014_000000000009.jpg, 2017's 000000000009.jpg.
_COCO_NUMBER = re.compile(r"(\d+)$")


def read_diffusiondb(folder: str | Path, *, limit: int | None = None) -> Dataset:
    """Read DiffusionDB: what is unpacked of it, all fake.

    Pictures of one prompt are a group; prompts stand in the JSON file of each part. Groups are
    split 7:1:2.

    Args:
        folder: The folder with ``images/`` or with the parts.
        limit: Use no more pictures than this, chosen by the names of their groups; None for all.

    Raises:
        DataError: No part with pictures, or a JSON file that cannot be used.
    """
    root = existing_folder(folder)
    parts = _parts(root)
    if not any(pictures_in(part) for part in parts):
        raise DataError(
            f"{root} has no part of DiffusionDB.",
            expected=_SHAPE,
            next_step="unpack part-000001.zip into a folder of that name",
        )
    samples: list[Sample] = []
    without = 0
    for part in parts:
        prompts = _prompts(part / f"{part.name}.json")
        for path in pictures_in(part):
            prompt = prompts.get(path.name)
            without += prompt is None
            # White space and capitals tell no prompts apart.
            text = f"picture {path.name}" if prompt is None else " ".join(prompt.lower().split())
            group = f"diffusiondb {sha256_of(text.encode('utf-8', 'surrogateescape'))[:16]}"
            samples.append(Sample(path, _NAME, "fake", group, "train", "diffusiondb"))
    notes = []
    if without:
        notes.append(f"Pictures without a prompt, which are groups of their own: {without}.")
    return list_samples(root, _divided(samples, limit, notes), _NAME, notes, has_splits=False)


def read_coco(folder: str | Path, *, limit: int | None = None) -> Dataset:
    """Read COCO: pictures of every ``train2017``, ``val2017`` and so on, all real.

    The official splits are made for object detection, and those of 2014 and 2017 overlap. So
    pictures are split 7:1:2 by their number, whatever folder they are in.

    Args:
        folder: The folder with ``train2017`` and so on.
        limit: Use no more pictures than this, chosen by their numbers; None for all.

    Raises:
        DataError: No such folder with a picture in it.
    """
    root = existing_folder(folder)
    samples = [
        Sample(path, _COCO_NAME, "real", _coco_group(path), "train", f"coco {place.name}")
        for place in _coco_folders(root)
        for path in pictures_in(place)
    ]
    if not samples:
        raise DataError(
            f"{root} has no picture of COCO.",
            expected=_COCO_SHAPE,
            next_step="unpack val2017.zip or train2017.zip there",
        )
    notes: list[str] = []
    return list_samples(root, _divided(samples, limit, notes), _COCO_NAME, notes, has_splits=False)


def read_diffusiondb_coco(
    folder: str | Path, coco: str | Path | None = None, *, limit: int | None = None
) -> Dataset:
    """Read DiffusionDB and COCO as one set, ``diffusiondb-coco``.

    Args:
        folder: DiffusionDB, or with ``coco`` None the folder that holds both.
        coco: COCO.
        limit: Use no more pictures than this of either; None for all. For as many of both, the
            number of the smaller one.

    Raises:
        DataError: One of them is not there.
    """
    root = existing_folder(folder)
    fake_place = _place(root, _parts)
    real_place = _place(root, _coco_folders) if coco is None else Path(coco)
    if real_place is None or fake_place is None:
        absent = "COCO" if fake_place is not None else "DiffusionDB"
        raise DataError(
            f"{root} has no {absent}.", expected=_PAIR_SHAPE, next_step=f"put {absent} there"
        )
    fake, real = read_diffusiondb(fake_place, limit=limit), read_coco(real_place, limit=limit)
    samples = (replace(sample, set=_PAIR_NAME) for sample in (*real.samples, *fake.samples))
    return list_samples(root, samples, _PAIR_NAME, (*real.notes, *fake.notes), has_splits=False)


def _is_pair(folder: Path) -> bool:
    return _place(folder, _parts) is not None and _place(folder, _coco_folders) is not None


# The pair first: each of the two fits a folder that holds both.
LAYOUTS = (
    Layout(_PAIR_NAME, _PAIR_SHAPE, _is_pair, lambda p, _: read_diffusiondb_coco(p)),
    Layout(
        _NAME,
        _SHAPE,
        lambda folder: bool(_parts(folder)),
        lambda folder, _: read_diffusiondb(folder),
    ),
    Layout(
        _COCO_NAME,
        _COCO_SHAPE,
        lambda folder: bool(_coco_folders(folder)),
        lambda folder, _: read_coco(folder),
    ),
)


def _parts(folder: Path) -> list[Path]:
    places = [folder, *(p for p in folders_in(folder) if _PART_FOLDERS.fullmatch(p.name))]
    return [part for place in places for part in folders_in(place) if _PART.fullmatch(part.name)]


def _prompts(path: Path) -> dict[str, str]:
    """Prompt of each picture of a part by file name; none where the part has no JSON file."""
    if not path.is_file():
        return {}
    expected = 'an object with {"p": prompt, …} for each file name'
    entries = read_json(path, expected=expected)
    if not isinstance(entries, dict) or not all(
        isinstance(entry, dict) for entry in entries.values()
    ):
        raise DataError(
            f"{path} holds something else than prompts.",
            expected=expected,
            next_step="unpack the part again",
        )
    return {name: str(entry["p"]) for name, entry in entries.items() if "p" in entry}


def _coco_folders(folder: Path) -> list[Path]:
    return [p for p in folders_in(folder) if _COCO.fullmatch(p.name)]


def _coco_group(path: Path) -> str:
    number = _COCO_NUMBER.search(path.stem)
    return f"coco {int(number[1]) if number else path.stem}"


def _place(folder: Path, wanted: Callable[[Path], Sequence[Path]]) -> Path | None:
    """The folder or the first one in it that is what is wanted."""
    return next((place for place in (folder, *folders_in(folder)) if wanted(place)), None)


def _divided(samples: Sequence[Sample], limit: int | None, notes: list[str]) -> list[Sample]:
    """At most ``limit`` of the samples, with a split for each group."""
    chosen = list(samples)
    if limit is not None and limit < 1:
        raise ConfigError(
            f"{limit} pictures cannot be used.",
            expected="a limit of at least 1",
            next_step="leave it out for all of them",
        )
    if limit is not None and limit < len(chosen):
        ranked = sorted(chosen, key=lambda sample: (hash_order(sample.group), sample.path.name))
        chosen = sorted(ranked[:limit], key=lambda sample: sample.path)
        notes.append(f"Pictures of {chosen[0].set} that are used: {len(chosen)} of {len(samples)}.")
    split_of = assign(Counter(sample.group for sample in chosen))
    return [replace(sample, split=split_of[sample.group]) for sample in chosen]
