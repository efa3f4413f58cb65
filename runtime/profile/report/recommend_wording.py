"""Which file to ship, in words."""

from __future__ import annotations

from collections.abc import Iterator

from edgedf.machine import Machine
from edgedf.reports.section import MARKS, Section, counted
from edgedf.runtime.profile.document import DeviceRun, Profile, Recommendation
from edgedf.runtime.profile.report.figures import megabytes, ms

__all__ = ["SHIP", "recommended"]

SHIP = "Which file to ship"
"""Title of the tables."""

_X86 = ("x86_64", "AMD64")


def recommended(profile: Profile, run: DeviceRun) -> Iterator[Section]:
    """A table of what there was to choose from, for each number of threads.

    Args:
        profile: The document.
        run: One of its devices.
    """
    for choice in run.recommendations:
        results = {each.model: each for each in run.results if each.threads == choice.threads}
        rows, accuracies, statuses = [], [], set()
        for each in choice.considered:
            model, latency = profile.models[each.model], results[each.model].latency
            mark = f"{MARKS['pass']} " if each.model == choice.model else ""
            takes = "not measured" if latency is None else ms(latency.p50_ms or latency.mean_ms)
            size = megabytes(model.size_bytes)
            row = (f"{mark}{model.file}", f"{size}, {takes}", each.accuracy.standing, each.finding)
            rows.append(row)
            accuracies.append(f"{model.file}: {each.accuracy.reason}.")
            statuses.add(results[each.model].validity.status)
        threads = counted(choice.threads, "thread")
        remarks = (
            _line(profile, choice),
            f"That holds for {threads} {_place(run)}.",
            "Some of these latencies are semi-valid: a first look."
            if "semi-valid" in statuses
            else "",
            f"Accuracy by {choice.accuracy_from}. {' '.join(accuracies)}",
        )
        title = f"{SHIP}, {threads}" if len(run.recommendations) > 1 else SHIP
        headings = ("file", "size, p50", "accuracy limit", "finding")
        yield Section(title, headings, tuple(rows), tuple(filter(None, remarks)))


def _line(profile: Profile, choice: Recommendation) -> str:
    """The file with the reason; or why one cannot tell and what would help."""
    if choice.model is None:
        return f"Cannot tell which file to ship. {choice.reason} Next step: {choice.next_step}."
    return f"Ship {profile.models[choice.model].file}. {choice.reason}"


def _place(run: DeviceRun) -> str:
    """On what the latencies were measured; a phone is spoken of only where it is that."""
    machine = run.machine
    facts = []
    if machine is not None:
        named = machine.cpu if run.device == "host" else machine.name or machine.soc or machine.cpu
        facts = [named, _dot_product(machine)]
    known = ", ".join(filter(None, facts))
    where = "this processor" if run.device == "host" else run.device
    place = f"on {where} ({known})" if known else f"on {where}"
    if run.device != "host":
        return place
    return f"{place}. Phones and boards may order the files in another way: profile with --device"


def _dot_product(machine: Machine) -> str:
    if machine.int8_dot_product is None:
        return ""
    what = "VNNI" if machine.architecture in _X86 else "dot-product instructions"
    return f"{'with' if machine.int8_dot_product else 'without'} {what}"
