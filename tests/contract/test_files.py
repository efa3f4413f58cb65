import codecs
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from edgedf.errors import OutputError
from edgedf.files import (
    atomic_path,
    check_target,
    open_text,
    scratch_folder,
    sha256_of,
    write_bytes,
    write_text,
)


def test_the_file_appears_whole_and_nothing_else_does(tmp_path: Path) -> None:
    target = write_bytes(tmp_path / "new" / "a.bin", b"abc")
    assert target.read_bytes() == b"abc"
    assert [p.name for p in target.parent.iterdir()] == ["a.bin"]


def test_a_failure_keeps_what_was_there_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_temporary_file_keeps_the_suffix_and_the_folder(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "model.tflite") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".tflite"
        temporary.write_bytes(b"")


def test_a_target_is_checked_without_being_touched(tmp_path: Path) -> None:
    target = write_text(tmp_path / "a.txt", "old")
    check_target(target)
    check_target(tmp_path / "new" / "b.txt")
    assert target.read_text() == "old"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.txt", "new"]
    with pytest.raises(OutputError, match="new: is a folder"):
        check_target(tmp_path / "new")


def test_a_file_where_a_folder_is_needed_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write") as caught:
        write_bytes(tmp_path / "file" / "a.bin", b"")
    assert caught.value.next_step


def test_a_folder_at_the_final_name_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_bytes(tmp_path / "a.bin", b"")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_clear_error_and_the_old_file_stays(tmp_path: Path) -> None:
    target = write_bytes(tmp_path / "a.bin", b"old")
    with (
        pytest.raises(OutputError, match="No space left"),
        atomic_path(target),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"new")
    assert target.read_bytes() == b"old"


def test_a_link_stays_a_link_and_a_device_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to("real.txt")
    write_text(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="not a file"):
        write_text(pipe, "")
    assert pipe.is_fifo()


def test_a_reader_that_left_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), atomic_path(tmp_path / "a.csv"):
        raise BrokenPipeError
    assert not list(tmp_path.iterdir())


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    reference = tmp_path / "plain"
    reference.write_text("")
    written = write_text(tmp_path / "ours", "")
    assert written.stat().st_mode == reference.stat().st_mode


def test_sha256_of_file_and_bytes_agree(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    assert sha256_of(write_bytes(tmp_path / "a", data)) == sha256_of(data)
    assert sha256_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("text", ["", "a", "größe,ok\r\n"])
def test_text_is_the_same_with_and_without_a_byte_order_mark(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.txt"
    for mark in (b"", codecs.BOM_UTF8):
        path.write_bytes(mark + text.encode())
        with open_text(path, newline="") as stream:
            assert stream.read() == text
        with open_text(path) as stream:
            assert stream.read() == text.replace("\r\n", "\n")


@pytest.mark.parametrize("data", ["a,b".encode("utf-16"), "a,b".encode("utf-16-be"), b"\xff\xfe"])
def test_text_in_utf_16_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(UnicodeError, match="UTF-16"), open_text(path):
        pass


def test_a_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(codecs.BOM_UTF8 + b"steps = 3\n",))
    writer.start()
    with open_text(pipe) as stream:
        assert stream.read() == "steps = 3\n"
    writer.join()


_MAKES = """
import sys, time
from pathlib import Path
from edgedf.files import atomic_path, scratch_folder
with atomic_path(Path(sys.argv[1]) / "a.bin") as file, scratch_folder(sys.argv[1]) as folder:
    file.write_bytes(b"half")
    (folder / "inside").write_bytes(b"more")
    print("made", flush=True)
    time.sleep(60)
"""
_WRITES = """
import sys
from pathlib import Path
from edgedf.files import scratch_folder, write_bytes
write_bytes(Path(sys.argv[1]) / "a.bin", b"whole")
with scratch_folder(sys.argv[1]):
    pass
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_live_one_holds_is_kept(
    tmp_path: Path,
) -> None:
    def names() -> list[str]:
        return sorted(path.name.rpartition("-")[0] for path in tmp_path.iterdir())

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _MAKES, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "made\n"
        return process

    def write() -> None:
        subprocess.run([sys.executable, "-c", _WRITES, str(tmp_path)], check=True)

    with start() as killed, start() as alive:
        killed.kill()
        killed.wait()
        assert names() == [".edgedf-part", ".edgedf-part", "edgedf-scratch", "edgedf-scratch"]
        write()
        assert names() == ["", ".edgedf-part", "edgedf-scratch"]
        assert (tmp_path / "a.bin").read_bytes() == b"whole"
        alive.kill()
        alive.wait()
        write()
        assert names() == [""]


def test_a_link_that_looks_like_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "edgedf-scratch-abcdefgh").symlink_to("precious")
    with scratch_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o077 == 0
    assert (tmp_path / "precious").is_dir()


def test_what_libraries_put_into_the_folder_for_temporary_files_can_be_caught(
    tmp_path: Path,
) -> None:
    before = tempfile.gettempdir()
    with scratch_folder(tmp_path, for_libraries=True) as folder:
        assert Path(tempfile.mkdtemp(prefix="ort.quant.")).parent == folder
    assert tempfile.gettempdir() == before
    assert not list(tmp_path.iterdir())
