"""Every setting of training, with its default and its range; light to import, for the help.

:func:`edgedf.settings.load_settings` reads them from TOML and from ``key=value``. Keys are also
what checkpoints and ``settings.toml`` of a run hold, so they do not change. A value outside its
range raises :class:`~edgedf.errors.ConfigError`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgedf.errors import ConfigError
from edgedf.settings import check_settings

__all__ = [
    "FACE_SETS",
    "FRAMES",
    "MODALITIES",
    "RESEARCH_LICENCE",
    "SHARP_SETS",
    "Backbone",
    "Device",
    "EvaluationSettings",
    "LoopSettings",
    "PictureSettings",
    "QatLoopSettings",
    "QatSettings",
    "StudentConfig",
    "TeachSettings",
    "TeacherConfig",
    "TrainSettings",
]

Backbone = Literal["lite0", "lite1", "lite2"]
Device = Literal["auto", "cpu", "cuda"]

MODALITIES = ("rgb", "frequency", "defocus")

# Sets that the manifests known so far use for aligned faces and for all-in-focus photographs.
FACE_SETS = ("faces256",)
SHARP_SETS = ("sharp",)

FRAMES = 10
"""Frames of a video that are used unless a caller says otherwise."""

RESEARCH_LICENCE = (
    "research use only: trained on image sets with research-only or unstated licences"
)

# Upper bounds of sizes keep a hostile checkpoint from asking for the whole memory.
_SIDE = "[32, 2048] in steps of 32"
_SOME, _ANY, _POSITIVE = "[1, inf)", "[0, inf)", "(0, inf)"


@dataclass(frozen=True)
class StudentConfig:
    """Architecture of a student.

    Args:
        input_size: Side of the input in pixels, a multiple of 32.
        blocks: Blocks of EfficientNet-Lite0 that are kept, 11 to 16; its 13th is the first that
            looks at the picture at stride 32.
        judged_blocks: How many of the last blocks the fake head looks into.
        decoder_channels: Width of the decoder.
        local_blocks: Blocks of the path from the picture to the map that does not go through the
            frozen encoder; 0 leaves it out.
        high_pass: Whether the encoder sees the picture's fine detail alone; see
            :class:`edgedf.distill.networks.layers.HighPass`.
        int8_weights: Whether convolutions round their weights to 255 levels per output channel, in
            training as later on the device, so that quantizing the weights changes nothing.
    """

    input_size: int = 256
    blocks: int = 11
    judged_blocks: int = 3
    decoder_channels: int = 48
    local_blocks: int = 2
    high_pass: bool = True
    int8_weights: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self,
            {
                _SIDE: "input_size",
                "[11, 16]": "blocks",
                f"[1, {self.blocks}]": "judged_blocks",
                "[1, 2048]": "decoder_channels",
                "[0, 64]": "local_blocks",
            },
        )


@dataclass(frozen=True)
class TeacherConfig:
    """Architecture of a teacher.

    Args:
        modalities: Which branches it has, of :data:`MODALITIES`.
        backbone: Encoder of each branch: ``lite0``, ``lite1`` or ``lite2``.
        first_block: Number of the first block whose inner channels are judged, from 0.
        last_block: Number of the last.
        map_channels: Width of the head for the defocus map; 0 leaves it out.
        map_blocks: Of the head's path from the picture.
    """

    modalities: tuple[str, ...] = MODALITIES
    backbone: Backbone = "lite0"
    first_block: int = 9
    last_block: int = 14
    map_channels: int = 64
    map_blocks: int = 4

    def __post_init__(self) -> None:
        unknown = [name for name in self.modalities if name not in MODALITIES]
        twice = len(set(self.modalities)) < len(self.modalities)
        if unknown or twice or not self.modalities:
            raise ConfigError(
                f"No teacher can be built from the modalities {', '.join(self.modalities) or '-'}.",
                expected=f"one or more of {', '.join(MODALITIES)}, each once",
                next_step="--modalities rgb,frequency,defocus",
            )
        blocks = {"[0, 15]": "last_block", f"[0, {self.last_block}]": "first_block"}
        check_settings(self, {**blocks, "[0, 2048]": "map_channels", "[0, 64]": "map_blocks"})


@dataclass(frozen=True)
class PictureSettings:
    """Which records are made of the training pictures.

    Args:
        crops: Random squares a picture, beside the whole one.
        renderings: Synthetic depths of field a sharp picture.
        self_blends: Self-blends a real face.
        portraits: Portrait-mode copies a real photograph of a set without fakes.
        face_sets: Sets of aligned faces, whose real pictures are blended with themselves.
        sharp_sets: Sets of pictures that are sharp everywhere; they train the map alone.
    """

    crops: int = 1
    renderings: int = 6
    self_blends: int = 1
    portraits: int = 1
    face_sets: tuple[str, ...] = FACE_SETS
    sharp_sets: tuple[str, ...] = SHARP_SETS

    def __post_init__(self) -> None:
        check_settings(self, {_ANY: "crops renderings self_blends portraits"})


@dataclass(frozen=True)
class LoopSettings:
    """How a network is trained, whichever it is.

    Args:
        steps: Optimiser steps.
        batch: Records a step and process.
        weight_decay: Of AdamW.
        warmup: Steps over which the rates rise; a cosine takes them down to zero afterwards.
        average: Decay of the moving average of the weights, which is what is evaluated.
        clip: Largest norm of the gradient.
        evaluate_every: Steps between looks at the validation split.
        patience: Looks without a better score after which training stops; 0 never stops early.
        save_every: Seconds between saves of the state.
        amp: Precision of activations: ``auto`` takes bf16 (or fp16 where the GPU has no bf16) on a
            GPU and none on a CPU, ``off`` float32.
        device: ``auto`` takes a GPU where there is one.
        prefetch: Batches made ahead, a thread each; 0 makes each when it is needed.
        seed: Of everything random.
    """

    steps: int = 1800
    batch: int = 32
    weight_decay: float = 1e-4
    warmup: int = 100
    average: float = 0.995
    clip: float = 5.0
    evaluate_every: int = 200
    patience: int = 0
    save_every: float = 180.0
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    device: Device = "auto"
    prefetch: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        any_ = "weight_decay warmup patience save_every prefetch seed"
        some = "steps batch evaluate_every"
        check_settings(self, {_SOME: some, _ANY: any_, "[0, 1)": "average", _POSITIVE: "clip"})


@dataclass(frozen=True)
class TrainSettings(PictureSettings):
    """Everything the training of a student depends on besides the pictures.

    Args:
        rate: Learning rate of the decoder.
        encoder_rate: Learning rate of the encoder, which learns maps alone; 0 keeps its ImageNet
            weights. Tuned on labels it learns the sources and does worse on others.
        features: Weight of how far the inner features move from where they were, which is what a
            teacher's branch sees; counts where the encoder learns.
        penalty: Of the fake head's weights; see :func:`edgedf.distill.networks.probe.fit_probe`.
        views: How often each record is shown to the fit of the fake head, changed anew each time
            but the first.
        distilled: Share of the teacher's verdict in what the fake head is fitted to, where there is
            a teacher; the rest is the label.
        teacher_maps: Whether the teacher's maps are learned in the place of the physical ones,
            where there is a teacher with a head for the defocus map.
        name: Of the model.
        version: Of the model.
        licence: Of the weights.
        loop: Steps, batch, averaging, early stopping, seed.
        student: Architecture.
    """

    rate: float = 2e-3
    encoder_rate: float = 0.0
    features: float = 1.0
    penalty: float = 3.0
    views: int = 2
    distilled: float = 0.5
    teacher_maps: bool = True
    name: str = "edgedf-student"
    version: str = "0.1.0"
    licence: str = RESEARCH_LICENCE
    loop: LoopSettings = field(default_factory=LoopSettings)
    student: StudentConfig = field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges = {_ANY: "rate encoder_rate features", _SOME: "views", "[0, 1]": "distilled"}
        check_settings(self, {**ranges, _POSITIVE: "penalty"})


@dataclass(frozen=True)
class TeachSettings(PictureSettings):
    """Everything a teacher depends on besides the pictures.

    Args:
        penalty: Of each branch's weights; see :func:`edgedf.distill.networks.probe.fit_probe`.
        input_size: Side of the pictures in pixels, a multiple of 32.
        rate: Learning rate of the head for the defocus map.
        name: Of the teacher.
        licence: Of what it has learned.
        loop: Steps, batch and averaging of that head; device and seed of everything.
        teacher: Architecture. Where no renderings are there to learn from, that head is left out.
    """

    penalty: float = 3.0
    input_size: int = 256
    rate: float = 2e-3
    name: str = "edgedf-teacher"
    licence: str = RESEARCH_LICENCE
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(steps=800, batch=16))
    teacher: TeacherConfig = field(default_factory=TeacherConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self, {_POSITIVE: "penalty rate", _SIDE: "input_size"})


@dataclass(frozen=True)
class QatLoopSettings(LoopSettings):
    """As for any training, with defaults for a short one; arithmetic stays float32."""

    steps: int = 300
    batch: int = 8
    warmup: int = 20
    average: float = 0.98
    evaluate_every: int = 50
    amp: Literal["auto", "off", "bf16", "fp16"] = "off"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.amp != "off":
            raise ConfigError(
                f"Half precision (amp = {self.amp}) is coarser than the steps of int8.",
                expected="amp = off",
                next_step="leave it out",
            )


@dataclass(frozen=True)
class QatSettings:
    """Everything quantization-aware training depends on besides student and pictures.

    Args:
        rate: Learning rate of the weights, as a share of each tensor's root mean square: what is
            near to right already must not be moved by as much where it is small as where it is
            large (as Shazeer & Stern, "Adafactor", ICML 2018).
        range_rate: Learning rate of the ranges, on a logarithmic scale.
        ranges: ``learned`` or ``ema``; see :class:`edgedf.distill.qat.fake_quant.FakeQuantized`.
        equalize: Whether training may start from the student with equalized channels
            (:mod:`edgedf.distill.qat.equalize`): it does where that is nearer on the pictures that
            the score is taken on.
        logit: Weight of the mean absolute error of the logit.
        map: Weight of the mean absolute error of the map, in pixels.
        labels: Weight of the cross-entropy of the logit against the labels, where there are any.
        pictures: At most so many are read of the train split, as many of each set and class.
        judged: Likewise of the val split.
        tested: Likewise of the test split.
        observed: Pictures that the ranges start from.
        loop: Steps, batch, averaging, early stopping, seed.
    """

    rate: float = 1e-5
    range_rate: float = 1e-3
    ranges: Literal["learned", "ema"] = "learned"
    equalize: bool = True
    logit: float = 1.0
    map: float = 1.0
    labels: float = 0.0
    pictures: int = 1024
    judged: int = 128
    tested: int = 512
    observed: int = 64
    loop: QatLoopSettings = field(default_factory=QatLoopSettings)

    def __post_init__(self) -> None:
        any_, some = "rate range_rate map labels logit", "pictures judged tested observed"
        check_settings(self, {_ANY: any_, _SOME: some})
        if not self.map:  # something has to be learned
            check_settings(self, {_POSITIVE: "logit"})


@dataclass(frozen=True)
class EvaluationSettings:
    """What evaluation makes of a data set; a checkpoint carries those of its training.

    Args:
        face_sets: Sets of aligned faces, whose real pictures are blended with themselves.
        sharp_sets: Sets of pictures sharp everywhere, which are rendered with depth of field.
        seed: Of the blends and renderings.
    """

    face_sets: tuple[str, ...] = FACE_SETS
    sharp_sets: tuple[str, ...] = SHARP_SETS
    seed: int = 0
