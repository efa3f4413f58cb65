from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest

import edgedf.sample
from edgedf.picture_hash import picture_hash
from edgedf.quantize.calibration.audit import (
    CalibrationAudit,
    audit_calibration,
    coverage_findings,
    facts_of_files,
    overlap_findings,
)
from edgedf.quantize.calibration.candidates import sample_candidates
from edgedf.quantize.calibration.coverage import TensorCoverage, coverage
from edgedf.quantize.calibration.image_facts import ImageFacts, facts_of
from edgedf.quantize.calibration.images import choose_images
from tests.formats.stages import tflite
from tests.quantize.students import SMALL, crops, small_exports, small_images


def a_fact(number: int = 0, **changes: Any) -> ImageFacts:
    label: Literal["real", "fake"] = "real" if number % 2 else "fake"
    fact = ImageFacts(Path(f"{number}.jpg"), label, f"{number:064}", "png", 256, 200, 60, 0)
    return replace(fact, **changes)


def good(count: int = 32) -> list[ImageFacts]:
    return [a_fact(n, codec=f"jpeg, IJG quality {70 + n % 3}") for n in range(count)]


def tensor(**changes: Any) -> TensorCoverage:
    return replace(TensorCoverage("conv", 0.0, 6.0, 0.0, 6.0, 0.0, 0.0, 1.0), **changes)


def found(facts: list[ImageFacts], **arguments: Any) -> list[tuple[str, str]]:
    audit = audit_calibration(facts, 256, {"tflite": [tensor()] * 8}, 16, **arguments)
    return [(finding.severity, finding.about) for finding in audit.findings]


def test_good_images_give_no_finding() -> None:
    audit = audit_calibration(good(), 256, {"tflite": [tensor()]}, 16)
    assert audit.findings == ()
    assert audit.worst is None
    assert (audit.images, audit.real, audit.fake, audit.upscaled, audit.dark) == (32, 16, 16, 0, 0)
    assert sum(audit.codecs.values()) == 32


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        (good(10), ("warning", "images")),
        ([replace(f, label="real" if n > 3 else "fake") for n, f in enumerate(good())],
         ("warning", "classes")),
        ([replace(f, side=100 if n < 9 else 300) for n, f in enumerate(good())],
         ("warning", "size")),
        ([replace(f, brightness=20) if n < 9 else f for n, f in enumerate(good())],
         ("warning", "dark")),
        ([replace(f, spread=5) if n < 20 else f for n, f in enumerate(good())],
         ("error", "dark")),
        ([replace(f, codec="png") for f in good()], ("note", "codec")),
    ],
)  # fmt: skip
def test_what_is_wrong_with_images(facts: list[ImageFacts], wanted: tuple[str, str]) -> None:
    assert found(facts) == [wanted]


def test_images_without_labels_are_not_said_to_be_unbalanced() -> None:
    assert found([replace(fact, label=None) for fact in good()]) == []


def test_narrow_and_wide_ranges_are_found_and_the_worst_tensors_named() -> None:
    for lost, severity in ((0.005, "warning"), (0.1, "error")):
        bad = tensor(tensor="the bad one", lost=lost, outside=0.2)
        (finding,) = coverage_findings([tensor(), bad], "onnx", 16)
        assert (finding.severity, finding.about) == (severity, "coverage")
        assert "1 of 2" in finding.message
        assert "the bad one" in finding.message
    (finding,) = coverage_findings([tensor(used=0.2)] * 3 + [tensor()] * 5, "onnx", 16)
    assert (finding.severity, finding.about) == ("warning", "width")
    assert not list(coverage_findings([tensor(lost=0.001, used=0.7)] * 8, "onnx", 16))


def test_pictures_of_the_gate_are_recognized_as_files_and_by_their_looks(tmp_path: Path) -> None:
    pictures = list(crops(128))[:3]
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture[..., ::-1])
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "again.jpg"), pictures[1][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])
    gate = facts_of_files([str(tmp_path / f"{n}.png") for n in (0, 1)], SMALL)
    names = ("0.png", "again.jpg", "2.png", "broken.jpg")
    mine = facts_of_files([str(tmp_path / name) for name in names], SMALL)
    assert len(mine) == 3
    equal, near = overlap_findings(mine, gate)
    assert (equal.severity, near.severity) == ("error", "warning")
    assert "0.png" in equal.message
    assert "again.jpg" in near.message
    assert not list(overlap_findings(mine[2:], gate))


def test_facts_are_read_from_file_and_pixels(tmp_path: Path) -> None:
    picture = next(iter(crops(128)))
    path = tmp_path / "one.jpg"
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    fact = facts_of(path, "real", path.read_bytes(), picture)
    assert fact.codec == "jpeg, IJG quality 80"
    assert fact.side == 128
    assert fact.spread == pytest.approx(picture.std())
    assert fact.looks == picture_hash(picture)


def audited(images: list[np.ndarray]) -> CalibrationAudit:
    """The small student, calibrated on some images and held against the photographs."""
    model = small_exports().models["tflite"]
    covered = coverage(
        tflite.activations(model),
        tflite.used_ranges(model, images),
        small_images(),
        fixed=tflite.fixed_ranges(model),
    )
    return audit_calibration((), SMALL, {"tflite": covered}, len(small_images()))


def test_ranges_of_dark_images_do_not_cover_photographs_and_those_of_photographs_do() -> None:
    assert audited(list(small_images())).worst is None
    dark = audited([image // 40 for image in small_images()[:10]])
    assert dark.worst == "error"
    assert dark.coverage["tflite"][0].lost > 0.05


def test_the_shipped_sample_is_clean() -> None:
    images = choose_images(sample_candidates(), samples=32, size=256)
    audit = audit_calibration(images.facts, 256, {}, 0)
    assert audit.worst in (None, "note")
    assert audit.images == 32
    assert len(edgedf.sample.images()) > 32
