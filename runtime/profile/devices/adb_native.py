"""Measuring on a phone with a native benchmark: in short repetitions by turns (A B A B …)."""

from __future__ import annotations

import contextlib
import math
import shlex
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgedf.artifact import read_model
from edgedf.errors import DeviceError
from edgedf.formats import format_named
from edgedf.machine import Machine
from edgedf.runtime.profile.devices.adb_client import Adb, Printed
from edgedf.runtime.profile.devices.adb_errors import Cut
from edgedf.runtime.profile.devices.adb_folder import PhoneFolder
from edgedf.runtime.profile.devices.android import STATE, other_load, sections, state
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.native_operators import operators_in, parse_operators
from edgedf.runtime.profile.devices.native_runner import (
    RunnerKind,
    Work,
    arguments,
    kind_of,
    parse_summary,
    unheeded,
)
from edgedf.runtime.profile.events import (
    Emit,
    Failed,
    Finished,
    Loaded,
    Progressed,
    Started,
    Summary,
)

__all__ = ["NativeRun"]

_FEWEST, _MOST = 4, 12  # repetitions of each configuration
_REPETITION_SECONDS = 5.0
_CALIBRATION_RUNS = 16
_LONGEST = 900.0  # seconds that one repetition may take in all
_RUNNER, _RESULT = "runner", "result.json"
_CANNOT_RUN = (126, 127)  # what a shell says of a program that it cannot start


@dataclass
class _Configuration:
    """One model with one number of threads, on its way."""

    index: int
    model: int
    threads: int
    runs: int
    summaries: list[Summary] = field(default_factory=list)

    def lacks(self, queries: int, seconds: float) -> bool:
        """Whether there are too few inferences, or too little time."""
        return (
            sum(summary.queries for summary in self.summaries) < queries
            or sum(summary.seconds for summary in self.summaries) < seconds
        )


class NativeRun:
    """One job on one phone.

    Args:
        adb: The phone.
        folder: Where to work on it.
        runner: The program; has been checked.
        job: What to measure.
        emit: Takes the events.
        begun: When the measurement began, by ``time.monotonic``.
    """

    def __init__(
        self, adb: Adb, folder: PhoneFolder, runner: Path, job: Job, emit: Emit, begun: float
    ) -> None:
        self._adb, self._folder, self._runner, self._job = adb, folder, runner, job
        self._emit, self._begun = emit, begun
        self._name = runner.name
        self._throttled = -1
        self._problems: list[DeviceError] = []

    def go(self, machine: Machine) -> None:
        """Copy the program and the models, run them, and hand on what they gave.

        Args:
            machine: The phone.

        Raises:
            Cut: The connection broke.
            DeviceError: Nothing at all could be measured.
        """
        effort = self._job.effort
        self._emit(Started(machine))
        rounds = max(_FEWEST, min(_MOST, math.ceil(effort.seconds / _REPETITION_SECONDS)))
        runs = math.ceil(effort.queries / rounds)
        request = self._job.request((), ())
        configurations = [
            _Configuration(index, model, threads, runs)
            for index, (model, threads) in enumerate(
                (model, threads)
                for model in range(len(self._job.models))
                for threads in request.threads
            )
        ]
        configurations = self._runnable(configurations)
        self._copy({configuration.model for configuration in configurations})
        kind = self._kind()
        self._tell_limits(kind)
        if kind == "litert-benchmark":  # it knows no shortest time
            configurations = self._calibrated(configurations, effort.seconds / rounds, kind)
        self._tell_state(self._checked(self._adb.run(STATE)))
        done = 0
        while configurations and done < 3 * rounds:
            enough = not any(c.lacks(effort.queries, effort.seconds) for c in configurations)
            if enough and done >= rounds:
                break
            for configuration in list(configurations):
                work = Work(configuration.runs, effort.seconds / rounds, configuration.threads)
                if not self._repeat(configuration, work, kind):
                    configurations.remove(configuration)
            done += 1
            self._emit(Progressed("benchmark", min(done, rounds), rounds))
        if effort.operator_queries and kind == "benchmark_model":
            for place, configuration in enumerate(configurations):
                self._time_operators(configuration, effort.operator_queries)
                self._emit(Progressed("operators", place + 1, len(configurations)))
        if not configurations and self._problems:
            raise self._problems[0]
        self._emit(Finished())

    def _runnable(self, configurations: list[_Configuration]) -> list[_Configuration]:
        """Without models of a format that no native benchmark reads."""
        kept = []
        for configuration in configurations:
            path = self._job.models[configuration.model]
            if format_named(read_model(path)[0]).native_benchmark:
                kept.append(configuration)
                continue
            with self._failing(configuration, "benchmark"):
                raise DeviceError(
                    f"{self._name} runs TFLite models; {path.name} is none.",
                    expected="a .tflite file",
                    next_step="profile it with a Python on the phone: --python PATH",
                )
        if not kept:
            raise self._problems[0]
        return kept

    def _copy(self, models: set[int]) -> None:
        files = [(self._runner, _RUNNER)]
        files += [(self._job.models[model], _model(model)) for model in sorted(models)]
        needed = sum(path.stat().st_size for path, _ in files)
        for place, (path, name) in enumerate(files):
            self._emit(Progressed("copying to the phone", place, len(files)))
            self._folder.put(path, name, needed)
        self._checked(self._adb.run(self._folder.script(f"chmod 700 {_RUNNER}")))
        self._emit(Progressed("copying to the phone", len(files), len(files)))

    def _kind(self) -> RunnerKind:
        printed = self._adb.run(self._folder.script(f"./{_RUNNER} --help 2>&1 </dev/null"))
        output = self._checked(printed)
        if printed.status in _CANNOT_RUN:
            raise self._cannot_run(output)
        return kind_of(output)

    def _calibrated(
        self, configurations: list[_Configuration], seconds: float, kind: RunnerKind
    ) -> list[_Configuration]:
        """With as many inferences in a repetition as take so long."""
        kept = []
        for configuration in configurations:
            work = Work(min(configuration.runs, _CALIBRATION_RUNS), 0, configuration.threads)
            with self._failing(configuration, "benchmark"):
                summary = self._benchmark(configuration, work, kind)[0]
                enough = math.ceil(1.1 * 1000 * seconds / summary.mean_ms)
                configuration.runs = max(configuration.runs, enough)
                kept.append(configuration)
        return kept

    def _repeat(self, configuration: _Configuration, work: Work, kind: RunnerKind) -> bool:
        """One repetition; whether it went well."""
        with self._failing(configuration, "benchmark"):
            summary, output = self._benchmark(configuration, work, kind)
            if not configuration.summaries:
                self._emit(Loaded(configuration.index, self._name))
            configuration.summaries.append(summary)
            self._emit(summary)
            self._tell_state(output)
            return True
        return False

    def _time_operators(self, configuration: _Configuration, queries: int) -> None:
        work = Work(queries, 0, configuration.threads)
        with self._failing(configuration, "operators"):
            summary, output = self._benchmark(
                configuration, work, "benchmark_model", operators=True
            )
            measured = configuration.summaries
            queries, seconds = sum(s.queries for s in measured), sum(s.seconds for s in measured)
            operators = parse_operators(
                output,
                configuration=configuration.index,
                source=f"{self._name} --enable_op_profiling",
                inference_ms=summary.mean_ms,
                plain_ms=seconds / queries * 1000,
                in_file=self._operators_in(configuration.model) or 0,
            )
            self._emit(operators)

    def _benchmark(
        self,
        configuration: _Configuration,
        work: Work,
        kind: RunnerKind,
        *,
        operators: bool = False,
    ) -> tuple[Summary, str]:
        """Run the program once: its figures, and all that the phone printed."""
        words = arguments(
            kind, _model(configuration.model), work, result=_RESULT, operators=operators
        )
        script = self._folder.script(
            f"rm -f {_RESULT}\n"
            "echo @@before; head -n 1 /proc/stat; cat /proc/uptime\n"
            f"echo @@program; ./{_RUNNER} {shlex.join(words)} 2>&1 </dev/null\n"
            "status=$?\n"
            "echo; echo @@after; head -n 1 /proc/stat; cat /proc/uptime; times\n"
            f"{STATE}echo @@result; [ -f {_RESULT} ] && cat {_RESULT}\n"
            "(exit $status)"
        )
        try:
            printed = self._adb.run(script, seconds=_LONGEST)
        except DeviceError:
            self._folder.stop()
            raise
        output = self._checked(printed)
        parts = sections(output)
        program = parts.get("program", "")
        if printed.status in _CANNOT_RUN:
            raise self._cannot_run(program)
        if printed.status != 0:
            raise self._crashed(printed.status or 0, program)
        ignored = {"num_threads", "graph", "num_runs"} & set(unheeded(program))
        if ignored:
            raise DeviceError(
                f"{self._name} does not know --{', --'.join(sorted(ignored))}.",
                expected="a benchmark whose threads and runs can be set",
                next_step="use TFLite's benchmark_model",
            )
        summary = parse_summary(
            kind,
            program,
            parts.get("result", ""),
            configuration=configuration.index,
            source=self._name,
        )
        return summary, output

    def _operators_in(self, model: int) -> int | None:
        try:
            return operators_in(self._job.models[model].read_bytes())
        except OSError:
            return None

    def _tell_state(self, output: str) -> None:
        parts = sections(output)
        load = other_load(parts.get("before", ""), parts.get("after", ""))
        at_s = time.monotonic() - self._begun
        event, self._throttled = state(parts, at_s, throttled=self._throttled, load=load)
        self._emit(event)

    def _tell_limits(self, kind: RunnerKind) -> None:
        """What was asked for and a native benchmark cannot give."""
        effort = self._job.effort
        asked = [
            ("pipeline", effort.pipeline_queries > 0, "takes no pictures: it runs the model alone"),
            ("sustained", effort.sustained_seconds > 0, "gives no single inferences over time"),
            (
                "operators",
                effort.operator_queries > 0 and kind == "litert-benchmark",
                "does not time operators",
            ),
        ]
        for step, wanted, why in asked:
            if wanted:
                other = "use benchmark_model" if step == "operators" else "use --python PATH"
                self._emit(Failed(f"{self._name} {why}.", next_step=other, step=step))

    @contextlib.contextmanager
    def _failing(self, configuration: _Configuration, step: str) -> Iterator[None]:
        """What fails of one configuration is an event, and the others go on."""
        try:
            yield
        except DeviceError as error:
            self._problems.append(error)
            self._emit(Failed.of(error, configuration.index, step))

    def _checked(self, printed: Printed) -> str:
        if printed.status is None:
            raise Cut(f"{self._name} ran on it")
        return printed.output

    def _cannot_run(self, output: str) -> DeviceError:
        last = (output.strip().splitlines() or ["it does not say why"])[-1]
        return DeviceError(
            f"The phone cannot run {self._name}: {last.strip()}.",
            expected="a program built for Android, not for another Linux",
            next_step="take TFLite's android_aarch64 build, or build it with the NDK",
        )

    def _crashed(self, status: int, program: str) -> DeviceError:
        how = f"ended with status {status}"
        if 128 < status < 128 + signal.NSIG:
            try:
                how = f"was ended by {signal.Signals(status - 128).name}"
            except ValueError:
                how = f"was ended by signal {status - 128}"
        last = " ".join(" ".join(program.strip().splitlines()[-3:]).split())[-200:]
        killed = status == 128 + signal.SIGKILL
        return DeviceError(
            f"{self._name} {how}" + (f"; its last words: {last!r}." if last else "."),
            expected="a benchmark that runs to its end",
            next_step="close other apps: Android kills programs when memory is short"
            if killed
            else "run it by hand on the phone: adb shell",
        )


def _model(index: int) -> str:
    return f"model{index}.tflite"
