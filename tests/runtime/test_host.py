import platform
from pathlib import Path

import pytest

import edgedf
from edgedf.runtime import host
from edgedf.runtime.host import this_host


def test_a_host_is_named() -> None:
    found = this_host()
    assert found.cpu
    assert found.system == platform.platform()
    assert found.python == platform.python_version()
    assert found.edgedf == edgedf.__version__
    assert found.cores is None or found.cores > 0


def test_the_processors_name_comes_from_linux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: another\n")
    monkeypatch.setattr(host, "_CPU_INFO", told)
    assert this_host().cpu == "Some CPU @ 2 GHz"


def test_a_system_without_that_file_gives_what_python_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_CPU_INFO", tmp_path / "none")
    assert this_host().cpu == (platform.processor() or platform.machine())
