import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedf import typed_json
from edgedf.distill.datasets.dataset import read_manifest
from edgedf.distill.networks.checkpoints import load_teacher
from edgedf.distill.networks.teacher import Branch, Teacher
from edgedf.distill.optics.maps import defocus_map
from edgedf.distill.records import statistics
from edgedf.distill.records.making import TargetSettings, at_stride
from edgedf.distill.records.plan import evaluation_plan
from edgedf.distill.records.preparation import SETTINGS
from edgedf.distill.records.targets import Records, compute
from edgedf.distill.settings import LoopSettings, TeacherConfig, TeachSettings
from edgedf.distill.training.logbook import METRICS
from edgedf.distill.training.loop import BEST, STATE
from edgedf.distill.training.taught import judged_by
from edgedf.distill.training.teach import FINAL, REPORT, TeachReport, teach
from edgedf.errors import ConfigError, DataError
from edgedf.metrics import auc_with_interval, detection_metrics
from edgedf.settings import dump_settings, load_settings
from edgedf.spec import Accuracy
from tests.distill.pictures import write_dataset, write_manifest
from tests.distill.test_distributed import two_ranks

SMALL = TeacherConfig(first_block=2, last_block=4, map_channels=0)
QUICK = TeachSettings(crops=0, renderings=1, input_size=32, penalty=0.3, teacher=SMALL)
# The smallest with a dense head.
DENSE = dataclasses.replace(
    QUICK,
    rate=1e-2,
    loop=LoopSettings(steps=6, batch=4, warmup=1, evaluate_every=2, save_every=0.0, device="cpu"),
    teacher=TeacherConfig(
        modalities=("frequency", "defocus"),
        first_block=8,
        last_block=8,
        map_channels=8,
        map_blocks=1,
    ),
)
RENDERED = "rendered depth of field test"
EXACT = "map error against the exact map (px)"
PHYSICAL = "physical map's error against the exact map (px)"


class Killed(Exception):
    """Stands for a power cut."""


@pytest.fixture(scope="module")
def taught(
    tmp_path_factory: pytest.TempPathFactory, data: Path, cache: Path
) -> tuple[Path, TeachReport]:
    """A folder with a teacher of all modalities, and the report."""
    out = tmp_path_factory.mktemp("taught")
    return out, teach(data, out, QUICK, cache=cache, workers=1)


@pytest.fixture(scope="module")
def dense(
    tmp_path_factory: pytest.TempPathFactory, data: Path, cache: Path
) -> tuple[Path, TeachReport]:
    """A folder with a teacher that has a dense head, and the report."""
    out = tmp_path_factory.mktemp("dense")
    return out, teach(data, out, DENSE, cache=cache, workers=1)


def loaded(path: Path) -> Teacher:
    return load_teacher(path)[0]


def of_split(data: Path, cache: Path, split: str) -> Records:
    samples = read_manifest(data).select(split=split)  # type: ignore[arg-type]
    return compute(evaluation_plan(samples), cache, TargetSettings(size=32))


def directly(
    path: Path, records: Records, *, kept: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits of a teacher and of each of its branches; as if by statistics ``kept`` in float16."""
    teacher = loaded(path)
    pixels = torch.from_numpy(records.images).permute(0, 3, 1, 2).float()
    maps = torch.from_numpy(records.maps.astype(np.float32))[:, None]
    with torch.inference_mode():
        output = teacher(pixels, maps)
        if kept:
            found = [branch.statistics(pixels, maps) for branch in teacher.each()]
            output = teacher.fuse([values.half().float() for values in found])
    return output.fake_logit.double().numpy(), output.by_modality.double().numpy()


def by_name(figures: tuple[Accuracy, ...]) -> dict[tuple[str, str], Accuracy]:
    return {(figure.dataset, figure.metric): figure for figure in figures}


def test_a_run_leaves_a_teacher_that_says_what_it_is(
    taught: tuple[Path, TeachReport], data: Path
) -> None:
    out, report = taught
    assert report.teacher == out / FINAL
    assert sorted(path.name for path in out.iterdir()) == sorted([FINAL, REPORT, SETTINGS])
    teacher, metadata = load_teacher(out / FINAL)
    assert teacher.config == SMALL
    assert metadata["sha256"] == report.sha256
    assert metadata["data_sha256"] == read_manifest(data).sha256
    assert "research use only" in metadata["licence"]
    assert "validation split" in metadata["threshold"]["how"]
    accuracy = [typed_json.decode(Accuracy, figure) for figure in metadata["accuracy"]]
    assert accuracy == [*report.test]
    plain = typed_json.encode(dataclasses.replace(report, teacher=str(out / FINAL)))  # type: ignore[arg-type]
    assert json.loads((out / REPORT).read_text("utf-8")) == json.loads(json.dumps(plain))
    assert load_settings(TeachSettings, out / SETTINGS) == QUICK
    text = (out / SETTINGS).read_text("utf-8")
    assert text.startswith(f"# Manifest's SHA-256: {metadata['data_sha256']}\n")
    assert text.endswith(dump_settings(QUICK))


def test_temperatures_are_those_that_the_teacher_judges_by(
    taught: tuple[Path, TeachReport],
) -> None:
    out, report = taught
    assert list(report.temperatures) == ["rgb", "frequency", "defocus", "all"]
    state = safetensors.torch.load_file(out / FINAL)
    for number, name in enumerate(("rgb", "frequency", "defocus")):
        scale = state[f"branches.{number}.scale"].item()
        assert report.temperatures[name] == pytest.approx(1 / scale)
    assert report.temperatures["all"] == pytest.approx(1 / state["scale"].item())
    assert np.isfinite(list(report.temperatures.values())).all()
    # Encoders are ImageNet's and high-pass filters are fixed: neither is in the file.
    assert not [name for name in state if "encoder" in name or "high_pass" in name]


def test_figures_and_calibration_are_those_of_the_saved_teacher(
    taught: tuple[Path, TeachReport], data: Path, cache: Path
) -> None:
    out, report = taught
    calibration = by_name(report.calibration)
    assert set(calibration) == {
        (f"all sets pooled {split}", metric)
        for split in ("val", "test")
        for metric in ("ECE", "Brier score")
    }
    for split in ("val", "test"):
        records = of_split(data, cache, split)
        logits, single = directly(out / FINAL, records, kept=True)
        known = ~np.isnan(records.labels)
        groups = np.array([job.sample.group for job in records.jobs], dtype=object)
        found = detection_metrics(records.labels[known], logits[known], groups[known])
        for metric, figure in (("ECE", found.ece), ("Brier score", found.brier)):
            assert figure is not None
            noted = calibration[f"all sets pooled {split}", metric]
            assert noted.value == pytest.approx(figure.value, abs=1e-3)
            assert noted.n == known.sum() == 15
    # The last loop was over the test split.
    scenes = np.flatnonzero([job.sample.set == "scenes" for job in records.jobs])
    test = by_name(report.test)
    for name, values in [("", logits), *zip(SMALL.modalities, single.T, strict=True)]:
        figure = auc_with_interval(records.labels[scenes], values[scenes], groups[scenes])
        noted = test[f"{name} alone: scenes test" if name else "scenes test", "AUC"]
        assert noted.value == pytest.approx(figure.value, abs=1e-4)
        assert noted.n == 6
    assert ("faces256 self-blended test", "AUC") in test
    assert ("scenes test", "fakes called fake") in test
    assert ("scenes val", "AUC") in by_name(report.validation)


def test_a_teacher_knows_what_it_was_fitted_to(
    taught: tuple[Path, TeachReport], data: Path, cache: Path
) -> None:
    """Each branch tells its training pictures apart; on others these few teach little."""
    out, _ = taught
    records = of_split(data, cache, "train")
    known = ~np.isnan(records.labels)
    _, single = directly(out / FINAL, records)
    state = safetensors.torch.load_file(out / FINAL)
    for number in range(3):
        side = np.sign(state[f"branches.{number}.scale"].item())
        groups = [str(index) for index in range(known.sum())]
        figure = auc_with_interval(records.labels[known], side * single[known, number], groups)
        assert figure.value > 0.8


@pytest.mark.parametrize(
    "modalities", [("rgb",), ("frequency",), ("defocus",), ("defocus", "rgb"), ("rgb", "frequency")]
)
def test_any_modalities_make_a_teacher(
    modalities: tuple[str, ...], data: Path, cache: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(QUICK, teacher=dataclasses.replace(SMALL, modalities=modalities))
    report = teach(data, tmp_path, settings, cache=cache, workers=1)
    assert list(report.temperatures) == [*modalities, "all"]
    teacher, _ = load_teacher(report.teacher)
    assert [branch.modality for branch in teacher.each()] == [*modalities]
    alone = {f.dataset.split()[0] for f in report.test if " alone: " in f.dataset}
    assert alone == {*modalities}


def test_a_branch_is_the_same_whatever_stands_beside_it(
    taught: tuple[Path, TeachReport], data: Path, cache: Path, tmp_path: Path
) -> None:
    alone = dataclasses.replace(
        QUICK, teacher=dataclasses.replace(SMALL, modalities=("frequency",))
    )
    report = teach(data, tmp_path, alone, cache=cache, workers=1)
    one, all_three = (safetensors.torch.load_file(p) for p in (report.teacher, taught[0] / FINAL))
    for name in ("centre", "deviation", "weight", "bias", "scale", "offset"):
        assert torch.equal(one[f"branches.0.{name}"], all_three[f"branches.1.{name}"]), name
    assert report.sha256 != taught[1].sha256


def look(*_: object) -> Tensor:
    """Takes the place of what a branch sees with."""
    raise AssertionError("a branch looks again")


def test_a_teachers_verdicts_are_its_own_and_pictures_are_looked_at_once(
    taught: tuple[Path, TeachReport],
    data: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, records = taught[0] / FINAL, of_split(data, cache, "test")
    teacher, (expected, _) = loaded(path), directly(path, records)
    told: list[tuple[str, int, int]] = []
    said = judged_by(teacher, records, tmp_path, progress=lambda *step: told.append(step))
    assert said.shape == (len(records),)
    assert said.dtype == np.float64
    assert np.allclose(said, expected, rtol=2e-3, atol=2e-3)
    assert np.allclose(said, directly(path, records, kept=True)[0], rtol=1e-5, atol=1e-5)
    assert np.ptp(said) > 0.1
    count = len(records)
    assert told == [(f"{name} statistics", count, count) for name in SMALL.modalities]
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(shards) == 3
    monkeypatch.setattr(Branch, "statistics", look)
    assert np.array_equal(judged_by(teacher, records, tmp_path), said)
    # Where the teacher was taught, what it saw is kept as well.
    assert np.allclose(judged_by(teacher, records, cache), said, rtol=1e-3, atol=1e-3)
    with pytest.raises(AssertionError, match="looks again"):
        judged_by(teacher, records, tmp_path / "empty")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == shards


def test_another_teacher_has_verdicts_of_its_own(
    taught: tuple[Path, TeachReport],
    data: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records, kept = of_split(data, cache, "test"), tmp_path / "kept"
    said = judged_by(loaded(taught[0] / FINAL), records, kept)
    stricter = dataclasses.replace(QUICK, penalty=10.0)
    deeper = dataclasses.replace(QUICK, teacher=dataclasses.replace(SMALL, last_block=5))
    first, second = (
        teach(data, tmp_path / name, settings, cache=cache, workers=1).teacher
        for name, settings in (("stricter", stricter), ("deeper", deeper))
    )
    expected = [directly(path, records, kept=True)[0] for path in (first, second)]
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((taught[0] / FINAL).read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(Branch, "statistics", look)
        # It sees the same and makes something else of it.
        others = judged_by(loaded(first), records, kept)
        assert np.allclose(others, expected[0], rtol=1e-5, atol=1e-5)
        assert not np.allclose(others, said, atol=1e-2)
        assert np.array_equal(judged_by(loaded(copy), records, kept), said)
        with pytest.raises(AssertionError, match="looks again"):
            judged_by(loaded(second), records, kept)
    assert len(list(kept.iterdir())) == 3
    others = judged_by(loaded(second), records, kept)
    assert np.allclose(others, expected[1], rtol=1e-5, atol=1e-5)
    assert len(list(kept.iterdir())) == 6


def test_a_run_killed_among_the_statistics_goes_on_with_the_same_result(
    data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of six records: three of training, three of validation, three of test, a branch."""
    monkeypatch.setattr(statistics, "SHARD", 6)
    seen: list[tuple[str, int]] = []
    plain = Branch.statistics

    def counted(branch: Branch, image: Tensor, defocus: Tensor) -> Tensor:
        seen.append((branch.modality, len(image)))
        return plain(branch, image, defocus)

    monkeypatch.setattr(Branch, "statistics", counted)
    whole = teach(data, tmp_path / "whole", QUICK, workers=1)
    all_seen = [(name, count) for name in SMALL.modalities for count in [6, 6, 4] * 3]
    assert seen == all_seen
    seen.clear()
    shards = 0

    def kill(step: str, done: int, total: int) -> None:
        nonlocal shards
        if step == "frequency statistics":
            shards += 1
            if shards == 5:
                raise Killed

    with pytest.raises(Killed):
        teach(data, tmp_path / "cut", QUICK, workers=1, progress=kill)
    assert seen == all_seen[:14]
    assert not (tmp_path / "cut" / FINAL).exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut/cache").glob("statistics-*")}
    assert len(kept) == 14
    seen.clear()
    resumed = teach(data, tmp_path / "cut", QUICK, workers=1)
    assert seen == all_seen[14:]
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert resumed.teacher.read_bytes() == whole.teacher.read_bytes()
    assert dataclasses.replace(resumed, teacher=whole.teacher) == whole


def test_another_teacher_in_the_same_folder_is_refused(
    taught: tuple[Path, TeachReport], data: Path, cache: Path, tmp_path: Path
) -> None:
    out, report = taught
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ConfigError, match="holds a run with other settings, other data"):
        teach(data, out, dataclasses.replace(QUICK, penalty=1.0), cache=cache, workers=1)
    elsewhere = write_dataset(tmp_path / "data", groups=2)
    with pytest.raises(ConfigError, match="holds a run with other settings, other data"):
        teach(elsewhere, out, QUICK, cache=cache, workers=1)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert teach(data, out, QUICK, cache=cache, workers=1) == report
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


# The dense head


def test_the_file_holds_the_best_head_and_no_encoder(dense: tuple[Path, TeachReport]) -> None:
    out, report = dense
    names = [FINAL, REPORT, SETTINGS, BEST, STATE, METRICS, "tensorboard"]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    state = safetensors.torch.load_file(out / FINAL)
    best = safetensors.torch.load_file(out / BEST)
    head = {name.removeprefix("map_head."): value for name, value in state.items()}
    assert {name for name in state if name.startswith("map_head.")} == {
        f"map_head.{name}" for name in best
    }
    assert all(torch.equal(head[name], value) for name, value in best.items())
    assert not [name for name in state if "encoder" in name or "high_pass" in name]
    teacher, metadata = load_teacher(out / FINAL)
    assert teacher.config == DENSE.teacher
    assert metadata["sha256"] == report.sha256
    # Learning has moved every weight of it but the fixed gains.
    assert teacher.map_head is not None
    torch.manual_seed(DENSE.loop.seed)
    start = dict(Teacher(DENSE.teacher).named_parameters())
    for name, weight in teacher.map_head.named_parameters():
        assert not torch.equal(start[f"map_head.{name}"], weight), name


def test_figures_tell_the_heads_maps_from_the_physical_ones(
    dense: tuple[Path, TeachReport], data: Path, cache: Path
) -> None:
    """What the reloaded teacher makes of the test pictures, picture by picture."""
    out, report = dense
    teacher, records = loaded(out / FINAL), of_split(data, cache, "test")
    test = by_name(report.test)
    physical = np.stack([at_stride(defocus_map(x, "physical"), 4) for x in records.images])
    pixels = torch.from_numpy(records.images).permute(0, 3, 1, 2).float()
    beside = torch.from_numpy(physical.astype(np.float32))[:, None]
    with torch.inference_mode():
        found = teacher.defocus_map(pixels, beside)[:, 0].numpy()
    wanted, kinds = records.maps.astype(np.float32), [job.kind for job in records.jobs]
    sets = [job.sample.set for job in records.jobs]
    errors = {
        (RENDERED, EXACT): np.abs(found - wanted)[[kind == "rendered" for kind in kinds]],
        (RENDERED, PHYSICAL): np.abs(physical - wanted)[[kind == "rendered" for kind in kinds]],
    }
    for name in ("scenes", "faces256"):
        of_set = [kind == "whole" and s == name for kind, s in zip(kinds, sets, strict=True)]
        title = "map error against the physical map (mean absolute, px)"
        errors[f"{name} test", title] = np.abs(found - wanted)[of_set]
    for key, error in errors.items():
        assert test[key].value == pytest.approx(error.mean(), abs=2e-3), key
        assert test[key].n == len(error), key
    assert test[RENDERED, EXACT].value != test[RENDERED, PHYSICAL].value
    # Only the whole has maps.
    assert not [f for f in report.test if " alone: " in f.dataset and "map" in f.metric]


def test_without_renderings_there_is_no_head_and_no_figure_of_maps(
    data: Path, cache: Path, tmp_path: Path
) -> None:
    """Nothing to learn from; those of the test split could be measured, but tell nothing."""
    settings = dataclasses.replace(DENSE, renderings=0)
    report = teach(data, tmp_path, settings, cache=cache, workers=1)
    teacher = loaded(report.teacher)
    assert teacher.config == dataclasses.replace(DENSE.teacher, map_channels=0)
    assert teacher.map_head is None
    state = safetensors.torch.load_file(report.teacher)
    assert not [name for name in state if "map" in name]
    assert "AUC" in {figure.metric for figure in report.test}
    assert not [figure for figure in report.test if "map" in figure.metric]
    assert not [figure for figure in report.test if "rendered" in figure.dataset]
    assert not (tmp_path / STATE).exists()
    # What was asked for is still what the folder is claimed by.
    assert load_settings(TeachSettings, tmp_path / SETTINGS) == settings
    assert teach(data, tmp_path, settings, cache=cache, workers=1) == report


@pytest.mark.parametrize(
    ("modalities", "looks"), [(("rgb",), False), (("rgb", "defocus"), True), (("defocus",), True)]
)
def test_a_head_looks_at_the_map_where_the_teacher_does(
    modalities: tuple[str, ...], looks: bool, data: Path, cache: Path, tmp_path: Path
) -> None:
    architecture = dataclasses.replace(DENSE.teacher, modalities=modalities)
    loop = dataclasses.replace(DENSE.loop, steps=1)
    settings = dataclasses.replace(DENSE, teacher=architecture, loop=loop)
    teacher = loaded(teach(data, tmp_path, settings, cache=cache, workers=1).teacher)
    records = of_split(data, cache, "val")
    pixels = torch.from_numpy(records.images).permute(0, 3, 1, 2).float()
    maps = torch.from_numpy(records.maps.astype(np.float32))[:, None]
    with torch.inference_mode():
        found = teacher.defocus_map(pixels, maps)
        assert torch.equal(teacher.defocus_map(pixels, maps.flip(3)), found) == (not looks)
        others = teacher.defocus_map(pixels.flip(3), maps)
    # The defocus branch shows the map in the place of the picture.
    assert torch.equal(others, found) == (modalities == ("defocus",))


def test_a_run_killed_while_the_head_learns_goes_on_and_refuses_other_settings(
    dense: tuple[Path, TeachReport], data: Path, cache: Path, tmp_path: Path
) -> None:
    def kill(step: str, done: int, total: int) -> None:
        if (step, done) == ("training steps", 3):
            raise Killed

    with pytest.raises(Killed):
        teach(data, tmp_path, DENSE, cache=cache, workers=1, progress=kill)
    assert not (tmp_path / FINAL).exists()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert tmp_path / STATE in before
    others = (
        dataclasses.replace(DENSE, penalty=1.0),
        dataclasses.replace(DENSE, loop=dataclasses.replace(DENSE.loop, seed=1)),
    )
    for other in others:
        with pytest.raises(ConfigError, match="holds a run with other settings"):
            teach(data, tmp_path, other, cache=cache, workers=1)
    assert {path: path.read_bytes() for path in before} == before
    steps: list[int] = []
    resumed = teach(
        data,
        tmp_path,
        DENSE,
        cache=cache,
        workers=1,
        progress=lambda step, done, _: steps.append(done) if step == "training steps" else None,
    )
    assert steps == [4, 5, 6]
    assert resumed.teacher.read_bytes() == (dense[0] / FINAL).read_bytes()
    assert dataclasses.replace(resumed, teacher=dense[1].teacher) == dense[1]
    # And once more, where nothing is left to do.
    again = teach(data, tmp_path, DENSE, cache=cache, workers=1)
    assert again == resumed
    assert again.teacher.read_bytes() == (dense[0] / FINAL).read_bytes()


def test_a_head_changes_no_verdict(
    dense: tuple[Path, TeachReport], data: Path, cache: Path, tmp_path: Path
) -> None:
    teacher = dataclasses.replace(DENSE.teacher, map_channels=0)
    settings = dataclasses.replace(DENSE, teacher=teacher)
    blind = teach(data, tmp_path, settings, cache=cache, workers=1)
    one, other = (safetensors.torch.load_file(path) for path in (blind.teacher, dense[0] / FINAL))
    assert set(one) == {name for name in other if not name.startswith("map_head.")}
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert blind.sha256 != dense[1].sha256
    records = of_split(data, cache, "test")
    said = [judged_by(loaded(path), records, cache) for path in (blind.teacher, dense[0] / FINAL)]
    assert np.array_equal(*said)
    assert np.ptp(said[0]) > 0.1


def test_an_encoder_that_ends_before_the_head_begins_is_refused(
    data: Path, cache: Path, tmp_path: Path
) -> None:
    teacher = dataclasses.replace(SMALL, map_channels=8)
    with pytest.raises(ConfigError, match="end with block 4 have nothing at stride 16"):
        teach(data, tmp_path, dataclasses.replace(QUICK, teacher=teacher), cache=cache, workers=1)
    assert not (tmp_path / FINAL).exists()


# Together and at the edges


def test_two_processes_make_the_same_teacher(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the batch each, of which the head learns: the gradient is that of the whole.

    Each split has two shards of statistics, one for each process.
    """
    monkeypatch.setattr(statistics, "SHARD", 8)
    teacher = dataclasses.replace(DENSE.teacher, modalities=("defocus",))
    settings = dataclasses.replace(DENSE, teacher=teacher)
    halved = dataclasses.replace(settings, loop=dataclasses.replace(settings.loop, batch=2))
    (tmp_path / "settings.toml").write_text(dump_settings(halved))
    one = teach(data, tmp_path / "one", settings, workers=1)
    ended = two_ranks(
        *("distill", "teach", "--data", str(data), "--out", "two"),
        *("--config", "settings.toml", "--workers", "1"),
        cwd=tmp_path,
        shard=8,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Teacher: two/teacher.safetensors") == 1
    assert ended.stderr.count("Settings:") == 1
    states = [safetensors.torch.load_file(tmp_path / name / FINAL) for name in ("one", "two")]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.allclose(states[1][name], value, rtol=1e-3, atol=1e-4), name
    kept = [{path.name for path in (tmp_path / n / "cache").iterdir()} for n in ("one", "two")]
    assert kept[0] == kept[1]
    # Six of the branch, and the physical maps of each split's renderings.
    assert len([name for name in kept[0] if name.startswith("statistics-")]) == 6 + 3
    assert one.skipped == ()


def test_the_smallest_input_is_judged_by_the_last_blocks(
    data: Path, cache: Path, tmp_path: Path
) -> None:
    """At stride 32 a block sees a single pixel of it, which does not vary."""
    settings = dataclasses.replace(
        QUICK, teacher=TeacherConfig(modalities=("rgb",), map_channels=0)
    )
    report = teach(data, tmp_path, settings, cache=cache, workers=1)
    state = safetensors.torch.load_file(report.teacher)
    assert all(torch.isfinite(value).all() for value in state.values())


def test_a_picture_that_cannot_be_read_is_left_out_and_reported(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", groups=11, held_out=2)
    picture = folder / "scenes" / "train-0-real.png"
    picture.write_bytes(picture.read_bytes()[:50])
    settings = dataclasses.replace(
        QUICK, teacher=dataclasses.replace(SMALL, modalities=("rgb",), first_block=1, last_block=1)
    )
    report = teach(folder, tmp_path / "out", settings, workers=1)
    assert [entry.file for entry in report.skipped] == [str(picture)]


def test_a_split_without_both_classes_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(next(data.rglob("*real.png")).read_bytes())
    write_manifest(tmp_path, [("a.png", "scenes", "real", "g", "train", "s")])
    with pytest.raises(DataError, match=r"train split of .* holds real"):
        teach(tmp_path, tmp_path / "out", QUICK)


@pytest.mark.parametrize(
    "change",
    [{"penalty": 0.0}, {"rate": 0.0}, {"input_size": 33}, {"input_size": 0}, {"crops": -1}],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(QUICK, **change)  # type: ignore[arg-type]
