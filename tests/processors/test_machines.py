"""What is hidden stays hidden, and nothing else changes."""

from __future__ import annotations

import re
import signal
from dataclasses import replace

import pytest

from tests.processors import machines
from tests.processors.machines import PROCESSORS, Machine, start

_FOUND = (
    "import numpy; "
    'print(numpy.show_config(mode="dicts")["SIMD Extensions"].get("found"), flush=True)'
)


@pytest.fixture
def masked() -> Machine:
    machine = start("sse4")
    if not machine.environment.get("CPUID_HIDE"):
        pytest.skip("this processor is not masked")
    return machine


def test_a_process_started_from_a_masked_one_is_masked(masked: Machine) -> None:
    here = start("native").run("-c", _FOUND).stdout
    assert b"X86_V3" in here  # else there is nothing to hide
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_FOUND!r}])"
    for code in (_FOUND, child):
        assert b"X86" not in masked.run("-c", code).stdout


def test_a_fault_of_the_programs_own_goes_where_it_went_before(masked: Machine) -> None:
    fault = "import ctypes; ctypes.string_at(0)"
    plain = masked.try_to_run("-c", fault)
    assert plain.returncode == -signal.SIGSEGV
    assert plain.stderr == b""
    # With a handler of the program's, CPUID still works and the fault is reported.
    watched = masked.try_to_run("-X", "faulthandler", "-c", f"{_FOUND}; {fault}")
    assert watched.returncode == -signal.SIGSEGV
    assert b"X86" not in watched.stdout and watched.stdout
    assert b"Fatal Python error: Segmentation fault" in watched.stderr
    sent = masked.try_to_run("-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert sent.returncode == -signal.SIGSEGV


def test_a_mask_that_cannot_be_read_ends_the_process(masked: Machine) -> None:
    wrong = replace(masked, environment={**masked.environment, "CPUID_HIDE": "7:0:ff"})
    done = wrong.try_to_run("-c", "print('unmasked')")
    assert done.returncode == 79
    assert done.stdout == b""
    assert b"LEAF:SUBLEAF" in done.stderr


def test_what_cannot_be_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_flags", lambda: {"avx2", "fma", "avx"})
    # A processor that lacks it anyway needs no mask.
    assert start("avx2").environment == {}
    with pytest.raises(pytest.skip.Exception, match=r"no avx512bw, .* and qemu has no AVX-512"):
        start("avx512")
    monkeypatch.setattr(machines, "_why_no_mask", lambda processor: "no mask")
    monkeypatch.setattr(machines.shutil, "which", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match=re.escape("no qemu-x86_64-static")):
        start("sse4")


def test_every_feature_that_is_named_can_be_hidden() -> None:
    for processor in PROCESSORS.values():
        assert processor.lacks <= machines._FEATURES.keys()
        assert not processor.lacks & processor.has
