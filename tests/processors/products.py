"""Products of bytes as ONNX Runtime computes them. Started on other processors.

    python products.py MODEL.onnx INPUT.npy {plain,exact} > PRODUCTS.npy

``plain`` leaves the session option away that edgedf sets where the processor needs it; ``exact``
has edgedf decide.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgedf.runtime.backends import onnx_session


def main() -> None:
    model, bright, way = sys.argv[1:]
    if way == "plain":
        onnx_session.int8_kernels = lambda: "exact"  # type: ignore[assignment]
    session = onnx_session.open_session(Path(model).read_bytes())
    (found,) = session.run(None, {"x": np.load(bright)})
    np.save(sys.stdout.buffer, found)


if __name__ == "__main__":
    main()
