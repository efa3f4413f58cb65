"""Data sets of several layouts as the same list of samples; a module a layout."""

from __future__ import annotations

from edgedf.distill.datasets.celebdf import read_celebdf
from edgedf.distill.datasets.cifake import read_cifake
from edgedf.distill.datasets.diffusiondb import read_coco, read_diffusiondb, read_diffusiondb_coco
from edgedf.distill.datasets.faceforensics import read_faceforensics
from edgedf.distill.datasets.folders import read_folders
from edgedf.distill.datasets.opening import LAYOUTS, detect_layout, open_dataset
from edgedf.distill.datasets.readable import readable

__all__ = [
    "LAYOUTS",
    "detect_layout",
    "open_dataset",
    "read_celebdf",
    "read_cifake",
    "read_coco",
    "read_diffusiondb",
    "read_diffusiondb_coco",
    "read_faceforensics",
    "read_folders",
    "readable",
]
