"""The process that calls LiteRT's C library; see ``timing``.

Run as ``python -m edgedf.formats.tflite.timing_child MODEL IMAGES CONFIGURATION THREADS
QUERIES``: IMAGES is a ``.npy`` of uint8, (n, height, width, 3). It writes one event.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedf import typed_json
from edgedf.errors import EdgedfError
from edgedf.formats.tflite.timing import measure

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
    print(json.dumps(typed_json.encode(event)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
