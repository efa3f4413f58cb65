"""Splits that depend on names alone, and that never part what belongs together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from edgedf.distill.datasets.dataset import Split

__all__ = ["RATIO", "TRAIN_AND_VAL", "assign", "components", "hash_order"]

RATIO: Mapping[Split, int] = MappingProxyType({"train": 7, "val": 1, "test": 2})
"""Shares of the splits where a data set brings none."""

TRAIN_AND_VAL: Mapping[Split, int] = MappingProxyType({"train": 7, "val": 1})
"""Where a data set brings its own test split."""


def assign(groups: Mapping[str, int], ratio: Mapping[Split, int] = RATIO) -> dict[str, Split]:
    """Give each group a split, so that pictures are shared out in a ratio.

    Groups line up by the SHA-256 of their names, and the line is cut where the shares end. So the
    shares are as exact as whole groups allow, every machine gives the same splits, and a few new
    groups move only the few that stand next to a cut. With at least as many groups as splits, none
    of the splits is empty.

    Args:
        groups: Name of each group and how many pictures it has (at least 1).
        ratio: Share of each split.

    Returns:
        Split of each group.
    """
    line = sorted(groups, key=hash_order)
    total, parts = sum(groups.values()), sum(ratio.values())
    middles, before = [], 0
    for name in line:
        middles.append(before + groups[name] / 2)
        before += groups[name]
    split_of: dict[str, Split] = {}
    start, share = 0, 0
    for number, (split, part) in enumerate(ratio.items(), 1):
        share += part
        end = sum(middle < total * share / parts for middle in middles)
        if len(line) >= len(ratio):  # one group at least for this split and each that follows
            end = min(max(end, start + 1), len(line) - (len(ratio) - number))
        if number == len(ratio):
            end = len(line)
        split_of.update((name, split) for name in line[start:end])
        start = max(start, end)
    return split_of


def components(links: Iterable[Iterable[str]]) -> dict[str, str]:
    """Connected components: which names belong together if those linked do.

    Args:
        links: Names that belong together, such as the two people of a face swap; one name alone is
            a component unless another link holds it.

    Returns:
        For each name the smallest name of its component.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for link in links:
        first = ""
        for name in link:
            parent.setdefault(name, name)
            # The smaller name stays on top, so that it is the one that names the component.
            low, high = sorted((root(name), root(first or name)))
            parent[high] = low
            first = name
    return {name: root(name) for name in parent}


def hash_order(name: str) -> bytes:
    """Sort key that is random with respect to the name, and the same on every machine."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
