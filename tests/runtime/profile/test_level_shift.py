import numpy as np

from edgedf.runtime.profile.level_shift import level_shift


def test_too_few_blocks_for_a_level_are_not_judged_by_it() -> None:
    assert level_shift(np.array([1.0, 1.0, 2.0])) is None
    assert level_shift(np.ones(100)) is None
    assert level_shift(np.zeros(100)) is None


def test_a_stretch_of_another_level_is_found_where_it_is() -> None:
    levels = 20 * np.exp(np.random.default_rng(3).normal(0, 0.02, 64))
    levels[20:40] *= 1.5
    shift = level_shift(levels)
    assert shift is not None
    assert abs(shift.start - 20) <= 2 and abs(shift.stop - 40) <= 2
    assert 1.4 < shift.ratio < 1.6


def test_one_slow_block_is_no_level() -> None:
    levels = 20 * np.exp(np.random.default_rng(3).normal(0, 0.02, 64))
    levels[30] *= 100
    assert level_shift(levels) is None
