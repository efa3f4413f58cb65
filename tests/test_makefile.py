"""What ``make`` says of the Python that it is given."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgedf.cli.doctor import _NEWEST_PYTHON

ROOT = Path(__file__).parents[1]


def check(folder: Path, version: str) -> tuple[int, str]:
    """Run the check with this Python, which says that it is another."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.version_info = ({version}, 0)\n")
    python = folder / "python"
    python.write_text(f"#!/bin/sh\nPYTHONPATH='{folder}' exec '{sys.executable}' \"$@\"\n")
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "-s", "check-python", f"PYTHON={python}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + re.sub(r"(?m)^make.*\n", "", done.stderr)


@pytest.mark.parametrize("version", ["2, 7", "3, 9", "3, 15"])
def test_a_python_without_wheels_is_refused_in_a_line(version: str, tmp_path: Path) -> None:
    code, said = check(tmp_path, version)
    assert code != 0
    newest = ".".join(map(str, _NEWEST_PYTHON))
    assert said == (
        f"edgedf's packages have wheels for Python 3.10 to {newest}, not for Python "
        f"{version.replace(', ', '.')}: make convert PYTHON=python3.11, or another of them\n"
    )


def test_an_older_package_is_announced_in_a_line(tmp_path: Path) -> None:
    assert check(tmp_path, "3, 10") == (
        0,
        "Python 3.10 has no wheel of onnxruntime 1.32.0: an older one is used\n",
    )
    pinned = (ROOT / "constraints.txt").read_text()
    assert "onnxruntime==1.32.0; python_version >= '3.11'" in pinned


@pytest.mark.parametrize("version", ["3, 11", "3, 13", "3, 14"])
def test_others_are_taken_without_a_word(version: str, tmp_path: Path) -> None:
    assert check(tmp_path, version) == (0, "")


def test_the_pythons_that_the_package_names_are_among_them() -> None:
    named = re.findall(r"Python :: 3\.(\d+)", (ROOT / "pyproject.toml").read_text())
    assert [int(minor) for minor in named] == [10, 11, 12, 13]
    assert f"3.{named[-1]}" in (ROOT / "README.md").read_text()
