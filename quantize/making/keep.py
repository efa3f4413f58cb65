"""What is asked to be kept out of a precision; which layers that are: ``kept_layers``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from edgedf.errors import ConfigError
from edgedf.precision import CALIBRATED, KEPT_PRECISIONS, KeptPrecision, PrecisionName

__all__ = ["Keep", "parse_keep"]

_HOW = "PRECISION:PATTERN, such as fp32:'decoder.*'"


@dataclass(frozen=True)
class Keep:
    """What is asked for.

    Args:
        precision: ``fp32``, or ``int8-a16`` for 16-bit activations.
        pattern: Of the names of layers, as the head of this module says.
    """

    precision: KeptPrecision
    pattern: str

    @classmethod
    def parse(cls, text: str) -> Keep:
        """From ``PRECISION:PATTERN``.

        Raises:
            ConfigError: It is not of that form, or the precision is none of those.

        Example:
            >>> Keep.parse("fp32:decoder.*")
            Keep(precision='fp32', pattern='decoder.*')
        """
        precision, colon, pattern = text.partition(":")
        if not colon or not pattern:
            raise ConfigError(
                f"--keep {text!r} does not say which layers to keep in which precision.",
                expected=_HOW,
                next_step="edgedf verify ARTIFACT --layers prints the names of layers",
            )
        if precision not in KEPT_PRECISIONS:
            nearest = difflib.get_close_matches(precision, KEPT_PRECISIONS, 1)
            raise ConfigError(
                f"Layers cannot be kept in {precision!r}.",
                expected=f"one of {', '.join(KEPT_PRECISIONS)}",
                next_step=f"--keep {(nearest or KEPT_PRECISIONS)[0]}:{pattern!r}",
            )
        return cls(precision, pattern)


def parse_keep(keep: Sequence[str | Keep], precision: PrecisionName) -> tuple[Keep, ...]:
    """Read what is to be kept out of a precision.

    Args:
        keep: In words or parsed.
        precision: Of the rest of the model.

    Raises:
        ConfigError: One cannot be read; or the precision leaves nothing to be kept out of.
    """
    entries = [keep] if isinstance(keep, str) else keep
    parsed = tuple(Keep.parse(entry) if isinstance(entry, str) else entry for entry in entries)
    if parsed and precision not in CALIBRATED:
        raise ConfigError(
            f"Nothing can be kept out of {precision}: its activations are not quantized by ranges.",
            expected="--keep beside --precision int8 or int8-a16",
            next_step="leave --keep out, or convert to int8",
        )
    for entry in parsed:
        if entry.precision == precision:
            raise ConfigError(
                f"--keep {entry.precision}:{entry.pattern!r} changes nothing: all layers are "
                f"{precision}.",
                expected="another precision than that of the model",
                next_step=f"--keep fp32:{entry.pattern!r}, or --precision int8",
            )
    return parsed
