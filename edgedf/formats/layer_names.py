"""What to call the layers of a model: short, the same everywhere, and to be found in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["WEIGHTS", "names_of_layers", "numbered", "short_name"]

WEIGHTS = ".weight"
"""How the names of weights end in an ``.onnx`` of ours; in front of it is a module's name."""

# What every student is wrapped into for export.
_WRAPPERS = ("ByteInput", "Deployable_network")


def short_name(name: str) -> str:
    """The innermost modules of a name that litert-torch gave.

    Such names are paths of ``module.Class_attribute``; an operator that was fused from several has
    several, with semicolons between them.

    Args:
        name: Of a tensor.
    """
    first, _, _ = name.partition(";;")
    parts = [part.rpartition(".")[2] for part in first.rstrip(";").split("/")]
    inner = [part for part in parts if part not in _WRAPPERS]
    return "/".join(inner[-2:] or parts[-1:])


def names_of_layers(tensors: Sequence[str], weights: Sequence[str | None]) -> list[str]:
    """What to call layers: after their weights, which have a module's name; tensors have a number.

    Args:
        tensors: What each layer makes.
        weights: Name of its weights; None where it has none.
    """
    outer = {name.partition(".")[0] for name in weights if name and "." in name}
    # What every student is wrapped into for export.
    shared = f"{outer.pop()}." if len(outer) == 1 else ""
    names = []
    for tensor, name in zip(tensors, weights):
        if name is None:
            names.append(tensor)
            continue
        module = name[: -len(WEIGHTS)] if name.endswith(WEIGHTS) else name
        names.append(module[len(shared) :] if module.startswith(shared) else module)
    return names


def numbered(names: Sequence[str]) -> tuple[str, ...]:
    """Names made unique.

    Args:
        names: Of layers, in the float model's order of execution.

    Returns:
        Those that occur once as they are, the others with their place among the same.

    Example:
        >>> numbered(["expand", "project", "expand"])
        ('expand@1', 'project', 'expand@2')
    """
    counts, met = Counter(names), Counter[str]()
    found = []
    for name in names:
        met[name] += 1
        found.append(f"{name}@{met[name]}" if counts[name] > 1 else name)
    return tuple(found)
