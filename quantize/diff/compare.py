"""Two model files compared: what they say, what they consist of, what they answer, how fast.

File A stands for the parent and file B for the artifact wherever one is judged against the other;
they may have any precision, either format, and different parents. What is measured on pictures is
:mod:`~edgedf.quantize.accuracy.verify`'s, latency is :mod:`edgedf.runtime.interleaved`'s.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import edgedf.sample
from edgedf.artifact import Artifact, read_artifact
from edgedf.errors import ArtifactError, ConfigError
from edgedf.files import sha256_of
from edgedf.formats import open_backend
from edgedf.formats.backend import Backend
from edgedf.imaging import preprocess
from edgedf.machine import this_host
from edgedf.progress import Progress, silent
from edgedf.quantize.accuracy.gate import strictest
from edgedf.quantize.accuracy.limits import DiffLimits
from edgedf.quantize.accuracy.verify import Gate, Pictures, verify_pair
from edgedf.quantize.diff.difference import Count, Difference, Latency, LayerChange, Ratio, Side
from edgedf.quantize.diff.spec_changes import spec_changes
from edgedf.quantize.inspection.structure import Structure, structure_of
from edgedf.quantize.models.pair import Pair, open_pair
from edgedf.runtime.detector import naming
from edgedf.runtime.int8_speed import slower_than_float
from edgedf.runtime.interleaved import LEAST_ROUNDS, over, take_turns
from edgedf.spec import check_tensors

__all__ = ["DEFAULT_ROUNDS", "Opened", "compare", "diff", "open_files"]

DEFAULT_ROUNDS = 200
_TIMED_PICTURES = 16


@dataclass(frozen=True, eq=False)
class Opened:
    """Two files, read and loaded.

    Args:
        files: A and B.
        structures: What each consists of.
        backends: Each in its runtime, to be timed.
        pair: Both, ready to answer; None where they are not to.
        threads: Given to each runtime.
    """

    files: tuple[Artifact, Artifact]
    structures: tuple[Structure, Structure]
    backends: tuple[Backend, Backend]
    pair: Pair | None
    threads: int

    @property
    def identical(self) -> bool:
        """Whether they have the same bytes."""
        return self.files[0].model == self.files[1].model


def diff(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    pictures: Pictures | None = None,
    limits: DiffLimits | None = None,
    data: str = "",
    split: str = "all",
    rounds: int | None = DEFAULT_ROUNDS,
    threads: int = 1,
    progress: Progress = silent,
) -> Difference:
    """Compare two model files.

    Args:
        first: File A: a ``.tflite`` or ``.onnx`` file of ours.
        second: File B, likewise.
        pictures: Labelled pictures, or paths of unlabelled ones, that both are run on; None to run
            them on none.
        limits: What B may lose against A; None for the defaults.
        data: Name of the pictures, for the result.
        split: Name of their split, for the result.
        rounds: Turns of each model that are timed, at least 2; None for no latency.
        threads: For each runtime.
        progress: Told about each picture and each turn.

    Returns:
        The difference. Files with the same bytes are not run.

    Raises:
        EdgedfError: As :func:`open_files` and :func:`compare`.

    Example:
        >>> from edgedf.runtime.models import shipped_model
        >>> difference = diff(shipped_model("tflite"), shipped_model("tflite"))
        >>> difference.identical, difference.verdict
        (True, 'pass')
    """
    with open_files(first, second, answering=pictures is not None, threads=threads) as opened:
        return compare(
            opened,
            pictures=pictures,
            limits=limits,
            data=data,
            split=split,
            rounds=rounds,
            progress=progress,
        )


@contextlib.contextmanager
def open_files(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    answering: bool = True,
    threads: int = 1,
) -> Iterator[Opened]:
    """Read and load two model files.

    Args:
        first: As for :func:`diff`.
        second: Likewise.
        answering: Whether they will be run on pictures.
        threads: For each runtime.

    Yields:
        The two, closed at the end of the block.

    Raises:
        ArtifactError: One of the files cannot be used.
        ConfigError: They cannot be run on the same pictures.
        MissingExtra: What runs or reads one of them is not installed.
    """
    files = _read(first), _read(second)
    with contextlib.ExitStack() as stack:
        # A runtime refuses a damaged file with a clear error, before anything takes it apart.
        backends = tuple(stack.enter_context(_running(file, threads)) for file in files)
        structures = tuple(structure_of(file) for file in files)
        pair = None
        if answering and files[0].model != files[1].model:
            _check_sizes(*files)
            pair = stack.enter_context(open_pair(files[1].path, files[0].path, threads=threads))
        yield Opened(files, structures, backends, pair, threads)  # type: ignore[arg-type]


def compare(
    opened: Opened,
    *,
    pictures: Pictures | None = None,
    limits: DiffLimits | None = None,
    data: str = "",
    split: str = "all",
    rounds: int | None = DEFAULT_ROUNDS,
    progress: Progress = silent,
) -> Difference:
    """Compare two opened files.

    Args:
        opened: The files; those that are to be run on pictures opened for that.
        pictures: As for :func:`diff`, like all that follows.
        limits: What B may lose against A.
        data: Name of the pictures.
        split: Name of their split.
        rounds: Turns of each model that are timed.
        progress: Told about each picture and each turn.

    Raises:
        ConfigError: ``rounds`` is too small.
        EdgedfError: As :func:`~edgedf.quantize.accuracy.verify.verify_pair`.
    """
    limits = limits or DiffLimits()
    if rounds is not None and rounds < LEAST_ROUNDS:
        raise ConfigError(
            f"Cannot measure a latency in {rounds} rounds.",
            expected=f"at least {LEAST_ROUNDS}",
            next_step=f"the default is {DEFAULT_ROUNDS}",
        )
    verification = latency = None
    if opened.pair is not None and pictures is not None:
        verification = verify_pair(
            opened.pair,
            Gate(pictures, limits=limits.of_gate, data=data, split=split),
            worst=0,
            progress=progress,
        )
    if rounds is not None and not opened.identical:
        latency = _latency(opened, rounds, progress)
    first, second = opened.files
    ratios = tuple(_ratios(opened, latency, limits, timed=rounds is not None))
    verdicts = [ratio.verdict for ratio in ratios]
    if verification is not None:
        verdicts.append(verification.verdict)
    same_format = first.format == second.format
    layers, matched = _layers(*opened.structures) if same_format else ((), 0)
    return Difference(
        verdict=strictest(verdicts),
        identical=opened.identical,
        first=_side(first, opened.structures[0]),
        second=_side(second, opened.structures[1]),
        spec=spec_changes(first.spec, second.spec),
        operators=_counts(*opened.structures),
        same_format=same_format,
        layers=layers,
        matched=matched,
        ratios=ratios,
        limits=limits,
        verification=verification,
        latency=latency,
    )


def _read(path: str | os.PathLike[str]) -> Artifact:
    try:
        return read_artifact(Path(path))
    except ArtifactError as error:
        raise naming(Path(path), error) from error


@contextlib.contextmanager
def _running(file: Artifact, threads: int) -> Iterator[Backend]:
    try:
        backend = open_backend(file.model, file.format, threads=threads)
        check_tensors(file.spec, backend.inputs, backend.outputs)
    except ArtifactError as error:
        raise naming(file.path, error) from error
    with contextlib.closing(backend):
        yield backend


def _side(file: Artifact, structure: Structure) -> Side:
    return Side(
        path=str(file.path),
        format=file.format,
        model_id=file.spec.model_id,
        bytes=len(file.model),
        sha256=sha256_of(file.model),
        layers=structure.precisions,
        pieces=structure.pieces,
        undelegated=structure.undelegated,
    )


def _counts(first: Structure, second: Structure) -> tuple[Count, ...]:
    names = dict.fromkeys((*first.operators, *second.operators))
    counts = (
        Count(name, first.operators.get(name, 0), second.operators.get(name, 0)) for name in names
    )
    return tuple(count for count in counts if count.first != count.second)


def _layers(first: Structure, second: Structure) -> tuple[tuple[LayerChange, ...], int]:
    """Layers that differ, and how many both files have."""
    one = {layer.tensor: layer for layer in first.layers}
    other = {layer.tensor: layer for layer in second.layers}
    changes = []
    for tensor in dict.fromkeys((*one, *other)):
        layer = one.get(tensor) or other[tensor]
        precisions = tuple(
            side[tensor].precision if tensor in side else None for side in (one, other)
        )
        if precisions[0] != precisions[1]:
            changes.append(LayerChange(tensor, layer.name, layer.operator, *precisions))
    return tuple(changes), len(one.keys() & other.keys())


def _check_sizes(first: Artifact, second: Artifact) -> None:
    sides = [file.spec.input.height for file in (first, second)]
    if sides[0] != sides[1]:
        raise ConfigError(
            f"{first.path} takes {sides[0]} x {sides[0]} pixels and {second.path} {sides[1]} x "
            f"{sides[1]}, so their answers cannot be compared picture by picture.",
            expected="two models with the same input",
            next_step="compare the files and their latency alone: --no-pictures",
        )


def _latency(opened: Opened, rounds: int, progress: Progress) -> Latency:
    sample = edgedf.sample.images()[:_TIMED_PICTURES]
    turns = [
        over([preprocess(image.path, file.spec.input.height) for image in sample], backend.run)
        for file, backend in zip(opened.files, opened.backends, strict=True)
    ]
    measured = take_turns(*turns, rounds=rounds, progress=progress)
    runtimes = [f"{backend.name} {backend.version}" for backend in opened.backends]
    host = this_host()
    remark = ""
    first, second = opened.files
    if first.format == second.format:
        remark = slower_than_float(
            (first.spec.precision, second.spec.precision),
            *(measured.ratio, measured.low, measured.high),
            host.int8_dot_product,
        )
    return Latency(measured, runtimes[0], runtimes[1], opened.threads, host, remark)


def _ratios(
    opened: Opened, latency: Latency | None, limits: DiffLimits, *, timed: bool
) -> Iterator[Ratio]:
    first, second = (len(file.model) for file in opened.files)
    yield Ratio.judged("size_ratio", second / first, limits.max_size_ratio)
    if latency is not None:
        measured = latency.measured
        yield Ratio.judged(
            "latency_ratio",
            measured.ratio,
            limits.max_latency_ratio,
            low=measured.low,
            high=measured.high,
        )
    elif timed:  # the same bytes, so exactly as fast
        yield Ratio.judged("latency_ratio", 1.0, limits.max_latency_ratio)
