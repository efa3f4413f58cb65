from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from edgedf.distill.datasets.splits import RATIO, TRAIN_AND_VAL, assign, components

NAMES = st.text("abcdefgh", min_size=1, max_size=2)
LINKS = st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=20)
GROUPS = st.dictionaries(st.text(max_size=6), st.integers(1, 50), min_size=1, max_size=60)


@given(LINKS)
def test_linked_names_are_never_parted(links: list[list[str]]) -> None:
    found = components(links)
    assert set(found) == {name for link in links for name in link}
    for link in links:
        assert len({found[name] for name in link}) == 1
    for name, smallest in found.items():
        assert smallest == min(other for other in found if found[other] == found[name])


@given(LINKS)
def test_names_without_a_chain_of_links_stay_apart(links: list[list[str]]) -> None:
    reached = {name: {name} for link in links for name in link}
    for _ in reached:
        for link in links:
            together = set().union(*(reached[name] for name in link))
            for name in together:
                reached[name] = reached[name] | together
    found = components(links)
    assert {n: {o for o in found if found[o] == found[n]} for n in found} == reached


@given(GROUPS)
def test_every_group_has_one_split_and_no_split_is_empty(groups: dict[str, int]) -> None:
    found = assign(groups)
    assert set(found) == set(groups)
    assert set(found.values()) <= set(RATIO)
    if len(groups) >= 3:
        assert set(found.values()) == set(RATIO)
    assert found == assign(dict(reversed(groups.items())))


@given(GROUPS)
def test_a_split_with_its_own_test_gets_train_and_val_alone(groups: dict[str, int]) -> None:
    assert set(assign(groups, TRAIN_AND_VAL).values()) <= {"train", "val"}


def test_many_groups_are_split_7_1_2() -> None:
    found = Counter(assign({f"picture {number}": 1 for number in range(1000)}).values())
    assert found == {"train": 700, "val": 100, "test": 200}


def test_new_groups_move_few_of_the_others() -> None:
    before = assign({f"picture {number}": 1 for number in range(1000)})
    after = assign({f"picture {number}": 1 for number in range(1050)})
    moved = [name for name in before if before[name] != after[name]]
    assert len(moved) < 50
