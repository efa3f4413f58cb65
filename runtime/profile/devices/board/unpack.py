"""Fills the folder that it is started in from ``payload.tar`` there.

Takes a line of JSON on standard input: ``word`` that announces the answer, ``imports`` to try in
the end. Uses what ``receive``, which lies beside it, knows of archives and wheels.
"""

from __future__ import annotations

import json
import os
import sys

import receive  # type: ignore[import-not-found]  # it lies beside this file

PAYLOAD = "payload.tar"


def unpack(folder: str) -> None:
    """Take the archive apart, and remove it."""
    with open(PAYLOAD, "rb") as stream:
        receive.fill(folder, stream)
    os.unlink(PAYLOAD)


def main() -> None:
    """Unpack, try, say how it went."""
    os.umask(0o077)
    receive.take(json.loads(sys.stdin.readline()), os.getcwd, unpack, ".")


if __name__ == "__main__":
    main()
