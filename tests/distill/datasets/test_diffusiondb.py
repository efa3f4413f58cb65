from collections import Counter, defaultdict
from pathlib import Path

import pytest

from edgedf.distill.datasets.diffusiondb import (
    read_coco,
    read_diffusiondb,
    read_diffusiondb_coco,
)
from edgedf.errors import ConfigError, DataError
from tests.distill.datasets.trees import write, write_coco, write_diffusiondb


def test_diffusiondb_is_fake_and_pictures_of_a_prompt_stay_together(tmp_path: Path) -> None:
    dataset = read_diffusiondb(write_diffusiondb(tmp_path, parts=3))
    assert len(dataset.samples) == 30
    assert {sample.label for sample in dataset.samples} == {"fake"}
    groups = defaultdict(set)
    for sample in dataset.samples:
        groups[sample.group].add(sample.path.name)
    assert len(groups) == 27
    assert {"1-0.png", "1-1.png"} in groups.values()
    assert dataset.notes == ()


def test_the_large_subset_and_bare_parts_are_read(tmp_path: Path) -> None:
    write(tmp_path / "diffusiondb-large-part-1" / "part-000001" / "a.webp")
    write(tmp_path / "part-000002" / "b.png")
    dataset = read_diffusiondb(tmp_path)
    assert {sample.path.name for sample in dataset.samples} == {"a.webp", "b.png"}
    assert dataset.notes == ("Pictures without a prompt, which are groups of their own: 2.",)


def test_coco_is_real_and_a_number_is_a_group_in_every_year(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write(tmp_path / "train2014" / "COCO_train2014_000000000003.jpg")
    dataset = read_coco(tmp_path)
    assert {sample.label for sample in dataset.samples} == {"real"}
    both = [sample for sample in dataset.samples if sample.group == "coco 3"]
    assert {sample.source for sample in both} == {"coco train2014", "coco train2017"}
    assert Counter(s.split for s in dataset.samples) == {"train": 15, "val": 2, "test": 4}


@pytest.mark.parametrize("apart", [False, True])
def test_the_pair_is_one_set_with_both_classes(tmp_path: Path, apart: bool) -> None:
    fake = write_diffusiondb(tmp_path / "db", parts=4)
    real = write_coco(tmp_path / ("elsewhere" if apart else "coco"))
    folder, other = (fake, real) if apart else (tmp_path, None)
    dataset = read_diffusiondb_coco(folder, other, limit=20)
    assert dataset.sets == ("diffusiondb-coco",)
    assert Counter(sample.label for sample in dataset.samples) == {"real": 20, "fake": 20}
    assert {sample.split for sample in dataset.select(label="fake")} == {"train", "val", "test"}
    assert dataset.notes == ("Pictures of diffusiondb that are used: 20 of 40.",)
    assert read_diffusiondb_coco(folder, other, limit=20).sha256 == dataset.sha256


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no part of DiffusionDB"):
        read_diffusiondb(tmp_path)
    with pytest.raises(DataError, match="no picture of COCO"):
        read_coco(tmp_path)
    write_diffusiondb(tmp_path / "db", parts=1)
    with pytest.raises(DataError, match="has no COCO"):
        read_diffusiondb_coco(tmp_path)
    with pytest.raises(ConfigError, match="0 pictures"):
        read_diffusiondb(tmp_path / "db", limit=0)
    prompts = tmp_path / "db" / "images" / "part-000001" / "part-000001.json"
    prompts.write_text("[1]", encoding="utf-8")
    with pytest.raises(DataError, match="something else than prompts"):
        read_diffusiondb(tmp_path / "db")
