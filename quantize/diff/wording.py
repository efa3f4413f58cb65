"""The difference of two files in words: for the terminal and for pull requests alike."""

from __future__ import annotations

from collections.abc import Iterator

from edgedf.quantize.accuracy.wording import HEADINGS, lines, remarks
from edgedf.quantize.accuracy.wording import headline as headline_of_gate
from edgedf.quantize.diff.difference import Difference, LayerChange, Ratio, RatioName, Side
from edgedf.reports.markdown import section_markdown, verdict_markdown
from edgedf.reports.section import MARKS, NONE, Section, counted

__all__ = ["headline", "markdown", "sections"]

_RATIOS: dict[RatioName, str] = {"size_ratio": "size, B / A", "latency_ratio": "latency, B / A"}
_LISTED = 4  # names of layers in one line
_SHORT_HASH = 12


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
    """All tables; parts without a difference are left out."""
    parts = [_files(difference)]
    if not difference.identical:
        parts += [_spec(difference), _operators(difference), _layers(difference)]
        parts += [_latency(difference), _figures(difference)]
    return tuple(section for section in parts if section.rows or section.remarks)


def markdown(difference: Difference) -> str:
    """The same as Markdown, to paste into a pull request."""
    parts = [verdict_markdown(difference.verdict, headline(difference))]
    for section in sections(difference):
        parts.extend(section_markdown(section))
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
        rows.append(("XNNPACK partitions", _partitions(first), _partitions(second)))
    return Section("", ("", "A", "B"), tuple(rows))


def _partitions(side: Side) -> str:
    if side.pieces is None or side.undelegated is None:
        return NONE
    return f"{side.pieces}, {counted(side.undelegated, 'operator')} outside"


def _spec(difference: Difference) -> Section:
    rows = tuple(
        (change.field, change.first, f"{change.second}{change.note and f': {change.note}'}")
        for change in difference.spec
    )
    return Section("Spec", ("field", "A", "B"), rows, () if rows else ("The specs are equal.",))


def _operators(difference: Difference) -> Section:
    rows = tuple(
        (count.name, str(count.first), str(count.second), f"{count.second - count.first:+d}")
        for count in difference.operators
    )
    equal = () if rows else ("Both have the same operators.",)
    return Section("Operators", ("operator", "A", "B", "change"), rows, equal)


def _layers(difference: Difference) -> Section:
    sides = difference.first.layers, difference.second.layers
    rows = tuple(
        (name, *(str(side.get(name, 0)) for side in sides))
        for name in dict.fromkeys((*sides[0], *sides[1]))
    )
    changes = tuple(_layer_changes(difference))
    return Section("Layers by what they compute in", ("precision", "A", "B"), rows, changes)


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
        yield f"{what}: {counted(len(group), 'layer')} ({', '.join(names)}{more})"


def _latency(difference: Difference) -> Section:
    latency = difference.latency
    headings = ("", "runtime", "median", "p90", "minimum")
    if latency is None:
        return Section("Latency", headings, ())
    sides = (
        ("A", latency.first_runtime, latency.measured.first),
        ("B", latency.second_runtime, latency.measured.second),
    )
    rows = tuple(
        (name, runtime, *(f"{ms:.2f} ms" for ms in (s.median_ms, s.p90_ms, s.minimum_ms)))
        for name, runtime, s in sides
    )
    host = latency.host
    load = "" if host.load_average is None else f", load {host.load_average:g}"
    cores = "" if host.cores is None else f", {counted(host.cores, 'core')}"
    how = (
        f"{latency.measured.rounds} turns each (A B A B …), {counted(latency.threads, 'thread')}"
        f"; {host.cpu}{cores}{load}, {host.system}, Python {host.python}."
    )
    return Section("Latency", headings, rows, tuple(filter(None, (how, latency.remark))))


def _figures(difference: Difference) -> Section:
    rows = [_ratio(ratio, difference) for ratio in difference.ratios]
    sentences: list[str] = []
    verification = difference.verification
    if verification is not None:
        gate = lines(verification)
        rows.extend(line.cells for line in gate)
        counts = ""
        if verification.real or verification.fake:
            counts = f" ({verification.real} real, {verification.fake} fake)"
        pictures = counted(verification.measurements.pictures, "picture")
        sentences = [
            f"On {pictures}{counts} of {verification.data}, split {verification.split}; A is taken "
            "for the parent, B for the artifact.",
            *filter(None, (line.why for line in gate)),
            *remarks(verification),
        ]
    headings = ("", "A", "B", *HEADINGS[2:])
    return Section("B against A", headings, tuple(rows), tuple(sentences))


def _ratio(ratio: Ratio, difference: Difference) -> tuple[str, ...]:
    sides = ("", "")
    if ratio.name == "size_ratio":
        first, second = difference.first, difference.second
        sides = f"{first.bytes / 1e6:.3f} MB", f"{second.bytes / 1e6:.3f} MB"
    elif difference.latency is not None:
        measured = difference.latency.measured
        sides = f"{measured.first.median_ms:.2f} ms", f"{measured.second.median_ms:.2f} ms"
    interval = ""
    if ratio.low is not None and ratio.high is not None:
        interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
    mark = " " if ratio.limit is None else MARKS[ratio.verdict]
    limit = "" if ratio.limit is None else f"{ratio.limit:g}"
    return (f"{mark} {_RATIOS[ratio.name]}", *sides, f"{ratio.value:.3f}", interval, limit, "")


def _named(difference: Difference, verdict: str) -> str:
    """Titles of the figures with that verdict."""
    verification = difference.verification
    titles = [_RATIOS[ratio.name] for ratio in difference.ratios if ratio.verdict == verdict]
    if verification is not None:
        titles += [line.title for line in lines(verification) if line.verdict == verdict]
    return ", ".join(titles)
