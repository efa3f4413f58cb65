"""The card that goes with a student's weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgedf import typed_json
from edgedf.distill.datasets.dataset import SPLITS, Sample
from edgedf.distill.networks.student import Student
from edgedf.result import Threshold
from edgedf.spec import Accuracy, Training

__all__ = ["model_card"]

_LIMITS = """\
## What it cannot do

- **It is weak on sources it has not seen.** The figures above are for pictures of the same sources
  as the training pictures. On other generators and cameras expect less: `docs/results.md` has what
  is left when each source is kept from training, which was the ground of every choice. Measure on
  your own pictures before you rely on it: `edgedf evaluate`.
- **A score is not a probability** that a picture is fake. It orders pictures; the thresholds were
  chosen on validation pictures of the same sources, half of them fake. Where fakes are rare, most
  of what it calls fake is real.
- It sees the centre square at {size} x {size} pixels: a swapped face at the edge, or a small one in
  a large picture, is not in what it looks at.
- Face swaps are represented by self-blended faces alone, never by swaps from the wild.
- Screenshots of screenshots, and printed or filmed pictures were not tested; `docs/results.md` has
  what recompression, scaling, blur, noise and brightness cost.
- Its defocus map learns a map computed from edges and from synthetic depth of field. There is no
  measured ground truth for it on photographs, and it is not a depth map.
- Fairness across skin tones, ages and genders was not measured.

Do not use it to accuse a person, nor as the only ground of any decision about one.
"""


def model_card(
    metadata: Mapping[str, Any],
    student: Student,
    samples: Sequence[Sample] = (),
    about: str = "",
) -> str:
    """A card in Markdown.

    Args:
        metadata: What the checkpoint says of itself, as training writes it.
        student: The student.
        samples: The pictures it was trained and measured on.
        about: Markdown that says more of these pictures than can be counted.

    Returns:
        The text.
    """
    parameters = sum(weight.numel() for weight in student.parameters())
    size = student.config.input_size
    training = typed_json.decode(Training, metadata["training"])
    threshold = typed_json.decode(Threshold, metadata["threshold"])
    figures = [typed_json.decode(Accuracy, entry) for entry in metadata["accuracy"]]
    aucs = [figure for figure in figures if figure.metric == "AUC"]
    maps = [figure for figure in figures if " error " in f" {figure.metric} "]
    verdicts = [figure for figure in figures if figure not in (*aucs, *maps)]
    return "\n".join(
        [
            f"# {metadata['name']} {metadata['version']}",
            "",
            "A photograph goes in, a fake score and a defocus map come out. "
            f"{parameters / 1e6:.2f} M parameters, input {size} x {size} RGB.",
            "",
            f"- Licence of the weights: {metadata['licence']}",
            f"- Training data: {training.data}; {training.steps} steps",
            f"- SHA-256 of the manifest: `{training.data_sha256}`",
            f"- Thresholds: real up to {threshold.real_at:g}, fake from "
            f"{threshold.fake_at:g}, unsure between. {_sentence(threshold.how)}",
            "- The encoder's weights come from EfficientNet-Lite0 on ImageNet (Google, Apache-2.0)",
            *_teacher(metadata.get("teacher_sha256")),
            "",
            "## How good it is",
            "",
            "Measured at the end of training, on the test split: pictures that neither training "
            "nor the thresholds have seen, with no group (person, photograph, source picture) "
            "shared with the other splits. Intervals are 95 % bootstrap intervals over groups, "
            "2,000 resamples.",
            "",
            *_table("AUC", aucs),
            "",
            "Self-blended: real test faces against the same faces blended with a changed copy of "
            "themselves.",
            "",
            "At the thresholds above, the share called fake (the rest is real or unsure):",
            "",
            *_table("share", verdicts, with_metric=True),
            "",
            "Mean absolute error of the defocus map, in pixels of the input, at stride 4. Against "
            "the physical map it is a difference between two estimates; only renderings have a "
            "truth.",
            "",
            *_table("error, px", maps, with_metric=True),
            "",
            *_pictures(samples, about.strip()),
            _LIMITS.format(size=size),
        ]
    )


def _teacher(sha256: str | None) -> list[str]:
    return [f"- SHA-256 of what its teacher judges by: `{sha256}`"] if sha256 else []


def _pictures(samples: Sequence[Sample], about: str) -> list[str]:
    if not samples:
        return []
    lines = [
        "## About the training pictures",
        "",
        "| set | real | fake | train / val / test |",
        "|---|---|---|---|",
    ]
    for name in sorted({sample.set for sample in samples}):
        members = [sample for sample in samples if sample.set == name]
        labels = Counter(sample.label for sample in members)
        splits = Counter(sample.split for sample in members)
        counts = " / ".join(str(splits[split]) for split in SPLITS)
        lines.append(f"| {name} | {labels['real']} | {labels['fake']} | {counts} |")
    return [*lines, "", *([about, ""] if about else [])]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _table(heading: str, figures: Iterable[Accuracy], *, with_metric: bool = False) -> list[str]:
    lines = [f"| data | {heading} | 95 % interval | n |", "|---|---|---|---|"]
    for figure in figures:
        data = f"{figure.dataset}: {figure.metric}" if with_metric else figure.dataset
        interval = f"{figure.low:.3f} to {figure.high:.3f}"
        lines.append(f"| {data} | {figure.value:.3f} | {interval} | {figure.n} |")
    return lines
