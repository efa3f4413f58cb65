from pathlib import Path
from typing import Any

import pytest

from edgedf.distill.datasets.dataset import Sample
from edgedf.distill.networks.student import Student
from edgedf.distill.settings import StudentConfig
from edgedf.distill.training.model_card import model_card

METADATA: dict[str, Any] = {
    "name": "small",
    "version": "1.2.3",
    "licence": "CC0-1.0",
    "threshold": {"fake_at": 0.75, "real_at": 0.25, "how": "on 40 pictures"},
    "training": {"data": "scenes (train split)", "data_sha256": "ab" * 32, "steps": 7},
    "accuracy": [
        {
            "dataset": "scenes test",
            "metric": metric,
            "value": value,
            "low": value / 2,
            "high": value,
            "n": 31,
            "model": "fp32",
        }
        for metric, value in (
            ("AUC", 0.8),
            ("real pictures called fake", 0.05),
            ("map error against the exact map (px)", 0.4),
        )
    ],
}


def sample(name: str, label: str, split: str) -> Sample:
    return Sample(Path("a.jpg"), name, label, "g", split, "s")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def student() -> Student:
    return Student(StudentConfig(input_size=64))


def test_a_card_holds_what_the_checkpoint_says(student: Student) -> None:
    card = model_card(METADATA, student)
    for text in (
        "# small 1.2.3",
        "0.72 M parameters, input 64 x 64 RGB",
        "CC0-1.0",
        "scenes (train split); 7 steps",
        "real up to 0.25, fake from 0.75, unsure between. On 40 pictures.",
        "| scenes test | 0.800 | 0.400 to 0.800 | 31 |",
        "| scenes test: real pictures called fake | 0.050 | 0.025 to 0.050 | 31 |",
        "| scenes test: map error against the exact map (px) | 0.400 | 0.200 to 0.400 | 31 |",
        "centre square at 64 x 64 pixels",
    ):
        assert text in card
    assert "About the training pictures" not in card
    assert "teacher" not in card
    assert "ff00" in model_card({**METADATA, "teacher_sha256": "ff00"}, student)


def test_pictures_are_counted_by_set_and_described(student: Student) -> None:
    samples = [
        *[sample("scenes", "real", "train")] * 3,
        *[sample("scenes", "fake", "val")] * 2,
        sample("scenes", "fake", "test"),
        *[sample("forest", "real", "train")] * 4,
    ]
    card = model_card(METADATA, student, samples, "\nTaken by *nobody*.\n")
    lines = card.splitlines()
    start = lines.index("## About the training pictures")
    assert lines[start + 2 : start + 8] == [
        "| set | real | fake | train / val / test |",
        "|---|---|---|---|",
        "| forest | 4 | 0 | 4 / 0 / 0 |",
        "| scenes | 3 | 3 | 3 / 2 / 1 |",
        "",
        "Taken by *nobody*.",
    ]
    assert lines[start + 8 : start + 10] == ["", "## What it cannot do"]
