from pathlib import Path

import numpy as np
import pytest

from edgedf.distill.data import Sample
from edgedf.distill.leave_out import leave_one_source_out, units
from edgedf.distill.student import StudentConfig
from edgedf.errors import DataError
from tests.distill.pictures import SIDE, crop, write, write_dataset, write_manifest

CONFIG = StudentConfig(input_size=32, blocks=11, judged_blocks=1, decoder_channels=8)


def sample(set_: str, label: str, source: str) -> Sample:
    return Sample(Path("x.png"), set_, label, source, "train", source)  # type: ignore[arg-type]


def test_a_source_with_both_classes_is_left_out_by_itself() -> None:
    found = units([sample("a", "real", "quiz"), sample("a", "fake", "quiz")])
    assert [(unit.name, unit.sources) for unit in found] == [("quiz", {"quiz"})]


def test_a_camera_and_a_generator_of_one_set_are_left_out_together() -> None:
    found = units([sample("faces", "real", "ffhq"), sample("faces", "fake", "stylegan")])
    assert [(unit.name, unit.sources) for unit in found] == [("faces", {"ffhq", "stylegan"})]


def test_sources_without_a_counterpart_stay_in() -> None:
    assert not units([sample("a", "fake", "gallery"), sample("b", "real", "camera")])
    with_quiz = [sample("a", "real", "quiz"), sample("a", "fake", "quiz")]
    found = units([*with_quiz, sample("a", "fake", "gallery")])
    assert [unit.name for unit in found] == ["quiz"]


def test_each_source_is_judged_by_the_others(tmp_path: Path) -> None:
    """Fakes are noisy in both sources, so what one teaches holds for the other."""
    rng = np.random.default_rng(0)
    rows = []
    for source in ("one", "two"):
        for number in range(8):
            for label in ("real", "fake"):
                noise = rng.normal(0, 60 if label == "fake" else 0.1, (SIDE, SIDE, 3))
                picture = np.clip(crop(rng) + noise, 0, 255)
                file = f"{source}/{number}-{label}.png"
                write(tmp_path / file, picture.astype(np.uint8))
                rows.append((file, "scenes", label, f"{source}{number}{label}", "train", source))
    write_manifest(tmp_path, rows)
    figures = leave_one_source_out(
        tmp_path,
        student=StudentConfig(
            input_size=96, blocks=11, judged_blocks=4, decoder_channels=8, high_pass=False
        ),
        penalty=0.1,
        cache=tmp_path / "cache",
        workers=1,
    )
    assert [figure.dataset for figure in figures] == ["scenes without one", "scenes without two"]
    assert [figure.n for figure in figures] == [16, 16]
    assert min(figure.value for figure in figures) > 0.9


def test_one_source_alone_cannot_be_left_out(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, groups=1)
    with pytest.raises(DataError, match=r"Nothing in .* can be left out"):
        leave_one_source_out(data, student=CONFIG, cache=tmp_path / "cache", workers=1)
