import itertools
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgedf.distill.datasets.dataset import read_manifest
from edgedf.distill.networks.checkpoints import load_checkpoint, save_checkpoint
from edgedf.distill.networks.deployable import Deployable
from edgedf.distill.networks.student import Student
from edgedf.distill.qat.fake_quant import FakeQuantized, ranges_of
from edgedf.distill.qat.pictures import PictureBatches, divided, of_split
from edgedf.distill.qat.qat import FINAL, REPORT, fine_tune, train_qat
from edgedf.distill.settings import QatLoopSettings, QatSettings
from edgedf.distill.training.loop import BEST, STATE
from edgedf.errors import CheckpointError, ConfigError, DataError
from edgedf.files import sha256_of
from edgedf.progress import silent
from tests.distill.pictures import write_dataset
from tests.quantize.students import METADATA, scratch, small_checkpoint, small_images

QUICK = QatSettings(
    observed=4,
    equalize=False,
    loop=QatLoopSettings(
        steps=3, batch=1, warmup=0, evaluate_every=2, save_every=0.0, device="cpu"
    ),
)


@cache
def pictures() -> Path:
    return write_dataset(scratch() / "qat-pictures", groups=1)


@cache
def run() -> Path:
    """The folder of a short run on a labelled data set; do not change it."""
    train_qat(pictures(), scratch() / "qat-run", small_checkpoint(), QUICK)
    return scratch() / "qat-run"


def test_a_run_leaves_an_ordinary_checkpoint_with_ranges() -> None:
    student, metadata = load_checkpoint(run() / FINAL)
    _, origin = load_checkpoint(small_checkpoint())
    ranges = ranges_of(metadata)
    assert ranges is not None
    assert set(ranges) == set(FakeQuantized(student).names)
    assert metadata["qat"]["parent_sha256"] == sha256_of(small_checkpoint())
    assert metadata["qat"]["method"] == "learned"
    assert metadata["threshold"] == origin["threshold"]
    assert metadata["training"]["data"].endswith("5 pictures of quantization-aware training")
    (figure,) = [x for x in metadata["accuracy"] if x["model"] == "int8, simulated"][-1:]
    assert figure["dataset"] == "all sets pooled test"
    before = load_checkpoint(small_checkpoint())[0].state_dict()
    after = load_checkpoint(run() / BEST)[0].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"encoder.stem.weight", "encoder.stages.1.0.project.bias", "fake.weight"} < changed
    assert not {"high_pass.conv.weight", "centre", "deviation", "encoder.stem.gain"} & changed


def test_the_report_compares_before_and_after_with_the_float_student() -> None:
    report = json.loads((run() / REPORT).read_text("utf-8"))
    seen = [(figure["data"], figure["model"]) for figure in report["figures"]]
    models = ("int8 before", "int8 after", "float after")
    assert seen == [(data, model) for data in ("val", "test") for model in models]
    for figure in report["figures"]:
        assert figure["n"] == 5
        assert 0 <= figure["logit_error"] < 1
        assert 0 <= figure["map_error"] < 1
        if figure["model"].startswith("int8"):
            assert figure["map_error"] > 0.001
        assert figure["logit_correlation"] > 0.8
        assert figure["flips"] + figure["changes"] <= 5
        assert figure["parent_auc"]["n"] == 5
    assert report["steps"] == 3
    assert report["skipped"] == []


def test_a_student_is_never_worse_than_at_the_start(tmp_path: Path) -> None:
    wild = replace(QUICK, rate=0.3, loop=replace(QUICK.loop, steps=2, average=0.0, clip=1e6))
    report = fine_tune(small_checkpoint(), small_images()[:12], tmp_path, wild)
    before, after, as_float = report.figures
    assert report.best_step == 0
    assert (after.logit_error, after.map_error) == (before.logit_error, before.map_error)
    assert as_float.logit_error < 1e-4
    assert load_checkpoint(report.checkpoint)[1]["qat"]["steps"] == 0


def test_the_student_says_what_the_report_says_of_it() -> None:
    """The ranges in the file are those that belong to its weights."""
    student, metadata = load_checkpoint(run() / FINAL)
    network, parent = FakeQuantized(student).eval(), load_checkpoint(small_checkpoint())[0]
    network.set_ranges(ranges_of(metadata) or {})
    images = of_split(read_manifest(pictures()), "test", most=99, size=64, seed=0).images
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        logit, dense = network(batch)
        wanted, wanted_map = Deployable(parent)(batch)
    report = json.loads((run() / REPORT).read_text("utf-8"))
    figure = next(f for f in report["figures"] if (f["data"], f["model"]) == ("test", "int8 after"))
    assert figure["logit_error"] == pytest.approx((logit - wanted).abs().mean().item(), rel=1e-3)
    assert figure["map_error"] == pytest.approx((dense - wanted_map).abs().mean().item(), rel=1e-3)


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(tmp_path: Path) -> None:
    def cut_off(step: str, done: int, total: int) -> None:
        if step == "training steps" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_qat(pictures(), tmp_path, small_checkpoint(), QUICK, progress=cut_off)
    assert (tmp_path / STATE).is_file()
    assert not (tmp_path / FINAL).is_file()
    train_qat(pictures(), tmp_path, small_checkpoint(), QUICK)
    assert sha256_of(tmp_path / FINAL) == sha256_of(run() / FINAL)


def test_a_folder_belongs_to_one_student_and_one_choice_of_settings() -> None:
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        train_qat(pictures(), run(), small_checkpoint(), replace(QUICK, rate=1e-3))
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        train_qat(pictures(), run(), run() / FINAL, QUICK)


def spoilt() -> Path:
    """The small student with two channels that stick out of a tensor, in float the same."""
    path = scratch() / "spoilt.safetensors"
    source = load_checkpoint(small_checkpoint())[0]
    student = Student(replace(source.config, int8_weights=False)).eval()
    student.load_state_dict(source.state_dict())
    project = student.encoder.stages[0][0].project
    expand = student.encoder.stages[1][0].expand
    with torch.no_grad():
        project.weight[:2] *= 40
        project.bias[:2] *= 40
        expand.weight[:, :2] /= 40
    return save_checkpoint(path, student, METADATA)


def test_training_cures_what_sticks_out(tmp_path: Path) -> None:
    """Without labels, on a few pictures; the figures are of pictures that were held out."""
    settings = QatSettings(
        observed=8,
        loop=QatLoopSettings(steps=3, batch=4, warmup=0, average=0.8),
    )
    report = fine_tune(spoilt(), [*small_images()], tmp_path, settings)
    before, start, after, _ = report.figures
    assert {figure.data for figure in report.figures} == {"held out"}
    assert (before.model, start.model) == ("int8 before", "int8 equalized")
    assert after.model == "int8 after"
    assert before.auc is None
    assert before.logit_error > 0.1
    assert after.logit_error + after.map_error < 0.7 * (before.logit_error + before.map_error)
    assert report.checkpoint == tmp_path / FINAL


def test_a_budget_in_minutes_bounds_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)))
    monkeypatch.setattr("edgedf.distill.qat.task.time", clock)  # a second a step
    settings = replace(QUICK, loop=replace(QUICK.loop, steps=100_000, evaluate_every=50_000))
    few = small_images()[:12]
    report = fine_tune(small_checkpoint(), few, tmp_path, settings, minutes=0.05)
    assert report.steps == 2  # the rest of the three seconds is for looks
    with pytest.raises(ConfigError, match="No step of training fits"):
        fine_tune(small_checkpoint(), small_images(), tmp_path / "b", settings, minutes=1e-6)


def test_a_run_on_other_pictures_is_not_gone_on_with() -> None:
    with pytest.raises(ConfigError, match="holds a run already"):
        fine_tune(small_checkpoint(), small_images(), run(), QUICK)


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="11 pictures are too few"):
        fine_tune(small_checkpoint(), small_images()[:11], tmp_path, QUICK)


def test_a_checkpoint_that_does_not_say_what_it_is_is_refused(tmp_path: Path) -> None:
    student, _ = load_checkpoint(small_checkpoint())
    bare = save_checkpoint(tmp_path / BEST, student, {"step": 3})
    with pytest.raises(CheckpointError, match="threshold is missing"):
        fine_tune(bare, small_images(), tmp_path / "run", QUICK)


def test_each_picture_comes_once_an_epoch() -> None:
    training, held_out = divided(small_images(), 64, 0)
    assert len(training) + len(held_out) == len(small_images())
    assert not set(training.files) & set(held_out.files)
    size = 4
    batches = PictureBatches(training, size=size, seed=0)
    seen = np.concatenate([batches.indices(step) for step in range(len(training))])
    epochs = seen.reshape(size, len(training))
    assert all(set(epoch) == set(range(len(training))) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == size
    # Two processes see together what one sees.
    whole = batches.part(5, 0, 1)
    halves = [batches.part(5, rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat([half.images for half in halves]), whole.images)
    assert whole.labelled == 0.0
    assert whole.images.min() >= 0
    assert torch.equal(whole.images, whole.images.round())


def test_pictures_of_a_split_are_chosen_from_each_set_and_class() -> None:
    dataset = read_manifest(pictures())
    some = of_split(dataset, "train", most=4, size=64, seed=0, progress=silent)
    names = [Path(file).parent.name for file in some.files]
    sets = set(zip(names, some.labels.tolist(), strict=True))
    assert len(sets) == len(some) == 4
    assert some.images.shape == (4, 64, 64, 3)
