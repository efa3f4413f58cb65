"""What the verbs that show accuracy share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from edgedf.spec import Accuracy

__all__ = ["figures_table", "needs_distill"]


def figures_table(figures: Sequence[Accuracy], title: str) -> Table:
    """A line a figure: data, metric, value, interval, n, model."""
    from rich.table import Table
    from rich.text import Text

    from edgedf.cli._console import printable

    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in ("data", "metric", "value", "95 % interval", "n", "model"):
        table.add_column(heading)
    for figure in figures:
        interval = f"{figure.low:.3f} to {figure.high:.3f}"
        cells = (figure.dataset, figure.metric, f"{figure.value:.3f}", interval, str(figure.n))
        table.add_row(*(Text(printable(cell)) for cell in (*cells, figure.model)))
    return table


@contextlib.contextmanager
def needs_distill(what: str) -> Iterator[None]:
    """Turn a failed import of the training stage into the command that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        from edgedf.errors import MissingExtra

        raise MissingExtra("distill", what) from error
