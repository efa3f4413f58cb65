"""Axes: from values to coordinates, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Scale"]

_LIMIT = 1e12  # a document may hold anything finite; coordinates have to be finite, too


@dataclass(frozen=True)
class Scale:
    """From values to coordinates.

    Args:
        low: Value at ``start``.
        high: Value at ``end``, above ``low``.
        start: A coordinate.
        end: Another one, above or below it.
        logarithmic: Whether equal ratios are equally far apart; both values are positive then.
        most: Ticks, about.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False
    most: int = 6

    @classmethod
    def over(
        cls,
        values: Iterable[float],
        start: float,
        end: float,
        *,
        zero: bool = False,
        spread: bool = False,
        margin: float = 0.0,
        most: int = 6,
    ) -> Scale:
        """A scale that has room for some values, however alike they are.

        Args:
            values: Any finite numbers; none at all give a scale from 0 to 1.
            start: Where the lowest goes.
            end: Where the highest goes.
            zero: Begin at zero.
            spread: Take logarithms where the highest is more than 12 times the lowest.
            margin: Room at both ends, as a share of the whole; not below zero with ``zero``.
            most: Ticks, about.
        """
        known = [min(max(value, -_LIMIT), _LIMIT) for value in values] or [0.0, 1.0]
        low, high = min(known), max(known)
        if spread and low > 1 / _LIMIT and high / low > 12:
            room = (high / low) ** margin
            return cls(low / room, high * room, start, end, logarithmic=True, most=most)
        if zero:
            low = min(low, 0.0)
        width = high - low
        # Equal values still get an axis: one of a twentieth of their size.
        if width <= 1e-9 * max(abs(low), abs(high)) or width < 1e-12:
            room = abs(high) / 20 or 1.0
            width = room * 2
            low, high = (low, high + room) if zero and low == 0 else (low - room, high + room)
        else:
            room = width * margin
            low, high = (low if zero else low - room), high + room
        return cls(low, high, start, end, most=most)

    def __call__(self, value: float) -> float:
        """The coordinate of a value; one that is outside goes to the nearer end."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round values on the scale, in ascending order."""
        if self.logarithmic:
            return self._logarithmic_ticks()
        rough = (self.high - self.low) / self.most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * unit for unit in (1, 2, 5, 10) if power * unit >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return tuple(index * step for index in range(first, last + 1))

    def _logarithmic_ticks(self) -> tuple[float, ...]:
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decades = high - low
        units = (1, 2, 5) if decades <= 2 else (1, 3) if decades <= 4 else (1,)
        every = max(1, decades // 7)
        return tuple(
            value
            for power in range(low, high + 1, every)
            for unit in units
            if self.low <= (value := unit * 10.0**power) <= self.high
        )
