"""A private folder on a phone that goes away, whatever happens.

A script on the phone makes it and then reads its standard input. When that ends, because we close
it, because this program was killed or because the cable was pulled (adb's daemon closes it then),
it ends the processes that were started for us and removes the folder. So the phone cleans up even
where we cannot.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import subprocess
import threading
from pathlib import Path

from edgedf.errors import DeviceError
from edgedf.runtime.profile.devices.adb_client import USABLE, Adb, finish
from edgedf.runtime.profile.devices.adb_errors import not_pushed

__all__ = ["ROOT", "PhoneFolder"]

ROOT = "/data/local/tmp"
"""Where adb's shell may write and run programs."""

_READY, _GONE = "@@ready", "@@gone"
_START_SECONDS, _CLEAN_SECONDS = 15.0, 10.0
_WAIT_FOR_PHONE = 5.0

# Each script of ours leaves a file with its number; adb's daemon starts every script in a session
# of its own, so the number is that of its process group as well. First TERM; when the script is
# gone, or after 1 s, KILL to what is left of its group.
_STOP = """\
for s in TERM KILL; do
  for f in "$d"/pids/*; do
    p=${f##*/}
    [ -e "$f" ] && { kill -$s -$p || kill -$s $p; } 2>/dev/null
  done
  n=0
  while [ $n -lt 10 ]; do
    a=
    for f in "$d"/pids/*; do [ -e "$f" ] && kill -0 ${f##*/} 2>/dev/null && a=1; done
    [ -z "$a" ] && break
    sleep 0.1
    n=$((n+1))
  done
done
"""
# What is being ended may still write.
_CLEAN = f"""\
{_STOP}n=0
while [ $n -lt 10 ]; do
  rm -rf "$d" 2>/dev/null
  [ -e "$d" ] || break
  sleep 0.1
  n=$((n+1))
done
[ -e "$d" ] || echo {_GONE}
"""


class PhoneFolder:
    """Made on construction, removed by :meth:`close`.

    Args:
        adb: The phone.

    Attributes:
        cut: Whether the connection broke before it was removed; known after :meth:`close`.

    Raises:
        DeviceError: It cannot be made.
    """

    def __init__(self, adb: Adb) -> None:
        self._adb = adb
        self.cut = False
        self.path = f"{ROOT}/edgedf-{secrets.token_hex(6)}"
        self._guard: subprocess.Popen[bytes] | None = None
        keep = (
            f"d={shlex.quote(self.path)}\numask 077\n"
            'mkdir "$d" "$d/pids" || exit 1\n'
            f"trap '' HUP INT TERM\necho {_READY}\ncat >/dev/null\n{_CLEAN}"
        )
        self._guard = adb.start(keep)
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def script(self, commands: str) -> str:
        """A script that runs in the folder, and is ended with it."""
        return (
            f"cd {shlex.quote(self.path)} && : >pids/$$ || exit 97\n"
            f"{commands}\ncode=$?\nrm -f {shlex.quote(self.path)}/pids/$$\nexit $code"
        )

    def put(self, file: Path, name: str, needed: int) -> None:
        """Copy a file into the folder.

        Args:
            file: Of this machine.
            name: Its name there.
            needed: Bytes that all files together take, for the message where there is no space.

        Raises:
            Cut: The connection broke.
            DeviceError: The phone is full, or does not take it.
        """
        problem = self._adb.push(file, f"{self.path}/{name}")
        if problem is not None:
            size = max(needed, file.stat().st_size)
            raise not_pushed(self._adb.serial, problem, size, self._free())

    def stop(self) -> None:
        """End what runs there, as far as the phone can be reached."""
        with contextlib.suppress(DeviceError):
            self._adb.run(f'd={shlex.quote(self.path)}\n{_STOP}rm -f "$d"/pids/*')

    def close(self) -> str:
        """End what runs there and remove the folder; safe to call twice.

        Returns:
            Path of the folder if it could not be seen to be gone, else an empty string.
        """
        guard, self._guard = self._guard, None
        if guard is None:
            return ""
        if _GONE in finish(guard, _CLEAN_SECONDS):
            return ""
        self.cut = True
        return "" if self._gone_later() else self.path

    def __enter__(self) -> PhoneFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _free(self) -> int | None:
        """Bytes that are free on the phone."""
        try:
            words = self._adb.run(f"df -k {ROOT} | tail -n 1").output.split()
        except DeviceError:
            return None
        return int(words[3]) * 1024 if len(words) > 3 and words[3].isdigit() else None

    def _gone_later(self) -> bool:
        """The guard was cut off: look again when the phone is back, and clean up there."""
        again = f"d={shlex.quote(self.path)}\n{_CLEAN}"
        pause = threading.Event()
        for _ in range(int(_WAIT_FOR_PHONE / 0.25)):
            if self._adb.state() == USABLE:
                with contextlib.suppress(DeviceError):
                    if _GONE in self._adb.run(again).output:
                        return True
            pause.wait(0.25)
        return False

    def _wait_until_ready(self) -> None:
        guard = self._guard
        assert guard is not None and guard.stdout is not None
        limit = threading.Timer(_START_SECONDS, guard.kill)
        limit.start()
        try:
            first = guard.stdout.readline(2000).decode("utf-8", "replace").strip()
        finally:
            limit.cancel()
        if first == _READY:
            return
        guard.kill()  # whatever runs there may never end
        complaint = (
            guard.stderr.read(2000).decode("utf-8", "replace").strip() if guard.stderr else ""
        )
        raise DeviceError(
            f"No folder could be made in {ROOT} on the phone {self._adb.serial}: "
            f"{complaint or first or 'it does not answer'}.",
            expected="a phone whose adb shell can write there",
            next_step=f"try it by hand: adb -s {self._adb.serial} shell mkdir {ROOT}/try",
        )
