import copy

import pytest
import torch
from hypothesis import settings

from edgedf.distill.networks.deployable import Deployable
from edgedf.distill.networks.student import Student
from edgedf.distill.qat.fake_quant import FakeQuantized, activations, ranges_of
from edgedf.distill.settings import StudentConfig
from edgedf.errors import CheckpointError
from edgedf.spec import LOGIT_BOUND, MAP_MAXIMUM

QUICK = settings(max_examples=30, deadline=None)

TINY = StudentConfig(64, 11, 2, 8, 1)


def picture(count: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 64, 64), generator=generator).float()


def student(config: StudentConfig = TINY) -> Student:
    torch.manual_seed(0)
    made = Student(config).eval()
    torch.nn.init.normal_(made.fake.weight, std=0.05)
    return made


def test_it_stays_near_the_float_student_and_takes_its_levels() -> None:
    network = FakeQuantized(student()).eval()
    network.observe([picture(2)])
    with torch.no_grad():
        logit, dense = network(picture(2))
        wanted, wanted_map = Deployable(student())(picture(2))
    assert 0 < (logit - wanted).abs().max() < 0.2
    assert 0 < (dense - wanted_map).abs().max() < 0.3
    steps = logit * 255 / (2 * LOGIT_BOUND), dense * 255 / MAP_MAXIMUM
    for values in steps:
        torch.testing.assert_close(values, values.round(), rtol=0, atol=1e-3)


def test_what_is_quantized_is_what_has_a_part_in_the_outputs() -> None:
    network = FakeQuantized(student(StudentConfig(64, 13, 4, 8, 0, high_pass=False)))
    names = network.names
    assert names[0] == "student.encoder.stem"
    assert {"student.encoder.stages.2.1.sum", "halve", "totals.2", "average"} < set(names)
    # The last block's output and that of its projection go nowhere.
    assert "student.encoder.stages.5.1.depthwise" in names
    assert not {"student.encoder.stages.5.1.project", "student.encoder.stages.5.1.sum"} & set(names)
    # A resized tensor has the levels of what it is made from.
    assert not [name for name in names if "double" in name]
    ranges = network.ranges()
    assert ranges["average"] == (-LOGIT_BOUND, LOGIT_BOUND)
    assert ranges["student.blur"] == (0.0, MAP_MAXIMUM)


def test_every_weight_and_range_is_given_a_gradient() -> None:
    network = FakeQuantized(student())
    network.observe([picture(2)])
    logit, dense = network(picture(2, seed=1))
    (logit.square().sum() + dense.square().sum()).backward()
    idle = {name for name, weight in network.named_parameters() if weight.grad is None}
    assert idle <= {"student.high_pass.conv.weight", "student.high_pass.conv.bias"}
    assert network.stretch.grad is not None
    moved = network.stretch.grad.abs().sum(dim=1) > 0
    fixed = torch.tensor([name in ("average", "student.blur") for name in network.names])
    assert not moved[fixed].any()
    assert moved[~fixed].float().mean() > 0.9


def test_ranges_follow_the_pictures_in_training_alone() -> None:
    network = FakeQuantized(student(), "ema")
    network.observe([picture(2)])
    before = network.ranges()
    network.eval()(picture(2, seed=1))
    assert network.ranges() == before
    network.train()(picture(2, seed=1))
    after = network.ranges()
    assert after != before
    assert after["average"] == before["average"]
    learned = FakeQuantized(student())
    learned.observe([picture(2)])
    learned.train()(picture(2, seed=1))
    assert learned.ranges() == before


def test_ranges_are_the_mean_over_batches() -> None:
    network = FakeQuantized(student())
    network.observe([picture(2)])
    first = network.ranges()["student.encoder.stages.0.0.project"]
    network.observe([picture(2, seed=1)])
    second = network.ranges()["student.encoder.stages.0.0.project"]
    network.observe([picture(2), picture(2, seed=1)])
    mean = network.ranges()["student.encoder.stages.0.0.project"]
    assert mean == pytest.approx([(a + b) / 2 for a, b in zip(first, second, strict=True)])
    assert first[0] < 0 < first[1]


def test_a_copy_is_a_network_of_its_own_and_takes_the_same_ranges() -> None:
    network = FakeQuantized(student()).eval()
    network.observe([picture(2)])
    with torch.no_grad():
        network.stretch.uniform_(-0.2, 0.2)
        other = copy.deepcopy(network)
        other.set_ranges(network.ranges())
        assert not other.stretch.any()
        torch.testing.assert_close(other(picture()), network(picture()), rtol=0, atol=1e-4)
        other.student.fake.weight.zero_()
        assert network.student.fake.weight.any()


def test_activations_are_those_that_have_ranges() -> None:
    made, image = student(), picture()
    found = activations(made, image)
    assert tuple(found) == FakeQuantized(made).names
    logit, dense = Deployable(made)(image)
    assert torch.equal(found["average"].flatten(1), logit)
    assert torch.equal(found["student.blur"], dense)
    assert found["student.decoder.reduce16"].shape == (1, 8, 4, 4)


@pytest.mark.parametrize(
    "ranges",
    [{"a": [1, 2]}, {"a": [-1.0]}, {"a": [float("nan"), 1.0]}, {"a": ["x", 1]}, [1], None],
)
def test_ranges_that_are_none_are_refused(ranges: object) -> None:
    with pytest.raises(CheckpointError, match="activation ranges"):
        ranges_of({"qat": {"ranges": ranges}})


def test_a_checkpoint_without_ranges_has_none() -> None:
    assert ranges_of({}) is None
    assert ranges_of({"qat": {"ranges": {"a": [-1, 2]}}}) == {"a": (-1.0, 2.0)}
