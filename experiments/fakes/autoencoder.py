"""Photographs through a tiny latent autoencoder: the same picture with a decoder's marks.

Structure of TAEF2 (madebyollin/taesd, MIT): a small autoencoder distilled from the one that the
FLUX.2 latent-diffusion model uses. A photograph that was encoded and decoded keeps its content and
carries what every picture of such a generator carries, the traces of the decoder. Detectors
trained on such pairs have nothing else to learn (Rajan et al., "Aligned Datasets Improve Detection
of Latent Diffusion-Generated Images", ICLR 2025).

The weights are not part of edgedf; :meth:`Autoencoder.load` reads them from two files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from edgedf.errors import CheckpointError, DataError

__all__ = ["LATENT_CHANNELS", "MAX_FILE_BYTES", "MAX_PIXELS", "STRIDE", "Autoencoder"]

LATENT_CHANNELS = 32

STRIDE = 8
"""Picture pixels per latent."""

MAX_FILE_BYTES = 64 * 1024 * 1024

MAX_PIXELS = 1 << 22
"""Of one picture; one needs about 1 kB a pixel while it is decoded."""

# Wider than this is a wrong file, or a hostile one.
_MAX_WIDTH = 512
_GROUPS = 4


class Autoencoder(nn.Module):
    """Encoder to :data:`LATENT_CHANNELS` channels at 1/:data:`STRIDE`, and decoder back to RGB.

    Both are flat sequences, so the keys of their weights are those of the published files.

    Args:
        width: Channels of every inner layer; the published weights have 64.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.encoder = _encoder(width)
        self.decoder = _decoder(width)

    @classmethod
    def load(cls, encoder_path: str | Path, decoder_path: str | Path) -> Autoencoder:
        """Read the weights of both halves. Nothing in the files is executed.

        Args:
            encoder_path: A ``.safetensors`` file, float16 or float32.
            decoder_path: Likewise.

        Returns:
            The autoencoder in float32, in evaluation mode, its weights frozen.

        Raises:
            CheckpointError: A file is missing, too large, not safetensors or cut off, or its
                weights are not those of this structure or not finite.
        """
        encoder, decoder = _read(Path(encoder_path)), _read(Path(decoder_path))
        first = encoder.get("0.weight")
        width = len(first) if first is not None and first.ndim == 4 else 64
        model = cls(width if 1 <= width <= _MAX_WIDTH else 64)
        _fill(model.encoder, encoder, Path(encoder_path), "encoder")
        _fill(model.decoder, decoder, Path(decoder_path), "decoder")
        convert_conv2d_weight_memory_format(model, torch.channels_last)
        return model.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Encode and decode.

        Args:
            x: float32 RGB in [0, 1], (N, 3, H, W); H and W multiples of :data:`STRIDE`.

        Returns:
            The same shape and range.
        """
        return self.decoder(self.encoder(x)).clamp(0, 1)

    def reconstruct(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Photographs as the autoencoder gives them back.

        Each goes through on its own, so a picture's result does not depend on its batch. Sides
        that are no multiple of :data:`STRIDE` are continued by reflection at the bottom and right,
        and cropped again.

        Args:
            images: uint8 RGB, (N, H, W, 3), sides of at least :data:`STRIDE`.

        Returns:
            uint8 RGB, (N, H, W, 3).

        Raises:
            DataError: Another shape or type, or pictures too small or above :data:`MAX_PIXELS`.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise DataError(
                f"Cannot encode {images.dtype} of shape {images.shape}.",
                expected="uint8 RGB, (N, height, width, 3)",
                next_step="pass image[np.newaxis] for a single picture",
            )
        height, width = images.shape[1:3]
        if min(height, width) < STRIDE or height * width > MAX_PIXELS:
            raise DataError(
                f"Cannot encode pictures of {width} x {height} pixels.",
                expected=f"sides of at least {STRIDE} and at most {MAX_PIXELS} pixels in all",
                next_step="crop or scale the photograph first",
            )
        done = np.empty_like(images)
        bottom, right = -height % STRIDE, -width % STRIDE
        weight = next(self.parameters())
        with torch.inference_mode():
            for image, out in zip(images, done, strict=True):
                x = torch.from_numpy(np.array(image)).to(weight.device, weight.dtype) / 255
                # A view of (H, W, 3) as (1, 3, H, W) is channels_last already.
                x = x.permute(2, 0, 1).unsqueeze(0)
                y = self(F.pad(x, (0, right, 0, bottom), mode="reflect"))
                y = (y[0, :, :height, :width] * 255).round().to(torch.uint8)
                out[:] = y.permute(1, 2, 0).cpu().numpy()
        return done


class _Block(nn.Module):
    """Three 3 x 3 convolutions around a residual; with ``gated``, a gate on its input first."""

    def __init__(self, width: int, *, gated: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(width, width),
            nn.ReLU(),
            _conv(width, width),
            nn.ReLU(),
            _conv(width, width),
        )
        # The group normalisation sees the whole picture: it carries what is global.
        self.pool = (
            nn.Sequential(
                nn.Conv2d(width, 4 * width, 1, bias=False),
                nn.GroupNorm(_GROUPS, 4 * width),
                nn.ReLU(),
                nn.Conv2d(4 * width, width, 1, bias=False),
            )
            if gated
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(x + self.conv(x))


class _SoftClamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


def _encoder(width: int) -> nn.Sequential:
    layers: list[nn.Module] = [_conv(3, width), _Block(width)]
    for gated in (False, False, True):
        layers.append(_conv(width, width, stride=2, bias=False))
        layers += [_Block(width, gated=gated) for _ in range(3)]
    return nn.Sequential(*layers, _conv(width, LATENT_CHANNELS))


def _decoder(width: int) -> nn.Sequential:
    layers: list[nn.Module] = [_SoftClamp(), _conv(LATENT_CHANNELS, width), nn.ReLU()]
    layers += [_Block(width, gated=True) for _ in range(3)]
    for blocks in (3, 3, 1):
        layers += [nn.Upsample(scale_factor=2, mode="nearest"), _conv(width, width, bias=False)]
        layers += [_Block(width) for _ in range(blocks)]
    return nn.Sequential(*layers, _conv(width, 3))


def _conv(inputs: int, outputs: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError(22, "it is not a file")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise CheckpointError(
                f"{path} has {size / 1e6:.0f} MB.",
                expected=f"half an autoencoder, of at most {MAX_FILE_BYTES / 1e6:.0f} MB",
                next_step="name the files of TAEF2's encoder and decoder",
            )
        return dict(load_file(path))
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path} is no safetensors file, or is cut off: {error}.",
            expected="weights of the autoencoder as .safetensors; a pickle is never loaded",
            next_step="copy or download it again",
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"Cannot read the weights {path}: {error.strerror or error}.",
            expected="a .safetensors file",
            next_step="check the path and its permissions",
        ) from error


def _fill(module: nn.Sequential, found: Mapping[str, Tensor], path: Path, half: str) -> None:
    wanted = module.state_dict()
    odd = sorted(set(wanted) ^ set(found))
    if odd:
        state = "lacks" if odd[0] in wanted else "has the unknown"
        raise CheckpointError(
            f"{path} is no {half} of this structure: it {state} {odd[0]}"
            f"{f', and {len(odd) - 1} more differ' * (len(odd) > 1)}.",
            expected=f"{len(wanted)} tensors, those of TAEF2's {half}",
            next_step="pass the encoder first and the decoder second",
        )
    for name, tensor in wanted.items():
        given = found[name]
        if given.shape != tensor.shape or given.dtype not in (torch.float16, torch.float32):
            raise CheckpointError(
                f"{name} in {path} is {given.dtype} {tuple(given.shape)}.",
                expected=f"float16 or float32 {tuple(tensor.shape)}",
                next_step="use an encoder and a decoder of the same width",
            )
        if not torch.isfinite(given).all():
            raise CheckpointError(
                f"{name} of {path} holds values that are not finite.",
                expected="finite weights",
                next_step="copy or download it again",
            )
    module.load_state_dict({name: tensor.float() for name, tensor in found.items()})
