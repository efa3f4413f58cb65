import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedf.distill.datasets.dataset import Sample
from edgedf.distill.networks.backbones import EfficientNetLite, load_imagenet_weights
from edgedf.distill.records.plan import Job
from edgedf.distill.records.targets import Records
from edgedf.distill.settings import LoopSettings
from edgedf.distill.training.loop import BEST, STATE
from edgedf.metrics import auc_with_interval
from experiments.baselines import FineTuned, MapXception, Xception, judge_all, learn_labels

SIZE = 32
QUICK = LoopSettings(
    steps=8, batch=8, warmup=2, average=0.9, evaluate_every=8, save_every=0.0, device="cpu"
)


class Killed(Exception):
    """Stands for a power cut."""


class Tiny(nn.Module):
    """Looks at detail and at the mean blur; has batch statistics, as Xception does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Linear(5, 1)

    def forward(self, images: Tensor, maps: Tensor) -> Tensor:
        seen = torch.relu(self.norm(self.conv(images / 255))).mean(dim=(2, 3))
        logits: Tensor = self.last(torch.cat([seen, maps.mean(dim=(2, 3))], dim=1))[:, 0]
        return logits


def records(count: int, seed: int = 0) -> Records:
    """Real ones are flat, fakes noisy and blurred by 2 px; they take turns."""
    rng = np.random.default_rng(seed)
    jobs = []
    for number in range(count):
        label = ("real", "fake")[number % 2]
        sample = Sample(Path(f"{number}.png"), "a", label, f"g{number}", "train", "s")  # type: ignore[arg-type]
        jobs.append(Job(sample, "whole"))
    labels = np.array([job.label for job in jobs], np.float32)
    levels = rng.integers(60, 190, (count, 1, 1, 3))
    noise = rng.normal(0, 40, (count, SIZE, SIZE, 3)) * labels[:, None, None, None]
    images = np.clip(levels + noise, 0, 255).astype(np.uint8)
    maps = np.ones((count, SIZE // 4, SIZE // 4), np.float16) * (2 * labels)[:, None, None]
    return Records(tuple(jobs), images, maps.astype(np.float16), labels)


def pictures(seed: int, count: int = 2) -> Tensor:
    return 255 * torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def maps(seed: int, count: int = 2) -> Tensor:
    return 4 * torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def separable(inputs: int, outputs: int) -> int:
    """Weights of a separable convolution without bias and of its batch normalisation."""
    return 9 * inputs + inputs * outputs + 2 * outputs


def test_xception_has_the_weights_of_the_papers_figure_5() -> None:
    stem = 3 * 32 * 9 + 2 * 32 + 32 * 64 * 9 + 2 * 64
    entry = sum(
        separable(inputs, outputs) + separable(outputs, outputs) + inputs * outputs + 2 * outputs
        for inputs, outputs in ((64, 128), (128, 256), (256, 728))
    )
    middle = 8 * 3 * separable(728, 728)
    leave = separable(728, 728) + separable(728, 1024) + 728 * 1024 + 2 * 1024
    leave += separable(1024, 1536) + separable(1536, 2048)
    body = stem + entry + middle + leave
    # With the 1,000 classes of ImageNet it has the 22,855,952 of the paper's table 3.
    assert body + 2048 * 1000 + 1000 == 22_855_952
    found = sum(weight.numel() for weight in Xception().parameters())
    assert found == body + 2048 + 1 == 20_809_001


def test_xception_looks_at_a_picture_at_five_strides() -> None:
    network = Xception().eval()
    sides: dict[str, int] = {}
    for name in ("stem", "flow", "end"):

        def note(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
            sides[name] = output.shape[-1]

        network.get_submodule(name).register_forward_hook(note)
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 128, 128)).shape == (2, 1)
    assert sides == {"stem": 64, "flow": 4, "end": 4}


@pytest.fixture(scope="module")
def map_xception() -> MapXception:
    torch.manual_seed(0)
    return MapXception(side=71).eval()


def test_map_xception_sees_the_map_alone(map_xception: MapXception) -> None:
    with torch.inference_mode():
        found = map_xception(pictures(0), maps(0))
        assert found.shape == (2,)
        assert torch.equal(map_xception(pictures(1), maps(0)), found)
        assert not torch.allclose(map_xception(pictures(0), maps(1)), found, rtol=1e-3)


def test_map_xception_sees_each_map_in_its_own_range(map_xception: MapXception) -> None:
    seen: list[Tensor] = []
    hook = map_xception.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        found = map_xception(pictures(0), maps(0))
        scaled = map_xception(
            pictures(0), 0.25 * maps(0) + torch.tensor([0.5, 3]).reshape(2, 1, 1, 1)
        )
        # A flat map has no range.
        flat = map_xception(pictures(0), torch.full((2, 1, 8, 8), 1.5))
    hook.remove()
    assert torch.allclose(scaled, found, rtol=1e-3, atol=1e-5)
    assert seen[0].shape == (2, 3, 71, 71)
    assert seen[0].amin().item() >= -1
    assert seen[0].amax().item() <= 1
    # Interpolation may miss the extremes of the map by a little.
    assert (seen[0].amin(dim=(1, 2, 3)) < -0.8).all()
    assert (seen[0].amax(dim=(1, 2, 3)) > 0.8).all()
    assert torch.equal(seen[2], torch.full_like(seen[2], -1))
    assert torch.isfinite(flat).all()


def test_fine_tuned_starts_from_imagenet_and_sees_the_picture_alone() -> None:
    torch.manual_seed(0)
    network = FineTuned().eval()
    wanted = EfficientNetLite("lite0")
    load_imagenet_weights(wanted)
    for name, value in wanted.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[name], value), name
    assert all(weight.requires_grad for weight in network.parameters())
    with torch.inference_mode():
        found = network(pictures(0), maps(0))
        assert found.shape == (2,)
        assert torch.equal(network(pictures(0), maps(1)), found)
        assert not torch.allclose(network(pictures(1), maps(0)), found, rtol=1e-3)


def test_labels_are_learned(tmp_path: Path) -> None:
    long = dataclasses.replace(QUICK, steps=100, evaluate_every=100, save_every=60.0)
    network = learn_labels(Tiny, records(32), tmp_path, long, rate=0.05)
    assert not network.training
    unseen = records(20, seed=1)
    logits = judge_all(network, unseen)
    groups = [job.sample.group for job in unseen.jobs]
    assert auc_with_interval(unseen.labels, logits, groups).value > 0.95


def test_judging_goes_in_batches_and_changes_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Tiny().eval()
    some = records(70)
    told: list[tuple[str, int, int]] = []
    logits = judge_all(network, some, lambda *step: told.append(step))
    assert told == [("judge", 32, 70), ("judge", 64, 70), ("judge", 70, 70)]
    assert logits.dtype == np.float64
    pixels = torch.from_numpy(some.images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = network(pixels, torch.from_numpy(some.maps.astype(np.float32))[:, None])
    assert np.allclose(logits, expected.numpy(), atol=1e-5)


def test_a_killed_run_goes_on_with_the_same_result(tmp_path: Path) -> None:
    some = records(16)
    whole = learn_labels(Tiny, some, tmp_path / "whole", QUICK, rate=0.05)

    def kill(step: str, done: int, total: int) -> None:
        if (step, done) == ("training steps", 5):
            raise Killed

    with pytest.raises(Killed):
        learn_labels(Tiny, some, tmp_path / "cut", QUICK, rate=0.05, progress=kill)
    assert (tmp_path / "cut" / STATE).is_file()
    assert not (tmp_path / "cut" / BEST).exists()
    steps: list[int] = []

    def note(step: str, done: int, total: int) -> None:
        if step == "training steps":
            steps.append(done)

    resumed = learn_labels(Tiny, some, tmp_path / "cut", QUICK, rate=0.05, progress=note)
    assert steps == [6, 7, 8]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    # Where the run is over, it is read.
    steps.clear()
    again = learn_labels(Tiny, some, tmp_path / "cut", QUICK, rate=0.05, progress=note)
    assert steps == []
    assert np.array_equal(judge_all(again, some), judge_all(whole, some))


def test_the_seed_decides(tmp_path: Path) -> None:
    some = records(16)
    found = [
        learn_labels(
            Tiny, some, tmp_path / str(number), dataclasses.replace(QUICK, seed=seed), rate=0.05
        )
        for number, seed in enumerate((0, 0, 1))
    ]
    first, same, other = (judge_all(network, some) for network in found)
    assert np.array_equal(first, same)
    assert not np.allclose(first, other, atol=1e-3)


def test_the_look_at_the_end_needs_no_certain_order(tmp_path: Path) -> None:
    """It is taken on a part of many records, which may take turns in being real and fake."""
    once = dataclasses.replace(QUICK, steps=1, warmup=0)
    network = learn_labels(Tiny, records(1024), tmp_path, once, rate=0.05)
    assert np.isfinite(judge_all(network, records(4))).all()
