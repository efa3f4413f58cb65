"""Layers that are kept out of int8: which ones, by name, and what follows from that.

A pattern is a glob (``*``, ``?``, ``[abc]``), case-sensitive, of the names that ``edgedf verify
--layers`` prints. It is held against the whole name and against what follows each ``.`` and ``/``
in it, so that ``decoder.*`` finds ``student.decoder.reduce4``. A pattern that is a layer's name to
the letter means that layer alone. Where several patterns match a layer, the last one counts.

To keep a layer is to keep its weights and the tensor that it makes. Both are its error, and a
tensor that is rounded for the next operator would be lost all the same. So those that take the
tensor, the *followers*, compute in the same precision; what they make is int8 again.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from edgedf.errors import ConfigError
from edgedf.formats import ModelFormat, ModelGraph
from edgedf.formats.layers import KeptLayers, NamedLayer
from edgedf.precision import PrecisionName
from edgedf.quantize.making.keep import Keep, parse_keep
from edgedf.spec import LayerOverride

__all__ = [
    "choose_layers",
    "kept_layers",
    "matches",
]

_NAMES_SHOWN = 5


def kept_layers(
    graph: ModelGraph, keep: Sequence[str | Keep], precision: PrecisionName
) -> KeptLayers:
    """Find the layers of a float model that are to be kept.

    Args:
        graph: The float model.
        keep: What is asked for.
        precision: Of the rest of the model.

    Raises:
        ConfigError: A pattern matches nothing, or is not one; or nothing would be left to quantize.
        MissingExtra: What reads the graph is not installed.
    """
    wanted = parse_keep(keep, precision)
    if not wanted:
        return KeptLayers()
    return choose_layers(graph.named_layers(), wanted, graph.format.name)


def choose_layers(
    layers: Sequence[NamedLayer], keep: Sequence[Keep], model_format: ModelFormat
) -> KeptLayers:
    """Find what patterns match, and what has to follow.

    Args:
        layers: Of a float model.
        keep: What is asked for.
        model_format: For what is said when nothing matches.

    Raises:
        ConfigError: A pattern matches nothing, or nothing would be left to quantize.
    """
    chosen: dict[str, int] = {}  # layer → which of the patterns
    for index, entry in enumerate(keep):
        found = [layer.name for layer in layers if layer.name == entry.pattern] or [
            layer.name for layer in layers if matches(entry.pattern, layer.name)
        ]
        if not found:
            raise _matches_nothing(entry, [layer.name for layer in layers], model_format)
        chosen |= dict.fromkeys(found, index)
    maker = {tensor: layer.name for layer in layers for tensor in layer.tensors}
    following: dict[str, int] = {}
    for layer in layers:
        above = [chosen[maker[t]] for t in layer.inputs if maker.get(t) in chosen]
        if layer.name not in chosen and above:
            # What is float in part is float; 16 bits can be had of either.
            following[layer.name] = max(above, key=lambda i: (keep[i].precision == "fp32", i))
    precisions = {name: keep[i].precision for name, i in {**chosen, **following}.items()}
    if all(precisions.get(layer.name) == "fp32" for layer in layers):
        raise ConfigError(
            "Nothing would be left to quantize: --keep names all layers, or all but those that "
            "take what these make.",
            expected="patterns that leave layers over",
            next_step="--precision fp32 keeps everything",
        )
    return KeptLayers(
        tuple(
            LayerOverride(
                entry.precision,
                entry.pattern,
                tuple(la.name for la in layers if chosen.get(la.name) == index),
                tuple(la.name for la in layers if following.get(la.name) == index),
            )
            for index, entry in enumerate(keep)
        ),
        {t: precisions[la.name] for la in layers if la.name in chosen for t in la.tensors},
        {t: precisions[la.name] for la in layers if la.name in following for t in la.tensors},
        {
            kept: tuple(layer for layer in layers if precisions.get(layer.name) == kept)
            for kept in dict.fromkeys(precisions.values())
        },
    )


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern matches a layer's name, or what follows a ``.`` or ``/`` in it.

    Example:
        >>> matches("decoder.*", "student.decoder.reduce4"), matches("decoder", "student.decoder.a")
        (True, False)
    """
    ends = (name[at + 1 :] for at, letter in enumerate(name) if letter in "./")
    return any(fnmatchcase(part, pattern) for part in (name, *ends))


def _matches_nothing(entry: Keep, names: Sequence[str], model_format: ModelFormat) -> ConfigError:
    bare = entry.pattern.strip("*?")
    nearest = difflib.get_close_matches(bare, names, _NAMES_SHOWN, 0.4) or names[:_NAMES_SHOWN]
    return ConfigError(
        f"--keep {entry.precision}:{entry.pattern!r} matches none of the {len(names)} layers of "
        f"the .{model_format} model.",
        expected=f"a glob of layer names, such as {', '.join(nearest)}",
        next_step="edgedf verify ARTIFACT --layers prints the names; they differ between .tflite "
        "and .onnx, so choose one with --to",
    )
