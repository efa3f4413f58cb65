"""What a worker is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Configuration", "Effort", "Request"]


@dataclass(frozen=True)
class Effort:
    """How long is measured, and what beside latency.

    MLPerf asks for at least so many queries *and* at least so much time, and reports the 90th
    percentile (Janapa Reddi et al., "MLPerf Mobile Inference Benchmark", MLSys 2022).

    Args:
        queries: Inferences of each configuration, at least.
        seconds: Time that these take, at least, per configuration.
        warm_up_seconds: When latency has not become steady by then, measuring starts all the same
            and the result says so.
        cold_starts: Processes that load the model afresh, per configuration.
        pipeline_queries: Pictures taken through the whole pipeline, per configuration; 0 for none.
        operator_queries: Inferences whose operators are timed, per configuration; 0 for none.
        sustained_seconds: How long the first configuration goes on without a pause after all that;
            0 for not at all.
    """

    queries: int = 1024
    seconds: float = 60.0
    warm_up_seconds: float = 10.0
    cold_starts: int = 5
    pipeline_queries: int = 128
    operator_queries: int = 64
    sustained_seconds: float = 0.0


FULL = Effort()
"""What a figure takes that may be published."""

QUICK = Effort(
    queries=128,
    seconds=5.0,
    warm_up_seconds=1.5,
    cold_starts=1,
    pipeline_queries=32,
    operator_queries=16,
)
"""Enough for a first look."""


@dataclass(frozen=True)
class Configuration:
    """One thing that is timed.

    Args:
        model: Index into the request's models.
        threads: For the runtime's operators, at least 1.
    """

    model: int
    threads: int


@dataclass(frozen=True)
class Request:
    """All that a worker has to know.

    Args:
        models: Paths of model files on the worker's machine.
        images: Paths of photographs there, at least one.
        threads: Numbers of threads that each model is timed with.
        effort: How long.
    """

    models: tuple[str, ...]
    images: tuple[str, ...]
    threads: tuple[int, ...] = (1,)
    effort: Effort = FULL

    @property
    def configurations(self) -> tuple[Configuration, ...]:
        """Every model with every number of threads, in the order in which they take turns."""
        return tuple(
            Configuration(model, threads)
            for model in range(len(self.models))
            for threads in self.threads
        )
