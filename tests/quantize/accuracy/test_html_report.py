import base64
import dataclasses
from pathlib import Path

import cv2
import numpy as np

from edgedf.evaluation import Skipped
from edgedf.quantize.accuracy.html_report import render
from edgedf.quantize.accuracy.verify import Example, Gate, Verification, examples, verify_pair
from edgedf.quantize.models.pair import open_pair
from edgedf.result import Threshold
from tests.contract.pages import Page
from tests.quantize.layer_error.test_wording import error, ranking
from tests.runtime.pictures import noise, write
from tests.runtime.tiny import write_tiny

NASTY = "a<img src=x onerror=alert(1)>\"'&\x1b[31m\udce9.png"


def found(folder: Path) -> tuple[Verification, list[Example]]:
    """Two tiny models of different thresholds on six pictures."""
    parent = write_tiny(folder, "onnx").rename(folder / "parent.onnx")
    artifact = write_tiny(folder, "onnx", threshold=Threshold(0.99, 0.98, "stricter"))
    files = [
        str(write(folder / f"{index}.png", noise(60, 80, index, red=index / 5)))
        for index in range(6)
    ]
    with open_pair(artifact, parent) as pair:
        verification = verify_pair(pair, Gate(files, data="six"), worst=2)
        return verification, list(examples(pair, verification.worst))


def test_it_shows_figures_and_the_worst_pictures_side_by_side(tmp_path: Path) -> None:
    verification, shown = found(tmp_path)
    page = Page(render(verification, shown))
    for said in (
        "Cannot tell from 6 pictures",
        "flipped verdicts",
        "map error / range",
        "logit correlation",
        "no labels, so there is no AUC",
        "verdict flipped",
        f"parent: fake, score {shown[0].compared.parent_score:.3f}",
        f"artifact: real, score {shown[0].compared.artifact_score:.3f}",
        shown[0].compared.file,
    ):
        assert said in page.text
    assert len(page.named("article")) == 2
    images = page.named("img")
    assert len(images) == 1 + 3 * 2  # the color scale
    assert all(image["alt"] for image in images)
    for image in images:
        kind, _, data = (image["src"] or "").partition(",")
        assert kind == "data:image/jpeg;base64"
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape[:2] == (int(image["height"] or 0), int(image["width"] or 0))


def test_it_needs_nothing_but_itself(tmp_path: Path) -> None:
    text = render(*found(tmp_path))
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "a"})
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "@media print" in text
    assert any(meta.get("name") == "viewport" for meta in page.named("meta"))


def test_whatever_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    verification, shown = found(tmp_path)
    plain = Page(render(verification, shown))
    nasty = dataclasses.replace(shown[0].compared, file=NASTY)
    text = render(
        dataclasses.replace(
            verification,
            artifact=NASTY,
            parent=NASTY,
            data=NASTY,
            split=NASTY,
            skipped=(Skipped(NASTY, NASTY),),
            damaged=(NASTY,),
            left_out={NASTY: 3},
        ),
        [dataclasses.replace(shown[0], compared=nasty), shown[1]],
    )
    text.encode("utf-8")
    page = Page(text)
    assert "\x1b" not in text
    assert len(page.named("img")) == len(plain.named("img"))
    assert page.text.count("<img src=x onerror=alert(1)>") == 11


def test_without_examples_there_is_no_heading_for_them(tmp_path: Path) -> None:
    verification, _ = found(tmp_path)
    text = render(verification)
    assert "differ most" not in text
    assert "<img" not in text
    assert render(verification) == text


def test_layers_have_a_table_and_their_names_are_escaped(tmp_path: Path) -> None:
    verification, _ = found(tmp_path)
    page = Page(render(verification, layers=ranking([error(0, 0.03, name=NASTY), error(1, 0.02)])))
    assert "Layers, the worst first" in page.text
    assert "Compared on 4 pictures" in page.text
    assert "onerror" in page.text and not page.named("img")
    labels = [cell.get("data-label") for cell in page.named("td")]
    assert labels.count("SQNR") == 2
    assert "Layers" not in Page(render(verification)).text
