"""Where the results of ``edgedf detect`` go: a table, JSON lines, CSV, pictures."""

from __future__ import annotations

import csv
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO, Union

from rich.text import Text

from edgedf.cli._console import StepProgress, json_text, printable
from edgedf.errors import ImageError, OutputError
from edgedf.runtime.folder import Failure

if TYPE_CHECKING:
    from edgedf.result import Detection

__all__ = ["CsvRows", "Failures", "JsonLines", "Overlays", "Result", "Sink", "Table", "Tally"]

Result = Union["Detection", Failure]

_LONGEST_STEM = 200  # bytes; file systems take names of 255, and more is added to this

_STYLES = {"real": "green", "fake": "bold red", "unsure": "yellow"}
_PLAIN = "default not bold"


class Sink(Protocol):
    """Takes results one by one."""

    def take(self, result: Result) -> None:
        """Show, count or write one result."""
        ...


class Tally:
    """Counts results by label; failures count as ``failed``, damaged pictures once more."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.damaged = 0

    def take(self, result: Result) -> None:
        """Count one result."""
        self.counts["failed" if isinstance(result, Failure) else result.label] += 1
        self.damaged += not isinstance(result, Failure) and result.damaged

    @property
    def judged(self) -> int:
        """Images with a verdict."""
        return self.counts.total() - self.counts["failed"]

    def summary(self, seconds: float) -> str:
        """One line about all of them."""
        verdicts = ", ".join(f"{self.counts[label]} {label}" for label in _STYLES)
        faults = {"damaged": self.damaged, "failed": self.counts["failed"]}
        faulty = "".join(f", {count} {fault}" for fault, count in faults.items() if count)
        images = "1 image" if self.judged == 1 else f"{self.judged} images"
        return f"{images}: {verdicts}{faulty}; {self.judged / max(seconds, 1e-6):.1f} images/s"


class Table:
    """A line per image on standard output, printed as it comes.

    The path is last, so that it may have any length.
    """

    def __init__(self, progress: StepProgress) -> None:
        self._progress = progress
        self._has_header = False

    def take(self, result: Result) -> None:
        """Print one line; failures are left to :class:`Failures`."""
        if isinstance(result, Failure):
            return
        if not self._has_header:
            self._has_header = True
            self._progress.result(Text("verdict  score  blur px     ms  image", style="bold"))
        line = Text(f"{result.label:<7}", style=_STYLES[result.label])
        blur, milliseconds = float(result.defocus_map.mean()), sum(result.timings.values())
        line.append(f"  {result.score:.3f}  {blur:7.2f}  {milliseconds:5.0f}  ", style=_PLAIN)
        line.append(printable(result.source), style=_PLAIN)
        if result.damaged:
            line.append("  (damaged)", style="yellow")
        self._progress.result(line)


class JsonLines:
    """One JSON object a line on standard output, as soon as an image is done."""

    def __init__(self, progress: StepProgress) -> None:
        self._progress = progress

    def take(self, result: Result) -> None:
        """Print one object."""
        self._progress.result(Text(json_text(result.to_dict())))


class Failures:
    """Every failure in full on standard error."""

    def __init__(self, progress: StepProgress) -> None:
        self._progress = progress

    def take(self, result: Result) -> None:
        """Print a failure."""
        if isinstance(result, Failure):
            self._progress.failure(result.source, result.error)


class CsvRows:
    """A row per image, failures too; quoted by the csv module.

    Args:
        stream: Open for writing, with ``newline=""``.
    """

    COLUMNS = (
        "source",
        "label",
        "score",
        "fake_at",
        "real_at",
        "mean_sigma_px",
        "decode_ms",
        "preprocess_ms",
        "inference_ms",
        "model",
        "damaged",
        "error",
    )

    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.DictWriter(stream, self.COLUMNS, lineterminator="\n")
        self._writer.writeheader()

    def take(self, result: Result) -> None:
        """Write one row."""
        row: dict[str, object] = {"source": _no_formula(result.source, "./")}
        if isinstance(result, Failure):
            row["error"] = _no_formula(" ".join(result.error.message.split()), " ")
        else:
            data = result.to_dict()
            row |= {key: data[key] for key in ("label", "score", "fake_at", "real_at")}
            row["model"] = _no_formula(data["model"], " ")
            row["damaged"] = str(data["damaged"]).lower()
            row["mean_sigma_px"] = data["defocus_sigma_px"]["mean"]
            row |= {f"{stage}_ms": value for stage, value in data["timings_ms"].items()}
        self._writer.writerow(row)


def _no_formula(text: str, prefix: str) -> str:
    """Keep a spreadsheet from running a file's name, or a model's, as a formula."""
    return prefix + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


class Overlays:
    """A picture per image in one folder, named after the image.

    Args:
        folder: Where to write; made when it is missing.
        inputs: Paths of the images, which must not be overwritten.

    Raises:
        OutputError: The folder cannot be written.
    """

    def __init__(self, folder: Path, inputs: Iterable[str]) -> None:
        self._folder = folder
        try:  # now, not after the first image
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OutputError(
                f"Cannot write pictures to {folder}: {error.strerror or error}.",
                expected="a folder that exists or can be made, with write permission",
                next_step="name another folder with --overlay",
            ) from error
        # Some file systems take a.jpg and A.JPG for the same.
        self._taken = {str(Path(path).resolve()).casefold() for path in inputs}

    def drawn(self, result: Result) -> Result:
        """Write the picture of one detection.

        Returns:
            The result; a failure where the image went away since it was judged.

        Raises:
            OutputError: The picture cannot be written.
        """
        if isinstance(result, Failure):
            return result
        from edgedf.files import write_bytes
        from edgedf.imaging import load_image
        from edgedf.runtime.overlay import encode_jpeg, render

        try:
            image = load_image(result.source)
        except ImageError as error:
            return Failure(result.source, error)
        stem = os.fsencode(Path(result.source).stem)[:_LONGEST_STEM].decode(errors="ignore")
        write_bytes(self._free_path(stem), encode_jpeg(render(image, result)))
        return result

    def _free_path(self, stem: str) -> Path:
        number = 1
        while True:
            suffix = f"_{number}" if number > 1 else ""
            path = self._folder / f"{stem}_overlay{suffix}.jpg"
            key = str(path.resolve()).casefold()
            if key not in self._taken:
                self._taken.add(key)
                return path
            number += 1
