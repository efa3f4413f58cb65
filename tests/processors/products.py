"""Products of bytes as ONNX Runtime computes them. Started on other processors.

    python products.py MODEL.onnx INPUT.npy > PRODUCTS.npz

``exact`` is what a session of edgedf's gives, ``plain`` what it gives without the session option
that edgedf sets where the processor needs it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgedf.formats.onnx import session as onnx_session


def main() -> None:
    model, feed = Path(sys.argv[1]).read_bytes(), {"x": np.load(sys.argv[2])}
    (exact,) = onnx_session.open_session(model).run(None, feed)
    onnx_session.int8_kernels = lambda: "exact"  # type: ignore[assignment]
    (plain,) = onnx_session.open_session(model).run(None, feed)
    np.savez(sys.stdout.buffer, exact=exact, plain=plain)


if __name__ == "__main__":
    main()
