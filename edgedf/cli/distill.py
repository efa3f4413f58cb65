"""``edgedf distill``: physics maps, training and evaluation; a file a sub-command."""

from __future__ import annotations

import typer

from edgedf.cli import (
    distill_audit,
    distill_evaluate,
    distill_map,
    distill_teach,
    distill_train,
)

__all__ = ["app"]

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def _overview() -> None:
    """Physics maps, training and evaluation."""


app.command("map", epilog=distill_map.EPILOG)(distill_map.write_maps)
app.command("audit", epilog=distill_audit.EPILOG)(distill_audit.audit)
app.command("teach", epilog=distill_teach.EPILOG)(distill_teach.teach)
app.command("train", epilog=distill_train.EPILOG)(distill_train.train)
app.command("evaluate", epilog=distill_evaluate.EPILOG)(distill_evaluate.evaluate)
