"""How a runtime multiplies int8 on a processor, and what an app has to tell it.

Our int8 ``.onnx`` files multiply uint8 activations by int8 weights. On x86-64 processors without
VNNI (most before 2020), ONNX Runtime does that with ``vpmaddubsw``, which adds two products with
saturation to 16 bits: 255 * 127 twice is 64770 and becomes 32767. Verdicts change without a word.
The session option :data:`EXACT_INT8` makes it exact; ONNX Runtime offers it because of issues 6004,
14642 and 5849 of its tracker. Arm processors, TFLite and onnxruntime-web do not saturate.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

__all__ = ["EXACT_INT8", "Int8Kernels", "kernels_in_words", "session_option_lines"]

Int8Kernels = Literal["exact", "widened", "saturating"]
"""``exact``: nothing saturates. ``widened``: it would, but :data:`EXACT_INT8` is set, at about 1.3
times the time. ``saturating``: it does, whatever is set; results are wrong."""

EXACT_INT8: Mapping[str, str] = MappingProxyType({"session.x64quantprecision": "1"})
"""Session configuration of ONNX Runtime for x86-64 processors without VNNI."""

_LINES = {
    "Python": 'options.add_session_config_entry("{name}", "{value}")',
    "C++": 'options.AddConfigEntry("{name}", "{value}");',
    "Java, Kotlin": 'options.addConfigEntry("{name}", "{value}")',
    "C#": 'options.AddSessionConfigEntry("{name}", "{value}");',
    "JavaScript": "InferenceSession.create(model, {{extra: {{{group}: {{{key}: '{value}'}}}}}})",
}


def session_option_lines(options: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The lines that set session options where an app opens a session of its own.

    Args:
        options: Value by name, such as ``spec.session_options``.

    Returns:
        By language, a line an option. ``options`` in them is the ``SessionOptions`` object.

    Example:
        >>> session_option_lines(EXACT_INT8)["C++"]
        ('options.AddConfigEntry("session.x64quantprecision", "1");',)
    """
    lines = {}
    for language, line in _LINES.items():
        entries = []
        for name, value in options.items():
            group, _, key = name.partition(".")
            entries.append(line.format(name=name, value=value, group=group, key=key))
        lines[language] = tuple(entries)
    return lines


def kernels_in_words(kernels: Int8Kernels) -> str:
    """Say in words how a runtime multiplies int8 here.

    Example:
        >>> kernels_in_words("exact")
        'int8 is exact on this processor'
    """
    option = ", ".join(f"{name} = {value}" for name, value in EXACT_INT8.items())
    return {
        "exact": "int8 is exact on this processor",
        "widened": f"int8 is exact by {option}, which this processor needs (no VNNI)",
        "saturating": "int8 saturates on this processor, results are wrong",
    }[kernels]
