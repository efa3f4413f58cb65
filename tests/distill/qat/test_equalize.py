import pytest
import torch

from edgedf.distill.networks.layers import Conv
from edgedf.distill.networks.student import Student
from edgedf.distill.qat.equalize import equalized
from edgedf.distill.settings import StudentConfig


def sizes(conv: Conv) -> torch.Tensor:
    return (conv.weight * conv.gain.reshape(-1, 1, 1, 1)).abs().sum(dim=(1, 2, 3)).detach()


def student(blocks: int, *, rounds: bool = False) -> Student:
    torch.manual_seed(blocks)
    made = Student(StudentConfig(64, blocks, 2, 8, 1, int8_weights=rounds)).eval()
    torch.nn.init.normal_(made.fake.weight, std=0.05)
    with torch.no_grad():
        for name, buffer in made.named_buffers():
            if name.endswith("gain"):
                buffer.uniform_(0.5, 2)
        made.encoder.stages[1][0].project.weight[3] *= 50
        made.encoder.stages[1][1].project.bias[5] += 2
    return made


@pytest.mark.parametrize("blocks", [11, 13, 16])
def test_the_equalized_student_says_the_same(blocks: int) -> None:
    made = student(blocks)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    other = equalized(made)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    image = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        wanted, found = made(image), other(image)
    torch.testing.assert_close(found.fake_logit, wanted.fake_logit, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.defocus_map, wanted.defocus_map, rtol=0, atol=1e-3)


def test_a_channel_that_sticks_out_is_made_smaller() -> None:
    def spread(of: Student) -> float:
        size = torch.stack([sizes(block.project) for block in of.encoder.stages[1]]).amax(0)
        return (size.max() / size.median()).item()

    made = student(11)
    assert spread(made) > 10
    assert spread(equalized(made)) < 0.3 * spread(made)
    twice = equalized(equalized(made))
    for name, value in equalized(made).state_dict().items():
        torch.testing.assert_close(twice.state_dict()[name], value, rtol=1e-3, atol=1e-6, msg=name)


def test_a_channel_that_nobody_reads_shrinks_away() -> None:
    made = student(11)
    with torch.no_grad():
        made.encoder.stages[0][0].project.weight[2] *= 100
        made.encoder.stages[1][0].expand.weight[:, 2] = 0
    weight = equalized(made).encoder.stages[0][0].project.weight.abs().sum(dim=(1, 2, 3))
    assert weight[2] == weight.min()
