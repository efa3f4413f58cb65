import numpy as np
import pytest

from edgedf.distill.datasets import leakage as module
from edgedf.distill.datasets.leakage import FEATURES, Metadata, leakage

COARSE, FINE = ((16,) * 64,), ((4,) * 64,)


def pictures(leak: str, count: int = 120, seed: int = 0) -> tuple[list[Metadata], list[bool]]:
    """Metadata that vary at random, and with the label where one is named."""
    rng = np.random.default_rng(seed)
    fakes = [bool(number % 2) for number in range(count)]
    metadata = []
    for fake in fakes:
        width, height = rng.integers(300, 600, 2).tolist()
        size = int(rng.integers(20_000, 60_000))
        kind, tables = "jpeg", COARSE if rng.random() < 0.5 else FINE
        if leak == "width":  # in the middle: no single cut tells
            width = int(rng.integers(400, 450)) if fake else width + 200 * (width > 400)
        elif leak == "format":
            kind, tables = ("png", ()) if fake else ("jpeg", tables)
        elif leak == "quantisation tables":
            tables = COARSE if fake else FINE
        elif leak == "bytes":
            size += 30_000 * fake
        metadata.append(Metadata(width, height, size, kind, tables))
    return metadata, fakes


def apart(count: int) -> list[str]:
    return [f"group {number}" for number in range(count)]


@pytest.mark.parametrize("leak", ["width", "format", "quantisation tables", "bytes"])
def test_what_leaks_is_found_and_named(leak: str) -> None:
    found = leakage(*pictures(leak), apart(120))
    assert found is not None
    assert found.auc.value > 0.85
    assert found.auc.low > 0.6
    assert found.features[0].name == leak or {leak, found.features[0].name} <= {
        "format", "quantisation tables",
    }  # fmt: skip
    assert {feature.name for feature in found.features} == set(FEATURES)
    assert found == leakage(*pictures(leak), apart(120))


def test_random_metadata_tell_nothing() -> None:
    values = [leakage(*pictures("", seed=seed), apart(120)) for seed in range(4)]
    assert 0.4 < np.mean([found.auc.value for found in values if found is not None]) < 0.6


def test_equal_metadata_give_exactly_one_half() -> None:
    found = leakage([Metadata(256, 256, 9000, "jpeg", FINE)] * 60, [True, False] * 30, apart(60))
    assert found is not None
    assert found.auc.value == 0.5
    assert {feature.auc for feature in found.features} == {0.5}


def test_a_group_is_never_learned_by_heart() -> None:
    """Sizes that belong to groups and not to classes tell nothing of another group."""
    rng = np.random.default_rng(0)
    sizes = rng.permutation(np.arange(300, 340))
    metadata = [Metadata(int(size), 400, 9000, "png") for size in sizes for _ in range(10)]
    fakes = [bool(number % 2) for number in range(40) for _ in range(10)]
    together = [f"group {number}" for number in range(40) for _ in range(10)]
    by_heart, held_out = leakage(metadata, fakes, apart(400)), leakage(metadata, fakes, together)
    assert by_heart is not None and held_out is not None
    assert by_heart.auc.value > 0.9
    assert held_out.auc.value < 0.7


def test_too_few_pictures_or_groups_give_no_figure() -> None:
    metadata, fakes = pictures("bytes", 38)
    assert leakage(metadata, fakes, apart(38)) is None
    metadata, fakes = pictures("bytes", 60)
    assert leakage(metadata, fakes, ["real" if not fake else "fake" for fake in fakes]) is None


def test_of_very_many_pictures_a_part_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PICTURES", 80)
    found = leakage(*pictures("bytes"), apart(120))
    assert found is not None
    assert found.auc.n == 80
