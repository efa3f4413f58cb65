"""What a comparison of two files found, in words: for the terminal and for pull requests alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from edgedf.quantize.accuracy.wording import MARKS, lines, remarks
from edgedf.quantize.accuracy.wording import headline as headline_of_gate
from edgedf.quantize.diff.difference import Difference, LayerChange, Ratio, RatioName, Side

__all__ = ["Section", "headline", "markdown", "sections"]

_RATIOS: dict[RatioName, str] = {"size_ratio": "size, B / A", "latency_ratio": "latency, B / A"}
_LISTED = 4  # names of layers in one line
_SHORT_HASH = 12


class Section(NamedTuple):
    """A table with what has to be said below it.

    Args:
        title: Empty for the first.
        headings: Of its columns.
        rows: Its cells, as many as there are headings.
        remarks: Sentences.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...] = ()


def headline(difference: Difference) -> str:
    """The verdict in a sentence."""
    if difference.identical:
        same = "A and B are byte-identical"
        failed = _named(difference, "fail")
        return f"{same}, which is over the limit: {failed}." if failed else f"{same}."
    verification = difference.verification
    if difference.verdict == "pass":
        if verification is None and all(ratio.limit is None for ratio in difference.ratios):
            return "Nothing was held against a limit."
        return "B stays within every limit."
    if difference.verdict == "fail":
        return f"B is over the limits: {_named(difference, 'fail')}."
    unclear = _named(difference, "cannot tell")
    if verification is None or verification.verdict != "cannot tell":
        return f"Cannot tell of {unclear}: the interval includes the limit. Try more --rounds."
    return headline_of_gate(verification)


def sections(difference: Difference) -> tuple[Section, ...]:
    """Everything that was found; parts without a difference are left out."""
    found = [_files(difference)]
    if difference.identical:
        return tuple(found)
    found.append(_spec(difference))
    found.append(_operators(difference))
    found.append(_layers(difference))
    if difference.latency is not None:
        found.append(_latency(difference))
    found.append(_figures(difference))
    return tuple(section for section in found if section.rows or section.remarks)


def markdown(difference: Difference) -> str:
    """The same as Markdown, to paste into a pull request."""
    parts = [f"**{MARKS[difference.verdict]} {_escaped(headline(difference))}**"]
    for section in sections(difference):
        if section.title:
            parts.append(f"#### {section.title}")
        if section.rows:
            rule = ("---",) * len(section.headings)
            table = (section.headings, rule, *section.rows)
            parts.append(
                "\n".join(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in table)
            )
        parts.extend(_escaped(remark) for remark in section.remarks)
    return "\n\n".join(parts)


def _files(difference: Difference) -> Section:
    first, second = difference.first, difference.second
    rows = [
        ("file", first.path, second.path),
        ("model", first.model_id, second.model_id),
        ("format", first.format, second.format),
        ("size", *(f"{side.bytes / 1e6:.3f} MB" for side in (first, second))),
        ("sha256", *(f"{side.sha256[:_SHORT_HASH]}…" for side in (first, second))),
    ]
    if first.pieces is not None or second.pieces is not None:
        rows.append(("XNNPACK pieces", _pieces(first), _pieces(second)))
    return Section("", ("", "A", "B"), tuple(rows))


def _pieces(side: Side) -> str:
    if side.pieces is None or side.undelegated is None:
        return "-"
    return f"{side.pieces}, {side.undelegated} operator{_s(side.undelegated)} outside"


def _spec(difference: Difference) -> Section:
    rows = []
    for change in difference.spec:
        if change.note:
            rows.append((change.field, change.first, f"{change.second}: {change.note}"))
        else:
            rows.append((change.field, change.first, change.second))
    remarks_ = () if rows else ("The specs are equal.",)
    return Section("Spec", ("field", "A", "B"), tuple(rows), remarks_)


def _operators(difference: Difference) -> Section:
    rows = tuple(
        (count.name, str(count.first), str(count.second), f"{count.second - count.first:+d}")
        for count in difference.operators
    )
    said = () if rows else ("Both have the same operators.",)
    return Section("Operators", ("operator", "A", "B", "change"), rows, said)


def _layers(difference: Difference) -> Section:
    sides = difference.first.layers, difference.second.layers
    rows = tuple(
        (name, *(str(side.get(name, 0)) for side in sides))
        for name in dict.fromkeys((*sides[0], *sides[1]))
    )
    said = tuple(_layer_changes(difference))
    return Section("Layers by what they compute in", ("precision", "A", "B"), rows, said)


def _layer_changes(difference: Difference) -> Iterator[str]:
    if not difference.same_format:
        yield "The formats differ, so layers are counted and not matched."
        return

    def turn(change: LayerChange) -> tuple[str, str]:
        return change.first or "", change.second or ""

    groups: dict[tuple[str, str], list[LayerChange]] = {}
    for change in difference.layers:
        groups.setdefault(turn(change), []).append(change)
    changed = sum(1 for change in difference.layers if change.first and change.second)
    yield f"{changed} of {difference.matched} layers that both have compute in something else."
    for (first, second), group in sorted(groups.items(), key=lambda item: -len(item[1])):
        what = f"{first} → {second}" if first and second else f"only in {'A' if first else 'B'}"
        names = [f"{change.operator} {change.name}" for change in group[:_LISTED]]
        more = "" if len(group) <= _LISTED else f" and {len(group) - _LISTED} more"
        yield f"{what}: {len(group)} layer{_s(len(group))} ({', '.join(names)}{more})"


def _latency(difference: Difference) -> Section:
    found = difference.latency
    if found is None:
        return Section("Latency", (), ())
    sides = (
        ("A", found.first_runtime, found.measured.first),
        ("B", found.second_runtime, found.measured.second),
    )
    rows = tuple(
        (name, runtime, *(f"{ms:.2f} ms" for ms in (s.median_ms, s.p90_ms, s.minimum_ms)))
        for name, runtime, s in sides
    )
    host = found.host
    load = "" if host.load_average is None else f", load {host.load_average:g}"
    cores = "" if host.cores is None else f", {host.cores} core{_s(host.cores)}"
    said = (
        f"{found.measured.rounds} turns each (A B A B …), {found.threads} thread{_s(found.threads)}"
        f"; {host.cpu}{cores}{load}, {host.system}, Python {host.python}.",
        *((found.remark,) if found.remark else ()),
    )
    return Section("Latency", ("", "runtime", "median", "p90", "minimum"), rows, said)


def _figures(difference: Difference) -> Section:
    headings = ("", "A", "B", "measured", "95 % interval", "limit", "bound")
    rows = [_ratio(ratio, difference) for ratio in difference.ratios]
    said: list[str] = []
    verification = difference.verification
    if verification is not None:
        gate = lines(verification)
        rows.extend(
            (
                f"{line.mark} {line.title}",
                *(line.parent, line.artifact, line.measured, line.interval),
                *(line.limit, line.bound),
            )
            for line in gate
        )
        seen = verification.measurements
        counts = ""
        if verification.real or verification.fake:
            counts = f" ({verification.real} real, {verification.fake} fake)"
        said.append(
            f"On {seen.pictures:,} picture{_s(seen.pictures)}{counts} of {verification.data}, "
            f"split {verification.split}; A is taken for the parent, B for the artifact."
        )
        said.extend(f"{line.mark} {line.title}: {line.reason}" for line in gate if line.reason)
        said.extend(remarks(verification))
    return Section("B against A", headings, tuple(rows), tuple(said))


def _ratio(ratio: Ratio, difference: Difference) -> tuple[str, ...]:
    sides = ("", "")
    if ratio.name == "size_ratio":
        both = difference.first, difference.second
        sides = tuple(f"{side.bytes / 1e6:.3f} MB" for side in both)  # type: ignore[assignment]
    elif difference.latency is not None:
        measured = difference.latency.measured
        speeds = measured.first, measured.second
        sides = tuple(f"{speed.median_ms:.2f} ms" for speed in speeds)  # type: ignore[assignment]
    interval = ""
    if ratio.low is not None and ratio.high is not None:
        interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
    mark = " " if ratio.limit is None else MARKS[ratio.verdict]
    limit = "" if ratio.limit is None else f"{ratio.limit:g}"
    return (f"{mark} {_RATIOS[ratio.name]}", *sides, f"{ratio.value:.3f}", interval, limit, "")


def _named(difference: Difference, verdict: str) -> str:
    """Titles of the figures with that verdict."""
    ratios = (_RATIOS[r.name] for r in difference.ratios if r.verdict == verdict)
    found = difference.verification
    gate = () if found is None else lines(found)
    return ", ".join(itertools.chain(ratios, (li.title for li in gate if li.verdict == verdict)))


def _escaped(text: str) -> str:
    """Text from outside as text in a Markdown table."""
    for char in "\\|*_`<>[]":
        text = text.replace(char, f"\\{char}")
    return " ".join(text.split())


def _s(count: int) -> str:
    return "" if count == 1 else "s"
