"""What model files give on prepared pictures. Started on other processors; Python 3.9 does.

    python outputs.py IMAGES.npy MODEL… > OUTPUTS.npz

``IMAGES.npy`` is uint8 (n, side, side, 3). For the model at each index ``OUTPUTS.npz`` has
``<index> logit`` (n,) and ``<index> map`` (n, side / 4, side / 4); ``simd`` has what NumPy finds
that the processor can do, and ``kernels`` what edgedf finds of ONNX Runtime's int8.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgedf.formats import open_backend
from edgedf.formats.onnx.session import int8_kernels


def main() -> None:
    images = np.load(sys.argv[1])
    outputs = {
        "simd": np.array(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []), str),
        "kernels": np.array(int8_kernels()),
    }
    for index, name in enumerate(sys.argv[2:]):
        path = Path(name)
        backend = open_backend(path.read_bytes(), path.suffix[1:])  # type: ignore[arg-type]
        found = [backend.run(image) for image in images]
        outputs[f"{index} logit"] = np.array([logit for logit, _ in found])
        outputs[f"{index} map"] = np.stack([dense for _, dense in found])
    np.savez(sys.stdout.buffer, **outputs)


if __name__ == "__main__":
    main()
