"""The process that calls LiteRT's C library; see ``tflite``.

Run as ``python -m edgedf.runtime.profile.operators.tflite_child MODEL IMAGES CONFIGURATION THREADS
QUERIES``: IMAGES is a ``.npy`` of uint8, (n, height, width, 3). It writes one event.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedf.errors import EdgedfError
from edgedf.runtime.profile.events import to_line
from edgedf.runtime.profile.operators.tflite import measure

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Time the operators and write the event to standard output.

    Args:
        arguments: As above, without the program.

    Returns:
        Exit status: 0, or 1 with the reason as the last line on standard error.
    """
    model, images, configuration, threads, queries = arguments
    try:
        event = measure(
            int(configuration),
            Path(model).read_bytes(),
            int(threads),
            list(np.load(images, allow_pickle=False)),
            int(queries),
        )
    except EdgedfError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(to_line(event), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
