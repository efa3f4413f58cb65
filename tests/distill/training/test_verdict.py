import dataclasses
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch

from edgedf.distill.datasets.dataset import read_manifest
from edgedf.distill.evaluation.predictions import predict
from edgedf.distill.networks.backbones import load_imagenet_weights
from edgedf.distill.networks.deployable import Deployable
from edgedf.distill.networks.student import Student
from edgedf.distill.records.making import TargetSettings
from edgedf.distill.records.plan import evaluation_plan
from edgedf.distill.records.targets import Records, compute
from edgedf.distill.settings import StudentConfig
from edgedf.distill.training.verdict import fit_verdict
from tests.distill.pictures import write_dataset

CONFIG = StudentConfig(input_size=64, blocks=11, judged_blocks=2, decoder_channels=8)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    folder = write_dataset(tmp_path_factory.mktemp("data"), groups=4)
    samples = read_manifest(folder).select(split="train")
    return compute(evaluation_plan(samples), folder / "cache", TargetSettings(size=64))


def fit(records: Records, config: StudentConfig, penalty: float, views: int = 1) -> Student:
    torch.manual_seed(0)
    student = Student(config)
    load_imagenet_weights(student.encoder)
    fit_verdict(student, records, records, penalty=penalty, views=views, seed=0)
    return student


@pytest.fixture(scope="module")
def fitted(records: Records) -> Callable[[float], Student]:
    """The student fitted with that penalty; do not change it."""
    return cache(lambda penalty: fit(records, CONFIG, penalty))


def test_the_head_separates_what_it_was_fitted_to(
    records: Records, fitted: Callable[[float], Student]
) -> None:
    logits = predict(fitted(0.01), records.images).logits
    known = ~np.isnan(records.labels)
    right = (logits[known] > 0) == (records.labels[known] == 1)
    assert right.mean() > 0.95


def test_a_penalty_makes_it_less_sure_of_them(
    records: Records, fitted: Callable[[float], Student]
) -> None:
    known = ~np.isnan(records.labels)

    def margin(penalty: float) -> float:
        logits = predict(fitted(penalty), records.images).logits[known]
        sides = 2 * records.labels[known] - 1
        return float((logits * sides).mean() / logits.std())

    assert margin(0.01) > margin(30.0)


def test_the_fit_follows_from_seed_and_views(
    records: Records, fitted: Callable[[float], Student]
) -> None:
    first, again = (fit(records, CONFIG, 1.0, views=2) for _ in range(2))
    assert torch.equal(first.fake.weight, again.fake.weight)
    assert not torch.equal(first.fake.weight, fitted(1.0).fake.weight)


def test_what_is_exported_gives_the_same_logit(
    records: Records, fitted: Callable[[float], Student]
) -> None:
    student = fitted(1.0)
    pixels = torch.from_numpy(records.images[:4]).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        wanted, (found, _) = student.eval()(pixels).fake_logit, Deployable(student)(pixels)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_the_verdict_lies_on_the_grid_of_int8_where_the_student_rounds(
    records: Records, fitted: Callable[[float], Student]
) -> None:
    """Rounding the exported convolutions to int8 changes nothing."""
    student = Deployable(fitted(1.0))
    for conv in (*student.by_mean, *student.by_spread):
        steps = conv.weight.detach().flatten() / (conv.weight.detach().abs().max() / 127)
        assert steps.abs().max() > 1
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=2e-3)
    free = fit(records, dataclasses.replace(CONFIG, int8_weights=False), 1.0)
    weight = Deployable(free).by_mean[0].weight.detach().flatten()
    steps = weight / (weight.abs().max() / 127)
    assert (steps - steps.round()).abs().max() > 0.1
