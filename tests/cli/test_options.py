from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import typer.main

from edgedf.cli import convert, diff, verify
from edgedf.cli._gate import read_limits
from edgedf.cli._options import documentation, refuse_alone, refuse_together
from edgedf.errors import ConfigError
from edgedf.precision import PRECISIONS
from edgedf.quantize.accuracy.limits import DiffLimits, Limits
from edgedf.quantize.calibration.settings import CalibrationImages
from edgedf.quantize.recipe import Recipe


@dataclass
class Parent:
    """A parent.

    Args:
        first: On one line.
        second: On
            two lines.

    Raises:
        ConfigError: Never.
    """

    first: int
    second: int


class Child(Parent):
    """A child.

    Args:
        first: Its own.
    """


def test_the_docstring_says_what_each_field_is() -> None:
    assert documentation(Parent) == {"first": "On one line.", "second": "On two lines."}
    assert documentation(Child) == {"first": "Its own.", "second": "On two lines."}


@pytest.mark.parametrize("kind", [Recipe, CalibrationImages, Limits, DiffLimits])
def test_every_field_of_what_the_options_are_made_of_is_documented(kind: type) -> None:
    assert {field.name for field in fields(kind)} <= documentation(kind).keys()


@pytest.mark.parametrize(("module", "kind"), [(verify, Limits), (diff, DiffLimits)])
def test_a_verb_has_an_option_for_each_limit_with_its_default(module: object, kind: type) -> None:
    command = typer.main.get_command(module.app)  # type: ignore[attr-defined]
    helps = {parameter.name: getattr(parameter, "help", "") for parameter in command.params}
    for field in fields(kind):
        shown = "no limit" if field.default is None else f"{field.default:g}"
        assert helps[field.name] == f"{documentation(kind)[field.name]} Default: {shown}."
    assert "limits" in helps


def test_convert_has_the_defaults_of_the_records_and_names_every_precision() -> None:
    parameters = {p.name: p for p in typer.main.get_command(convert.app).params}
    assert parameters["precision"].default == Recipe().precision
    assert parameters["io"].default == Recipe().input_type
    assert parameters["samples"].default == CalibrationImages().samples
    assert parameters["seed"].default == CalibrationImages().seed
    assert all(name in parameters["precision"].help for name in PRECISIONS)  # type: ignore[attr-defined]


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("auc_drop = 0.001\nflips = 0.0\n")
    limits = read_limits(Limits, path, {"flips": 0.02, "auc_drop": None})
    assert limits == Limits(auc_drop=0.001, flips=0.02)
    assert read_limits(Limits, None, {"flips": 0.02}) == Limits(flips=0.02)


def test_options_that_need_or_exclude_each_other() -> None:
    refuse_together("--a", True, "--b", False)
    refuse_alone("--a", False, "--b", False)
    with pytest.raises(ConfigError, match="exclude each other"):
        refuse_together("--a", True, "--b", True)
    with pytest.raises(ConfigError, match="nothing without --b"):
        refuse_alone("--a", True, "--b", False)
