"""Small students and teachers that were never trained, and what they are shown."""

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from edgedf.distill.networks.backbones import load_imagenet_weights
from edgedf.distill.networks.probe import Calibration, Probe
from edgedf.distill.networks.student import Student
from edgedf.distill.networks.teacher import Teacher
from edgedf.distill.settings import MODALITIES, StudentConfig, TeacherConfig
from tests.distill.pictures import crop

TINY = StudentConfig(input_size=32, blocks=11, judged_blocks=1, decoder_channels=8)
CONFIG = TeacherConfig(first_block=9, last_block=10, map_channels=0)
DENSE = replace(CONFIG, map_channels=8, map_blocks=1)
# Mean and deviation of 672 channels in each of two blocks.
FEATURES = 2 * 2 * 672


def picture(height: int = 64, width: int | None = None, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    shape = (1, 3, height, width or height)
    return torch.from_numpy(rng.integers(0, 256, shape).astype(np.float32))


def with_a_head(config: StudentConfig, seed: int = 0) -> Student:
    """ImageNet's encoder; a head, thresholds and a map layer with random values of usual size."""
    return copy.deepcopy(_with_a_head(config, seed))


@cache
def _with_a_head(config: StudentConfig, seed: int) -> Student:
    torch.manual_seed(seed)
    student = Student(config).eval()
    load_imagenet_weights(student.encoder)
    torch.nn.init.normal_(student.blur.weight, std=0.1)
    torch.nn.init.normal_(student.fake.weight, std=0.1)
    torch.nn.init.normal_(student.fake.bias)
    channels = student.centre.numel() // 2
    student.set_thresholds(torch.rand(channels), 2 * torch.rand(channels))
    student.centre.copy_(torch.rand(2 * channels))
    student.deviation.copy_(0.2 + torch.rand(2 * channels))
    return student


def photographs(count: int = 2, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    pictures = np.stack([crop(rng) for _ in range(count)]).astype(np.float32)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def maps(count: int = 2, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(0, 5, (count, 1, 24, 24)).astype(np.float32))


def probe(seed: int) -> Probe:
    rng = np.random.default_rng(seed)
    centre, deviation, weight = rng.uniform(0.1, 1.0, (3, FEATURES)).astype(np.float32)
    return Probe(centre, deviation, weight * np.float32(0.01), float(rng.normal()))


def trained(config: TeacherConfig = CONFIG) -> Teacher:
    """A teacher whose branches judge by random probes, and whose head gives random maps."""
    return copy.deepcopy(_trained(config))


@cache
def _trained(config: TeacherConfig) -> Teacher:
    torch.manual_seed(0)
    teacher = Teacher(config).eval()
    teacher.load_imagenet()
    if teacher.map_head is not None:
        # The last layer starts close to the same answer everywhere.
        torch.nn.init.normal_(teacher.map_head.blur.weight, std=0.2)
    for branch in teacher.each():
        seed = MODALITIES.index(branch.modality)
        branch.take(probe(seed), Calibration(0.5 + seed, seed - 1.0))
    teacher.take(Calibration(0.7, 0.2))
    return teacher
