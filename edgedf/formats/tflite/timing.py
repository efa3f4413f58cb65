"""Operators of a ``.tflite`` model, from the profiler inside LiteRT's C library.

The times are XNNPACK's own, operator by operator, as it runs them on this machine; the interpreter
without a delegate would tell operators apart too, but it is not what is shipped. tflite-runtime has
no such library: then what the delegate takes is still told, but not what each operator costs.

All of it happens in a process of its own, so that a library which is not what was expected costs
the operators' times and nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from edgedf import typed_json
from edgedf.errors import EdgedfError, OutputError
from edgedf.files import scratch_folder
from edgedf.formats.layer_names import numbered, short_name
from edgedf.formats.tflite.backend import TFLiteBackend
from edgedf.formats.tflite.delegation import Delegation, read_delegation
from edgedf.formats.tflite.litert import (
    DELEGATE_EVENT,
    OPERATOR_EVENT,
    ProfiledModel,
    ProfilerEvent,
)
from edgedf.formats.tflite.matching import match_operators
from edgedf.formats.timed import Operators, OperatorTime
from edgedf.formats.turns import take_turns, time_alone
from edgedf.imaging import RGBImage

__all__ = ["measure", "time_tflite_operators"]

_CHILD = "edgedf.formats.tflite.timing_child"
_TIMEOUT_S = 300.0
_SUPPORTED = "ai-edge-litert"
_XNNPACK = "XNNPACK"


def time_tflite_operators(
    configuration: int, model: bytes, threads: int, images: Sequence[RGBImage], queries: int
) -> Operators:
    """See :meth:`edgedf.formats.base.Format.time_operators`.

    Where the operators cannot be timed, ``operators`` is empty and ``source`` says why; what the
    delegate takes over is there all the same.
    """
    plain = TFLiteBackend(model, threads=threads)
    delegation = read_delegation(model)
    if plain.name != _SUPPORTED:
        reason = f"{plain.name} has no profiler of operators ({_SUPPORTED} has)"
    else:
        try:
            return _in_child(configuration, model, threads, images, queries)
        except OutputError:
            raise
        except EdgedfError as error:
            reason = f"LiteRT's profiler cannot be used: {error.message.rstrip('.')}"
    mean = time_alone(plain.run, images, queries)
    plain.close()
    return _operators(configuration, f"operators not timed: {reason}", (), delegation, mean, mean)


def measure(
    configuration: int, model: bytes, threads: int, images: Sequence[RGBImage], queries: int
) -> Operators:
    """The same in this process, which may not survive it.

    Raises:
        EdgedfError: LiteRT's profiler cannot be used.
    """
    delegation = read_delegation(model)
    plain = TFLiteBackend(model, threads=threads)
    profiled = ProfiledModel(model, threads, (*plain.inputs, *plain.outputs))
    inferences: list[list[ProfilerEvent]] = []
    turns = take_turns(
        profiled.run,
        plain.run,
        images,
        queries,
        after=lambda: inferences.append(_of_operators(profiled.take_events())),
    )
    profiled.close()
    plain.close()
    counted = [inferences[number] for number in turns.counted]
    first = counted[0]
    if not first or any([e.tag for e in events] != [e.tag for e in first] for events in counted):
        raise EdgedfError("it forgets operators.")
    means = np.mean([[event.microseconds for event in events] for events in counted], axis=0) / 1e3
    operators, matched = _named(first, means.tolist(), delegation)
    source = f"LiteRT {plain.version}'s profiler with XNNPACK's own times"
    if not matched:
        source += "; XNNPACK has fused operators, so it calls them by names of its own"
    return _operators(
        configuration, source, operators, delegation, turns.inference_ms, turns.plain_ms
    )


def _in_child(
    configuration: int, model: bytes, threads: int, images: Sequence[RGBImage], queries: int
) -> Operators:
    numbers = (configuration, threads, queries)
    try:
        with scratch_folder() as folder:
            path, pictures = folder / "model.tflite", folder / "images.npy"
            path.write_bytes(model)
            np.save(pictures, np.stack(images), allow_pickle=False)
            command = [sys.executable, "-m", _CHILD, str(path), str(pictures), *map(str, numbers)]
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise EdgedfError(f"it took more than {_TIMEOUT_S:.0f} seconds.") from error
    except OSError as error:
        raise OutputError(
            f"The model cannot be handed to another process: {error.strerror or error}.",
            expected="free space in the folder for temporary files",
            next_step="free some space, or set TMPDIR to another folder",
        ) from error
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1][:200]
        if done.returncode < 0:
            last = f"it was ended by signal {-done.returncode}"
        raise EdgedfError(f"{last.rstrip('.')}.")
    try:
        return typed_json.decode(Operators, json.loads(lines[-1]))
    except (ValueError, RecursionError) as error:
        raise EdgedfError("it wrote something else than times.") from error


def _of_operators(events: Sequence[ProfilerEvent]) -> list[ProfilerEvent]:
    return [event for event in events if event.type in (OPERATOR_EVENT, DELEGATE_EVENT)]


def _named(
    events: Sequence[ProfilerEvent], means: Sequence[float], delegation: Delegation
) -> tuple[tuple[OperatorTime, ...], bool]:
    """Give what was executed the names of the file; whether that could be done for all of it."""
    names = numbered([short_name(operator.name) for operator in delegation.operators])
    places = _places(events, delegation)
    found = []
    for number, (event, mean) in enumerate(zip(events, means)):
        delegate = _XNNPACK if event.type == DELEGATE_EVENT else ""
        at = places[number]
        if at is None:
            kind = event.tag.partition(" (")[0]
            found.append(OperatorTime(f"{event.tag} {event.index}", kind, mean, delegate))
        else:
            kind = delegation.operators[at].kind
            found.append(OperatorTime(names[at], kind, mean, delegate))
    return tuple(found), any(place is not None for place in places.values())


def _places(events: Sequence[ProfilerEvent], delegation: Delegation) -> dict[int, int | None]:
    """By number of an event: index of the operator in the file, or None where that is unknown."""
    places: dict[int, int | None] = {}
    pieces: list[list[int]] = []  # numbers of each partition's events
    for number, event in enumerate(events):
        if event.type == DELEGATE_EVENT:
            if event.index == 0 or not pieces:
                pieces.append([])
            pieces[-1].append(number)
            places[number] = None
        else:
            known = event.index < len(delegation.operators)
            same = known and delegation.operators[event.index].kind == event.tag
            places[number] = event.index if same else None
    if len(pieces) != len(delegation.partitions):
        return places
    for piece, partition in zip(pieces, delegation.partitions):
        kinds = [delegation.operators[at].kind for at in partition.operators]
        matched = match_operators(kinds, [events[number].tag for number in piece])
        for number, at in zip(piece, matched or [None] * len(piece)):
            places[number] = None if at is None else partition.operators[at]
    return places


def _operators(
    configuration: int,
    source: str,
    operators: tuple[OperatorTime, ...],
    delegation: Delegation,
    inference_ms: float,
    plain_ms: float,
) -> Operators:
    left_out = delegation.left_out
    return Operators(
        configuration,
        source,
        operators,
        len(delegation.operators),
        inference_ms,
        plain_ms,
        delegated=len(delegation.operators) - len(left_out),
        partitions=len(delegation.partitions),
        left_out=left_out,
        in_float=tuple(operator.kind for operator in delegation.operators if operator.in_float),
    )
