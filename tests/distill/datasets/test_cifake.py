import shutil
from collections import Counter
from pathlib import Path

import pytest

from edgedf.distill.datasets.cifake import read_cifake
from edgedf.errors import DataError
from tests.distill.datasets.trees import names, write_cifake


def test_val_is_an_eighth_of_train(tmp_path: Path) -> None:
    dataset = read_cifake(write_cifake(tmp_path, train=24, test=5))
    counts = Counter((sample.label, sample.split) for sample in dataset.samples)
    for label in ("real", "fake"):
        assert [counts[label, split] for split in ("train", "val", "test")] == [21, 3, 5]
    assert all(name.startswith("test/") for name in names(dataset, split="test"))
    assert {sample.source for sample in dataset.select(label="real")} == {"cifar-10"}
    assert len({sample.group for sample in dataset.samples}) == 58
    assert dataset.sets == ("cifake",)


@pytest.mark.parametrize("place", ["train/FAKE", "test/REAL"])
def test_a_missing_folder_is_named(tmp_path: Path, place: str) -> None:
    write_cifake(tmp_path)
    shutil.rmtree(tmp_path / place)
    with pytest.raises(DataError, match=f"no picture in .*{place}"):
        read_cifake(tmp_path)
