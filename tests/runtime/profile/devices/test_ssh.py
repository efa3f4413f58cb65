"""Measuring over SSH, against a real server; and all that can go wrong."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edgedf.sample
from edgedf.errors import ConfigError, DeviceError
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.ssh import SshDevice
from edgedf.runtime.profile.events import Block, Event, Finished, Started
from edgedf.runtime.profile.request import Effort
from tests.runtime.profile.devices.sshd import USER, Board, running_board
from tests.runtime.tiny import write_tiny

SHORT = Effort(
    queries=8,
    seconds=0.05,
    warm_up_seconds=0.05,
    cold_starts=0,
    pipeline_queries=0,
    operator_queries=0,
)
LONG = Effort(10**6, 600.0, 0.05, 0, 0, 0)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    with running_board(tmp_path) as board:
        yield board


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny(tmp_path, "tflite")


def job(model: Path, effort: Effort = SHORT) -> Job:
    smallest = sorted(
        (picture.path for picture in edgedf.sample.images()), key=lambda path: path.stat().st_size
    )
    return Job((model,), (smallest[0],), (1,), effort)


def clean(board: Board) -> bool:
    """Whether nothing is left, now or in a moment: what we start there cleans up by itself."""
    for _ in range(100):
        if not board.left():
            return True
        time.sleep(0.05)
    return False


def interrupted(
    board: Board, device: SshDevice, model: Path, action: Callable[[], object]
) -> tuple[BaseException, list[Event]]:
    """Do something once the board measures; what became of the run."""
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Block) and len(events) < 100:
            events.extend([event] * 100)  # the action is taken once
            action()

    with pytest.raises((DeviceError, KeyboardInterrupt)) as caught:
        device.run(job(model, LONG), emit)
    # What had been measured is here, and the run is known to be cut off.
    assert any(isinstance(event, Started) for event in events)
    assert any(isinstance(event, Block) for event in events)
    assert not any(isinstance(event, Finished) for event in events)
    return caught.value, events


def test_a_board_is_measured_and_left_clean(board: Board, model: Path) -> None:
    # By an alias, through a login shell that talks.
    (board.folder / "config").write_text(
        f"Host pi\nHostName 127.0.0.1\nPort {board.port}\nUser {USER}\n"
        f"IdentityFile {board.folder / 'id'}\n"
    )
    (board.home / ".bashrc").write_text("echo Welcome; echo {}; echo oops >&2\n")
    device = board.device(config=board.folder / "config", identity=None, target="ssh:pi")
    assert device.name == "ssh:pi"
    events: list[Event] = []
    device.run(job(model), events.append)
    assert isinstance(events[-1], Finished)
    (started,) = (event for event in events if isinstance(event, Started))
    assert started.machine.edgedf == edgedf.__version__
    assert any(isinstance(event, Block) for event in events)
    assert clean(board)


def test_a_lost_connection_is_noticed_and_the_board_cleaned(board: Board, model: Path) -> None:
    def cut() -> None:
        for session in board.sessions():
            os.kill(session, signal.SIGKILL)

    error, _ = interrupted(board, board.device(), model, cut)
    assert "connection to" in str(error) and "was lost" in str(error)
    assert "what had been measured was kept" in str(error)
    assert clean(board)


def test_a_connection_that_hangs_is_noticed(board: Board, model: Path) -> None:
    def freeze() -> None:
        for session in board.sessions():
            os.kill(session, signal.SIGSTOP)

    device = board.device("ServerAliveInterval=1", "ServerAliveCountMax=1")
    error, _ = interrupted(board, device, model, freeze)
    assert "was lost" in str(error)
    assert clean(board)


def test_a_board_that_never_comes_back_cleans_itself(board: Board, model: Path) -> None:
    error, _ = interrupted(board, board.device(), model, board.stop)
    assert "was lost" in str(error) and str(board.home) in str(error)
    assert clean(board)


def test_a_killed_worker_is_told(board: Board, model: Path) -> None:
    def kill() -> None:
        (worker,) = board.workers()
        os.kill(worker, signal.SIGKILL)

    error, _ = interrupted(board, board.device(), model, kill)
    assert "SIGKILL" in str(error) and "memory" in str(error)
    assert clean(board)


def test_ctrl_c_leaves_nothing(board: Board, model: Path) -> None:
    error, _ = interrupted(board, board.device(), model, lambda: signal.raise_signal(signal.SIGINT))
    assert isinstance(error, KeyboardInterrupt)
    assert not board.left()


_ASKER = """
import sys
from pathlib import Path
from tests.runtime.profile.devices import sshd, test_ssh
from edgedf.runtime.profile.devices.ssh import SshDevice
board = sshd.Board(Path(sys.argv[1]), int(sys.argv[2]), None, None)
board.device().run(
    test_ssh.job(Path(sys.argv[3]), test_ssh.LONG),
    lambda event: print(type(event).__name__, flush=True),
)
"""


def test_when_the_asker_is_killed_the_board_cleans_itself(board: Board, model: Path) -> None:
    asker = subprocess.Popen(
        [sys.executable, "-c", _ASKER, board.folder, str(board.port), model],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[4],
    )
    assert asker.stdout is not None
    for line in asker.stdout:
        if line == b"Block\n":
            break
    asker.kill()
    asker.communicate()
    assert board.sessions() is not None and clean(board)


def refused(device: SshDevice, model: Path) -> str:
    with pytest.raises(DeviceError) as caught:
        device.run(job(model), lambda event: pytest.fail(f"{event} before a login"))
    assert caught.value.expected and caught.value.next_step
    return str(caught.value)


def test_a_refused_key(board: Board, model: Path) -> None:
    key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", board.folder / "other"]
    subprocess.run(key, check=True)
    said = refused(board.device(identity=board.folder / "other"), model)
    assert f"does not let us in as {USER}" in said and "ssh-copy-id" in said
    assert not board.left()


def test_an_unknown_and_a_wrong_host_key(board: Board, model: Path) -> None:
    known = board.folder / "known_hosts"
    known.write_text("")
    said = refused(board.device(), model)
    assert "is not known here" in said and f"ssh -p {board.port}" in said
    other = (board.folder / "id.pub").read_text()
    known.write_text(f"[127.0.0.1]:{board.port} {other}")
    said = refused(board.device(), model)
    assert "another host key than the one on record" in said
    assert f"ssh-keygen -R '[127.0.0.1]:{board.port}'" in said
    assert not board.left()


def test_a_closed_port_and_no_such_host(board: Board, model: Path) -> None:
    board.stop()
    said = refused(board.device(), model)
    assert f"Nothing listens for SSH on 127.0.0.1 at port {board.port}" in said
    said = refused(board.device(target="nobody@no-such-host.invalid"), model)
    assert "no machine with the name no-such-host.invalid" in said


def test_no_client(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "no ssh on this machine" in refused(SshDevice("pi@raspberrypi"), model)
    with pytest.raises(ConfigError):
        SshDevice("ssh:pi@")


def test_no_python_there(board: Board, model: Path) -> None:
    said = refused(board.device(python="/nonexistent/python3"), model)
    assert "/nonexistent/python3" in said and "is not there" in said
    assert not board.left()


def test_packages_that_are_missing_there_and_here(
    board: Board, model: Path, tmp_path: Path
) -> None:
    bare, wheels = tmp_path / "bare", tmp_path / "wheels"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True, timeout=60)
    wheels.mkdir()
    with pytest.raises(DeviceError) as caught:
        device = board.device(python=str(bare / "bin" / "python"), wheels=wheels)
        device.run(job(model), lambda event: None)
    version = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    assert "no wheel of numpy" in str(caught.value) and version in str(caught.value)
    assert "pip download" in caught.value.next_step
    assert not board.left()


def test_a_board_that_becomes_full(tmp_path: Path, model: Path) -> None:
    with running_board(tmp_path, largest=100_000) as board:
        big = tmp_path / "big.jpg"
        big.write_bytes(bytes(200_000))
        asked = job(model)
        with pytest.raises(DeviceError, match="is full") as caught:
            board.device().run(Job(asked.models, (big,), (1,), SHORT), lambda event: None)
        assert "are needed in" in str(caught.value) and "are free" in str(caught.value)
        assert clean(board)


def test_a_board_that_is_too_small(tmp_path: Path, model: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small]
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small file system")
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system: {done.stderr.decode().strip()}")
    try:
        with running_board(tmp_path, home=small) as board:
            with pytest.raises(DeviceError, match="is full") as caught:
                board.device().run(job(model), lambda event: None)
            assert "4.2 MB are free" in str(caught.value)
            assert not board.left()
    finally:
        subprocess.run(["umount", small], check=True)
