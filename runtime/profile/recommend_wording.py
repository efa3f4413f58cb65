"""Which file to ship, in words."""

from __future__ import annotations

from collections.abc import Iterator

from edgedf.machine import Machine
from edgedf.runtime.profile.document import DeviceRun, Profile, Recommendation
from edgedf.runtime.profile.figures import Section, megabytes, ms

__all__ = ["SHIP", "recommendation_line", "recommended"]

SHIP = "Which file to ship"
"""Title of the tables."""

_X86 = ("x86_64", "AMD64")


def recommendation_line(profile: Profile, found: Recommendation) -> str:
    """The file with the reason; or why one cannot tell and what would help."""
    if found.model is None:
        return f"Cannot tell which file to ship. {found.reason} Next step: {found.next_step}."
    return f"Ship {profile.models[found.model].file}. {found.reason}"


def recommended(profile: Profile, run: DeviceRun) -> Iterator[Section]:
    """A table of what there was to choose from, for each number of threads.

    Args:
        profile: The document.
        run: One of its devices.
    """
    for found in run.recommendations:
        results = {each.model: each for each in run.results if each.threads == found.threads}
        rows, accuracies, marks = [], [], set()
        for each in found.considered:
            model, latency = profile.models[each.model], results[each.model].latency
            mark = "✓ " if each.model == found.model else ""
            takes = "not measured" if latency is None else ms(latency.p50_ms or latency.mean_ms)
            size = megabytes(model.size_bytes)
            standing = each.accuracy.standing
            rows.append((f"{mark}{model.file}", f"{size}, {takes}", standing, each.finding))
            accuracies.append(f"{model.file}: {each.accuracy.reason}.")
            marks.add(results[each.model].validity.status)
        many = "" if found.threads == 1 else "s"
        said = [
            recommendation_line(profile, found),
            f"That holds for {found.threads} thread{many} {_place(run)}.",
        ]
        if "semi-valid" in marks:
            said.append("Some of these latencies are semi-valid: a first look.")
        said.append(f"Accuracy by {found.accuracy_from}. {' '.join(accuracies)}")
        title = f"{SHIP}, {found.threads} thread{many}" if len(run.recommendations) > 1 else SHIP
        headings = ("file", "size, p50", "accuracy limit", "finding")
        yield Section(title, headings, tuple(rows), tuple(said))


def _place(run: DeviceRun) -> str:
    """On what the latencies were measured; a phone is spoken of only where it is that."""
    machine = run.machine
    facts = []
    if machine is not None:
        named = machine.cpu if run.device == "host" else machine.name or machine.soc or machine.cpu
        facts = [named, _dot_product(machine)]
    known = ", ".join(filter(None, facts))
    where = "this processor" if run.device == "host" else run.device
    said = f"on {where} ({known})" if known else f"on {where}"
    if run.device != "host":
        return said
    return f"{said}. Phones and boards may order the files in another way: profile with --device"


def _dot_product(machine: Machine) -> str:
    if machine.int8_dot_product is None:
        return ""
    what = "VNNI" if machine.architecture in _X86 else "dot-product instructions"
    return f"{'with' if machine.int8_dot_product else 'without'} {what}"
