"""The saved state of a run: everything needed to go on with the step that it would have taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn

from edgedf import typed_json
from edgedf.errors import CheckpointError
from edgedf.files import write_bytes

__all__ = ["Header", "Reached", "Trained", "load_state", "save_state"]


@dataclass
class Reached:
    """How far a run has come, besides tensors and rows."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_score: float | None = None
    looks_since_best: int = 0
    stopped_early: bool = False


@dataclass(frozen=True)
class Header:
    """A state's description, besides tensors.

    Args:
        so_far: How far the run has come.
        ranks: Number of processes.
        rows: Of the logbook.
        scale: Of the gradients in fp16.
        held: For how many steps it has held.
    """

    so_far: Reached
    ranks: int
    rows: tuple[dict[str, float], ...]
    scale: float
    held: int


@dataclass(frozen=True)
class Trained:
    """The tensors of a run.

    Args:
        module: The network.
        averaged: Its moving average.
        optimiser: With its moments.
        scaler: Of the gradients in fp16.
    """

    module: nn.Module
    averaged: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


def save_state(
    path: Path,
    trained: Trained,
    so_far: Reached,
    ranks: int,
    rows: tuple[dict[str, float], ...],
) -> str | None:
    """Write a state, whole or not at all.

    Returns:
        None, or the name of a weight that is not a number: nothing is written then.

    Raises:
        OutputError: The file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("module", trained.module), ("averaged", trained.averaged)):
        tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            return name
    for index, moments in trained.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
    scaler = trained.scaler.state_dict()
    scale, held = scaler.get("scale", 1.0), scaler.get("_growth_tracker", 0)
    header = typed_json.encode(Header(so_far, ranks, rows, scale, held))
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_bytes(path, save(whole, {"header": json.dumps(header)}))
    return None


def load_state(path: Path, trained: Trained) -> Header:
    """Read a state into the network, its average, the optimiser and the scaler.

    Raises:
        CheckpointError: It is damaged, or of another network.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = typed_json.decode(Header, json.loads(file.metadata()["header"]))
        _ = [int(row["step"]) for row in header.rows]  # which the logbook needs
        trained.module.load_state_dict(_below("module.", tensors))
        trained.averaged.load_state_dict(_below("averaged.", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("optimiser.", tensors).items():
            index, kind = name.split(".")
            moments.setdefault(int(index), {})[kind] = value
        optimiser, scaler = trained.optimiser, trained.scaler
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
        if scaler.is_enabled():
            counters = {"scale": header.scale, "_growth_tracker": header.held}
            scaler.load_state_dict({**scaler.state_dict(), **counters})
    except (
        OSError,
        safetensors.SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        raise CheckpointError(
            f"The saved state {path} cannot be used: {error}.",
            expected="a state that this version of edgedf wrote for this network",
            next_step="delete it to start the run again",
        ) from error
    return header


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
