"""Training pictures made from real photographs: aligned fakes, and reals that phones blur.

The autoencoder is left out here, as it imports torch.
"""

from __future__ import annotations

from edgedf.distill.fakes.blend import (
    ALIGNED_FACE_CENTRE,
    ALIGNED_FACE_EXTENT,
    blob_mask,
    self_blend,
)

__all__ = ["ALIGNED_FACE_CENTRE", "ALIGNED_FACE_EXTENT", "blob_mask", "self_blend"]
