import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import pytest

from edgedf import decoder_warnings
from edgedf.decoder_warnings import with_warnings
from tests.runtime.pictures import damaged, encoded, noise

Captured = pytest.CaptureFixture[str]

GOOD, DAMAGED = encoded(noise(64, 64), "JPEG"), damaged(encoded(noise(64, 64), "JPEG"))

pytestmark = pytest.mark.skipif(
    decoder_warnings._capture() is None, reason="C's stderr cannot be assigned here"
)


def decode(data: bytes) -> tuple[str, ...]:
    pixels, said = with_warnings(
        lambda: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    )
    assert pixels is not None
    return said


def test_what_a_decoder_says_is_heard_and_not_printed(capfd: Captured) -> None:
    assert decode(GOOD) == ()
    assert decode(DAMAGED) == ("Corrupt JPEG data: premature end of data segment",)
    assert capfd.readouterr() == ("", "")


def test_threads_hear_their_own_decoder_alone() -> None:
    wanted = [index % 7 == 0 for index in range(300)]
    with ThreadPoolExecutor(6) as pool:
        said = pool.map(lambda bad: decode(DAMAGED if bad else GOOD), wanted)
    assert [bool(lines) for lines in said] == wanted


def test_threads_that_start_together_share_one_capture(
    monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    opened = []

    def slowly(*arguments: object) -> IO[bytes]:
        opened.append(arguments)
        time.sleep(0.02)
        return open_file(*arguments)  # type: ignore[call-overload,no-any-return]

    open_file = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", slowly)
    decoder_warnings._capture.cache_clear()
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(decode, [DAMAGED] * 12))
    assert len(opened) == 1
    print_natively(b"later\n")
    assert capfd.readouterr().err == "later\n"


def print_natively(text: bytes) -> None:
    libc = ctypes.CDLL(None)
    libc.fputs(text, ctypes.c_void_p.in_dll(libc, "stderr"))


def test_others_lines_are_passed_on(capfd: Captured) -> None:
    """What other native code, Python or a child process prints meanwhile is not swallowed."""

    def work() -> None:
        print_natively(b"from C\n")
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'child\\n')"], check=True)
        os.write(2, b"Python\n")

    assert with_warnings(work) == (None, ())
    print_natively(b"later\n")
    said = capfd.readouterr().err.splitlines()
    assert {"from C", "child", "Python", "later"} == set(said)


def test_an_error_ends_the_listening(capfd: Captured) -> None:
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        with_warnings(fail)
    print_natively(b"heard\n")
    assert capfd.readouterr().err == "heard\n"


# In a process of its own: one that has loaded JAX, as other tests do, must not fork.
FORKING = """
import os, threading, warnings
from edgedf.decoder_warnings import with_warnings
from tests.contract.test_decoder_warnings import DAMAGED, GOOD, decode, print_natively

warnings.simplefilter("ignore", DeprecationWarning)  # threads and a fork

def fork():
    child = os.fork()
    if child:
        found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return
    code = 1
    try:
        print_natively(b"child\\n")
        code = 0 if decode(DAMAGED) and not decode(GOOD) else 2
    finally:
        os._exit(code)

found = []
inside, over = threading.Event(), threading.Event()

def decode_long():  # outside of OpenCV, whose own locks do not survive a fork
    inside.set()
    over.wait()

thread = threading.Thread(target=with_warnings, args=(decode_long,))
thread.start()
inside.wait()
with_warnings(fork)
over.set()
thread.join()
print(found)
"""


def test_a_child_forked_meanwhile_listens_for_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[0]\n"
    assert "child" in done.stderr


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "platform", "win32")
    decoder_warnings._capture.cache_clear()
    yield
    decoder_warnings._capture.cache_clear()


@pytest.mark.usefixtures("elsewhere")
def test_where_nothing_can_be_heard_pictures_are_decoded_all_the_same(capfd: Captured) -> None:
    assert decode(DAMAGED) == ()
    assert "Corrupt JPEG data" in capfd.readouterr().err
