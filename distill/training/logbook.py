"""What happened at each step: ``metrics.csv`` for people and scripts, event files for TensorBoard.

Rows are kept in memory and handed over by whoever saves the state of the run, so that a run that
goes on after a kill writes what it had written and nothing twice.
"""

from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedf.errors import MissingExtra, OutputError
from edgedf.files import write_text

__all__ = ["EVENTS", "METRICS", "Logbook"]

METRICS, EVENTS = "metrics.csv", "tensorboard"


class Logbook:
    """The figures of a run, a row a step; on disk once they are saved.

    Args:
        folder: Of the run.
        rows: Those of earlier sessions.

    Raises:
        MissingExtra: tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path, rows: Iterable[Mapping[str, float]] = ()) -> None:
        self._path = Path(folder) / METRICS
        self._events = _Events(Path(folder) / EVENTS)
        self._rows: list[dict[str, float]] = []
        self._told = 0
        for row in rows:
            self.add(row)

    @property
    def rows(self) -> tuple[dict[str, float], ...]:
        """All rows, those of earlier sessions first."""
        return tuple(self._rows)

    def add(self, row: Mapping[str, float]) -> None:
        """Note a step.

        Args:
            row: Figures by name; ``step`` is one of them.
        """
        self._rows.append({**row, "step": int(row["step"])})

    def save(self) -> None:
        """Write ``metrics.csv`` anew, and to TensorBoard what it has not been given yet.

        Raises:
            OutputError: A file cannot be written.
        """
        write_text(self._path, _csv(self._rows))
        self._events.write(self._rows[self._told :])
        self._told = len(self._rows)

    def close(self) -> None:
        """Close the event file; :meth:`save` comes before."""
        self._events.close()


class _Events:
    """An event file, written in this thread: tensorboardX's own thread would lose a full disk.

    The first write of a session removes the files of earlier ones, whose rows it is given again: a
    killed session may have been ahead of its last saved state.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import RecordWriter
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.proto.summary_pb2 import Summary
        except ImportError as error:
            raise MissingExtra("distill", "Writing logs for TensorBoard") from error
        self._event, self._summary, self._open = Event, Summary, RecordWriter
        self._folder = folder
        self._writer: Any = None

    def write(self, rows: Iterable[Mapping[str, float]]) -> None:
        try:
            if self._writer is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                for old in self._folder.glob("events.out.tfevents.*"):
                    old.unlink()
                # TensorBoard looks for names with this in them.
                name = f"events.out.tfevents.{time.time():.0f}"
                self._writer = self._open(str(self._folder / name))
                self._add(self._event(wall_time=time.time(), file_version="brain.Event:2"))
            for row in rows:
                self._add(self._as_event(row))
            self._writer.flush()
        except OSError as error:
            raise OutputError(
                f"Cannot write {self._folder}: {error.strerror or error}.",
                expected="a folder with write permission and free space",
                next_step="free some space or choose another folder, then run it again",
            ) from error

    def close(self) -> None:
        # What could not be written has been reported, and is written anew when the run goes on.
        with contextlib.suppress(OSError):
            if self._writer is not None:
                self._writer.close()
        self._writer = None

    def _add(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())

    def _as_event(self, row: Mapping[str, float]) -> Any:
        values = [
            self._summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name != "step"
        ]
        summary = self._summary(value=values)
        return self._event(wall_time=time.time(), step=int(row["step"]), summary=summary)


def _csv(rows: Sequence[Mapping[str, float]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
