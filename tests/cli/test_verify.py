import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import edgedf.sample
from edgedf import typed_json
from edgedf.cli import main, verify
from edgedf.quantize.accuracy.limits import Limits
from edgedf.quantize.accuracy.verify import Verification
from edgedf.quantize.layer_error.ranking import LayerRanking
from edgedf.result import Threshold
from tests.cli.runs import assert_clear, run
from tests.cli.runs import prepare as workbench
from tests.quantize.students import (
    dark_int8,
    ship_the_small_one,
    shipped_int8,
    small_int8_file,
)
from tests.runtime.absent import without
from tests.runtime.pictures import damaged, noise, write
from tests.runtime.tiny import write_tiny

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
TFLITE, ONNX = "build/student_int8.tflite", "build/student_int8.onnx"
PASSES, FAILS, CANNOT_TELL, MISTAKE = 0, 1, 2, 64
IN_HELP = re.findall(r"\[bold\](edgedf .*?)\[/\]", verify._EPILOG)
PAGE = (ROOT / "docs" / "commands" / "verify.md").read_text("utf-8")
ON_PAGE = re.findall(r"^(edgedf verify [^\n\[]*)$", PAGE, re.MULTILINE)


def fill(folder: Path) -> None:
    """Tiny models in ``build/`` and two of other thresholds; ``plain/``, ``photos/``."""
    workbench(folder)
    for name, threshold in (("loose", Threshold(0.45, 0.3)), ("strict", Threshold(0.99, 0.98))):
        made = write_tiny(folder, "tflite", threshold=threshold)
        made.rename(folder / f"{name}.tflite")
    for index in range(160):
        label, red = (("real", 0.4), ("fake", 0.95))[index % 2]
        picture = noise(32, 36, index, red=red - index % 7 / 20)
        write(folder / "plain" / label / f"{label}-{index}.png", picture)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    fill(folder)
    return folder


@pytest.fixture
def bench(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that :func:`fill` made; tests write below ``tmp_path``."""
    monkeypatch.chdir(filled)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    return filled


def call(*arguments: str | Path) -> int:
    return main(["verify", *map(str, arguments), "--threads", "1"])


def outcome_of(capsys: Captured, *arguments: str | Path, code: int) -> Verification:
    assert call(*arguments, "--json") == code
    return typed_json.decode(Verification, json.loads(capsys.readouterr().out))


# Outcomes


def test_a_model_passes_against_itself(bench: Path, capsys: Captured) -> None:
    found = outcome_of(capsys, TFLITE, "--against", TFLITE, "--data", "plain", code=PASSES)
    assert found.verdict == "pass"
    assert (found.data, found.split) == ("plain", "all")
    assert (found.real, found.fake) == (80, 80)
    assert found.images_needed is None
    assert call(TFLITE, "--against", ONNX, "--data", "plain") == PASSES
    shown, said = capsys.readouterr()
    assert "✓ The artifact passes: on 160 pictures" in shown
    assert "Traceback" not in said
    assert max(map(len, shown.splitlines())) <= 80


def test_an_artifact_whose_verdicts_flip_fails(bench: Path, capsys: Captured) -> None:
    arguments = ("strict.tflite", "--against", "loose.tflite", "--data", "plain")
    assert call(*arguments, "--worst", "2") == FAILS
    shown = capsys.readouterr().out
    assert re.search(r"✗ flipped verdicts +\d", shown)
    assert "over the limit of 1%" in shown
    assert "✗ The artifact fails: flipped verdicts." in shown
    assert outcome_of(capsys, *arguments, code=FAILS).verdict == "fail"
    assert call(*arguments, "--flips", "1", "--flips-bound", "1") == PASSES


def test_few_pictures_cannot_tell(bench: Path, capsys: Captured) -> None:
    arguments = (TFLITE, "--against", TFLITE, "--data", "photos")
    found = outcome_of(capsys, *arguments, code=CANNOT_TELL)
    assert (found.verdict, found.images_needed) == ("cannot tell", 150)
    assert call(*arguments) == CANNOT_TELL
    shown = capsys.readouterr().out
    assert "? flipped verdicts" in shown
    assert "AUC drop" not in shown
    assert "The pictures have no labels, so there is no AUC." in shown
    text = " ".join(shown.split())
    assert "? Cannot tell from 3 pictures. About 150 of the same kind would do: an estimate" in text


def test_labels_can_be_left_aside(bench: Path, capsys: Captured) -> None:
    arguments = (TFLITE, "--against", TFLITE, "--data", "plain", "--layout", "images")
    found = outcome_of(capsys, *arguments, code=PASSES)
    assert (found.real, found.fake, found.measurements.pictures) == (0, 0, 160)
    assert found.measurements.auc is None


# The shipped student


def test_the_shipped_student_in_int8_on_the_sample(bench: Path, capsys: Captured) -> None:
    small = shipped_int8("tflite")
    found = outcome_of(capsys, small, code=CANNOT_TELL)
    assert found.data == "the shipped sample"
    assert (found.real, found.fake) == (60, 41)
    assert found.same_checkpoint
    verdicts = {row.name: row.verdict for row in found.rows}
    assert verdicts["map_error"] == verdicts["logit_correlation"] == "pass"


def test_a_broken_artifact_fails(bench: Path, capsys: Captured, tmp_path: Path) -> None:
    for index, image in enumerate(edgedf.sample.images()[:30]):
        shutil.copy(image.path, tmp_path / f"{index}.jpg")
    page = tmp_path / "report.html"
    assert call(dark_int8(), "--data", tmp_path, "--html", page) == FAILS
    assert "✗ map error" in capsys.readouterr().out
    assert "The artifact fails" in page.read_text("utf-8")


def test_it_needs_no_converter_and_no_torch(filled: Path, tmp_path: Path) -> None:
    hidden = without(
        tmp_path,
        *("torch", "ai_edge_quantizer", "onnx", "onnxruntime", "safetensors", "sklearn", "scipy"),
        *("tomli_w", "skimage", "flatbuffers"),
    )
    limits = tmp_path / "limits.toml"
    limits.write_text("flips = 0.02\nflips_bound = 0.03\n")
    done = run(
        *("verify", TFLITE, "--against", TFLITE, "--data", "plain", "--limits", limits),
        *("--html", tmp_path / "report.html"),
        cwd=filled,
        environment=hidden,
    )
    assert done.returncode == PASSES, done.stderr


# Limits


def test_limits_come_from_options_then_the_file_then_the_defaults(
    bench: Path, capsys: Captured, tmp_path: Path
) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text("auc_drop = 0.001\nflips = 0.5\nflips_bound = 0.9\nmap_error = 0\n")
    found = outcome_of(
        capsys,
        *(TFLITE, "--against", TFLITE, "--data", "photos", "--limits", limits),
        *("--flips", "0.25", "--logit-correlation", "-0.5"),
        code=CANNOT_TELL,  # 3 / 3 is over 0.9
    )
    assert found.limits.auc_drop == 0.001
    assert (found.limits.flips, found.limits.flips_bound) == (0.25, 0.9)
    assert found.limits.map_error == 0.0
    assert found.limits.auc_drop_bound == 0.01
    assert found.limits.logit_correlation == -0.5


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("auc_dorp = 0.1", (), "did you mean 'auc_drop'?"),
        ("flips = '1 %'", (), "flips is str, not number"),
        ("flips = true", (), "flips is bool, not number"),
        ("flips", (), "is no TOML"),
        ("flips = 0.5", (), "flips_bound of 0.02 is below flips, which is 0.5"),
        ("", ("--auc-drop", "-1"), "The limit auc_drop is -1"),
        ("", ("--auc-drop", "nan"), "auc_drop is nan, not a finite number"),
        (None, (), "Cannot read"),
    ],
)
def test_limits_that_cannot_be_used_are_refused(
    text: str | None,
    options: tuple[str, ...],
    said: str,
    bench: Path,
    capsys: Captured,
    tmp_path: Path,
) -> None:
    limits = tmp_path / "limits.toml"
    if text is not None:
        limits.write_text(text)
    assert call(TFLITE, "--against", TFLITE, "--limits", limits, *options) == MISTAKE
    out, err = capsys.readouterr()
    assert out == ""
    assert_clear(err)
    assert said in " ".join(err.split())


# Mistakes are no verdicts


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.tflite",), "none.tflite"),
        (("photo.jpg",), "photo.jpg"),
        ((TFLITE,), "was not made from the student that edgedf carries"),
        ((TFLITE, "--against", "none.onnx"), "none.onnx"),
        ((TFLITE, "--against", "none.safetensors"), "none.safetensors"),
        ((TFLITE, "--against", TFLITE, "--data", "nowhere"), "nowhere is no folder"),
        ((TFLITE, "--against", TFLITE, "--data", "photo.jpg"), "photo.jpg is no folder"),
        ((TFLITE, "--against", TFLITE, "--data", "build"), "no image in build"),
        ((TFLITE, "--against", TFLITE, "--data", "plain", "--layout", "x"), "no layout 'x'"),
        ((TFLITE, "--against", TFLITE, "--data", "plain", "--split", "dev"), "no split 'dev'"),
        ((TFLITE, "--against", TFLITE, "--data", "photos", "--split", "test"), "--split"),
        ((TFLITE, "--against", TFLITE, "--data", "photos", "--set", "a"), "--set"),
        ((TFLITE, "--against", TFLITE, "--layout", "folders"), "--layout"),
        ((TFLITE, "--against", TFLITE, "--html", "report.jpg"), "is no name for a page"),
        ((TFLITE, "--against", TFLITE, "--html", "photo.jpg/a.html"), "Cannot write"),
        ((TFLITE, "--against", TFLITE, "--layers"), "nothing in it is quantized"),
    ],
)
def test_a_mistake_gives_one_clear_error_and_a_code_of_its_own(
    arguments: tuple[str, ...], said: str, bench: Path, capsys: Captured
) -> None:
    assert call(*arguments, "--json") == MISTAKE
    out, err = capsys.readouterr()
    assert out == ""
    assert_clear(err)
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'ARTIFACT'"),
        (("--auc-dorp", "1", TFLITE), "--auc-drop"),
        ((TFLITE, "--flips", "few"), "--flips"),
        ((TFLITE, "--worst", "-1"), "--worst"),
        ((TFLITE, "b"), "unexpected extra argument"),
        ((TFLITE, "--layers", "-1"), "--layers"),
        ((TFLITE, "--layers=few"), "--layers"),
    ],
)
def test_a_mistyped_option_is_no_verdict(
    arguments: tuple[str, ...], said: str, bench: Path, capsys: Captured
) -> None:
    assert main(["verify", *arguments]) == MISTAKE
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_a_full_disk_behind_standard_output_is_no_verdict(filled: Path) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = run(
            *("verify", TFLITE, "--against", TFLITE, "--data", "photos"),
            cwd=filled,
            stdout=full.fileno(),
        )
    assert done.returncode == MISTAKE
    assert_clear(done.stderr)


# Layers


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["a", "--layers"], ["a", "--layers", "8"]),
        (["--layers", "a"], ["--layers", "8", "a"]),
        (["a", "--layers", "--json"], ["a", "--layers", "8", "--json"]),
        (["a", "--layers", "3"], ["a", "--layers", "3"]),
        (["a", "--layers", "-1"], ["a", "--layers", "-1"]),
        (["a", "--layers=4"], ["a", "--layers=4"]),
        (["--", "--layers"], ["--", "--layers"]),
        ([], []),
    ],
)
def test_a_number_of_layers_may_be_left_out(given: list[str], meant: list[str]) -> None:
    assert list(verify._with_number_of_layers(given)) == meant


def test_the_layers_of_a_quantized_file(
    shop: Path, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship_the_small_one(monkeypatch)
    page = tmp_path / "report.html"
    small, photos = shop / TFLITE, shop / "photos"
    assert call(small, "--data", photos, "--layers", "2", "--html", page) == CANNOT_TELL
    shown = " ".join(capsys.readouterr().out.split())
    assert "Layers, the worst first" in shown
    assert "Compared on 8 pictures: 79 tensors and 105 constants of the artifact by name" in shown
    assert "Worst is layer" in shown
    assert "Layers, the worst first" in page.read_text("utf-8")


def test_the_layers_are_a_key_of_the_document(
    shop: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship_the_small_one(monkeypatch)
    arguments = (shop / ONNX, "--data", shop / "photos", "--layers", "1", "--json")
    assert call(*arguments) == CANNOT_TELL
    document = json.loads(capsys.readouterr().out)
    ranking = typed_json.decode(LayerRanking, document.pop("layers"))
    assert typed_json.decode(Verification, document).verdict == "cannot tell"
    assert (ranking.pictures, ranking.matched) == (8, 81)
    assert [layer.effect is not None for layer in ranking.layers[:2]] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((TFLITE, "--against", ONNX), "their tensors differ"),
        ((TFLITE, "--against", TFLITE), "is int8, not a float model"),
    ],
)
def test_layers_need_the_float_file_of_the_same_format(
    arguments: tuple[str, ...],
    said: str,
    shop: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ship_the_small_one(monkeypatch)
    placed = [shop / argument if "/" in argument else argument for argument in arguments]
    assert call(*placed, "--data", shop / "photos", "--layers") == MISTAKE
    out, err = capsys.readouterr()
    assert out == ""
    assert_clear(err)
    assert said in " ".join(err.split())


# What is written


def test_the_page_is_written_whole_or_not_at_all(
    bench: Path, capsys: Captured, tmp_path: Path
) -> None:
    page = tmp_path / "new" / "report.html"
    arguments = ("strict.tflite", "--against", TFLITE, "--data", "photos", "--html", page)
    call(*arguments, "--worst", "2")
    assert page.read_text("utf-8").count("<article>") == 2
    page.write_text("from before")
    assert call(*arguments, "--layout", "manifest") == MISTAKE
    assert page.read_text() == "from before"
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]


def test_unreadable_pictures_are_listed_and_change_no_verdict(
    bench: Path, capsys: Captured, tmp_path: Path
) -> None:
    shutil.copytree("plain", tmp_path / "data")
    (tmp_path / "data" / "real" / "broken.png").write_bytes(b"no picture")
    arguments = (TFLITE, "--against", TFLITE, "--data", tmp_path / "data")
    assert call(*arguments) == PASSES
    said = capsys.readouterr().err
    assert "1 picture could not be read and is left out:\n" in said
    found = outcome_of(capsys, *arguments, code=PASSES)
    assert [Path(entry.file).name for entry in found.skipped] == ["broken.png"]


def test_folders_spelt_in_other_ways_are_compared_on_whole_and_damage_is_counted(
    bench: Path, capfd: Captured, tmp_path: Path
) -> None:
    shutil.copytree("plain/real", tmp_path / "data" / "0_Real")
    shutil.copytree("plain/fake", tmp_path / "data" / "1_Fake")
    (tmp_path / "data" / "0_Real" / "x.heic").touch()
    bad = tmp_path / "data" / "1_Fake" / "bad.jpeg"
    write(bad, noise(64, 64))
    bad.write_bytes(damaged(bad.read_bytes()))
    pictures = sum(path.suffix != ".heic" for path in (tmp_path / "data").rglob("*.*"))
    for other in ((), ("--layout", "images")):  # labelled, and not
        assert call(TFLITE, "--against", TFLITE, "--data", tmp_path / "data", "--json", *other) < 3
        out, err = capfd.readouterr()
        found = typed_json.decode(Verification, json.loads(out))
        assert (found.split, found.measurements.pictures) == ("all", pictures)
        assert found.damaged == (str(bad),)
        assert found.left_out == {".heic": 1}
        assert "1 picture is damaged and judged all the same" in err
        assert "Corrupt" not in err


# Examples


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples speak of: a small student as int8, and some of the sample."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "build").mkdir()
    for model_format in ("tflite", "onnx"):
        path = small_int8_file(model_format)  # type: ignore[arg-type]
        shutil.copy(path, folder / "build" / f"student_int8.{model_format}")
    for label in ("real", "fake"):
        (folder / "pictures" / label).mkdir(parents=True)
    (folder / "photos").mkdir()
    for index, image in enumerate(edgedf.sample.images()[:24]):
        places: list[Any] = [folder / "pictures" / image.label]
        for place in [*places, *([folder / "photos"] if index < 8 else [])]:
            shutil.copy(image.path, place)
    (limits,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (folder / "limits.toml").write_text(limits)
    return folder


@pytest.mark.parametrize("example", sorted({*IN_HELP, *ON_PAGE}))
def test_the_examples_work_as_they_stand(
    example: str, shop: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    ship_the_small_one(monkeypatch)
    assert main(example.split()[1:]) in (PASSES, CANNOT_TELL)
    shown = capsys.readouterr().out
    if "--json" in example:
        assert json.loads(shown)["limits"]["flips_bound"] == 0.06
    else:
        assert "map error" in shown
    if "--layers" in example:
        assert '"layers"' in shown if "--json" in example else "Worst is layer" in shown
    if "--html" in example:
        assert (shop / "report.html").read_text("utf-8").count("<article>") == 20


def test_the_help_shows_the_examples_and_the_codes(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["verify", "--help"]) == 0
    shown = capsys.readouterr().out
    lines = [line.strip() for line in shown.splitlines()]
    assert len(IN_HELP) >= 2
    assert len(ON_PAGE) >= len(IN_HELP)
    assert all(example in lines for example in IN_HELP)
    assert set(IN_HELP) <= set(ON_PAGE)
    text = " ".join(shown.split())
    assert "Exit code: 0 passes, 1 fails, 2 cannot tell" in text
    assert "64 something that was asked or given is wrong" in text


def test_the_page_has_every_limit_and_its_default() -> None:
    defaults = typed_json.encode(Limits())
    for name, value in defaults.items():
        if name.endswith("_bound"):
            continue
        bound = defaults.get(f"{name}_bound")
        cell = "" if bound is None else f"{bound:g} "
        assert f"| `{name}` | {value:g} | {cell}|" in PAGE
