"""Some damaged inputs of the kinds that are quick to try; the long run is benchmarks/fuzz.py."""

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import mutations
from tests.fuzz.kinds import _seeds, case

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("jpeg", "png", "tflite", "spec", "worker")

# In a process of its own: that of the tests has threads, which a fork breaks.
_SANDBOX = """
import json, os, signal, time
from edgedf.errors import ConfigError
from tests.fuzz import sandbox

sandbox.MEMORY_LIMIT = 150 << 20

def refuse(folder):
    raise ConfigError("no")

def bug(folder):
    raise ValueError("a bug")

def fat(folder):
    return str(len(bytearray(os.urandom(1 << 20) * 200)))

def greedy(folder):
    bytearray(1 << 40)
    return ""

def crash(folder):
    os.kill(os.getpid(), signal.SIGSEGV)
    return ""

def leave(folder):
    os._exit(0)

def slow(folder):
    time.sleep(60)
    return ""

actions = (lambda folder: "", refuse, bug, fat, greedy, crash, leave)
found = [*map(sandbox.run_case, actions), sandbox.run_case(slow, seconds=0.3)]
print(json.dumps([outcome.status for outcome in found]))
"""


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_forbidden_outcome_is_noticed() -> None:
    wanted = ["taken", "refused", "traceback", "memory", "memory", "crash", "crash", "hang"]
    assert json.loads(run("-c", _SANDBOX)) == wanted


def test_damaged_inputs_are_taken_or_refused(tmp_path: Path) -> None:
    arguments = ("--cases", "25", "--seed", "3", "--keep", str(tmp_path), "--json", "--kinds")
    found = json.loads(run("-m", "benchmarks.fuzz", *arguments, *QUICK))
    assert (found["cases"], found["forbidden"]) == (25, 0)
    for name, kind in found["kinds"].items():
        assert kind["outcomes"].get("refused", 0) > 0, name
    # What is noted is not tried again.
    again = json.loads(run("-m", "benchmarks.fuzz", *arguments, *QUICK))
    assert again["kinds"] == found["kinds"]


@pytest.mark.parametrize("name", ["jpeg", "png", "manifest", "profile", "spec", "worker"])
def test_a_case_is_the_same_whenever_it_is_asked_for(name: str) -> None:
    cases = [case(name, number, 0) for number in range(30)]
    assert cases == [case(name, number, 0) for number in range(30)]
    assert len(set(cases)) > 20
    assert case(name, 0, 1) != cases[0]


def test_chunks_are_damaged_below_their_checksums_too() -> None:
    """Else no decoder would look at what is inside."""
    good = _seeds("png")[0]
    damaged = [mutations.damage_png(Random(number), good, [good]) for number in range(60)]
    assert 15 < sum(data != good and _checksums_are_right(data) for data in damaged) < 60


def _checksums_are_right(png: bytes) -> bool:
    at = 8
    while at + 12 <= len(png):
        (size,) = struct.unpack_from(">I", png, at)
        body, check = png[at + 4 : at + 8 + size], png[at + 8 + size : at + 12 + size]
        if check != struct.pack(">I", zlib.crc32(body)):
            return False
        at += size + 12
    return at == len(png)
