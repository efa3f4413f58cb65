import json
import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf import typed_json
from edgedf.errors import DataError
from edgedf.evaluation import (
    ALL,
    MEAN,
    Judgement,
    Picture,
    Report,
    Row,
    Skipped,
    check_skipped,
    make_report,
    robustness_rows,
    to_videos,
)
from edgedf.metrics import Metrics
from edgedf.result import Threshold

CUTS = Threshold(0.7, 0.3, "by hand")


def judged(
    name: str, source: str, label: str, logits: Sequence[float], *, video: str = ""
) -> list[Judgement]:
    return [
        Judgement(
            Picture(f"{source}-{index}", name, source, f"{source}-{index}", label, video),  # type: ignore[arg-type]
            float(logit),
        )
        for index, logit in enumerate(logits)
    ]


CAMERA = judged("scenes", "camera", "real", [-2, -1, 0, 2])
PHONE = judged("scenes", "phone", "real", [-3, -1])
PAINTER = judged("scenes", "painter", "fake", [-1, 1, 2])
SWAPS = judged("faces", "swaps", "fake", [3, 3])
PEOPLE = judged("faces", "swaps", "real", [-1, 4])
NATURAL = judged("natural", "moss", "real", [-4, 5])
EVERYTHING = [*CAMERA, *PHONE, *PAINTER, *SWAPS, *PEOPLE, *NATURAL]


def report_of(judgements: Sequence[Judgement] = EVERYTHING, **more: object) -> Report:
    return make_report(
        judgements,
        model="m",
        data="d",
        split="test",
        threshold=CUTS,
        **more,  # type: ignore[arg-type]
    )


def row(report: Report, by: str, name: str, level: str = "frame") -> Row:
    (found,) = [r for r in report.rows if (r.level, r.by, r.name) == (level, by, name)]
    return found


def test_pictures_are_measured_together_by_set_and_by_source() -> None:
    report = report_of()
    assert [(r.by, r.name, r.metrics.real, r.metrics.fake) for r in report.rows] == [
        ("all", "all", 10, 5),
        ("set", "faces", 2, 2),
        ("source", "faces / swaps", 2, 2),
        ("set", "natural", 2, 0),
        ("source", "natural / moss", 2, 0),
        ("set", "scenes", 6, 3),
        ("source", "scenes / camera", 4, 0),
        ("source", "scenes / painter", 0, 3),
        ("fakes", "scenes / painter", 6, 3),
        ("source", "scenes / phone", 2, 0),
    ]
    assert report.pictures == 15
    scenes, painter = row(report, "set", "scenes"), row(report, "fakes", "scenes / painter")
    assert scenes.metrics.auc is not None and painter.metrics.auc is not None
    # Pairs in order: the fake at -1 beats 2 of 6 and ties with 2, that at 1 beats 5, at 2 it is
    # 5 and a tie.
    assert scenes.metrics.auc.value == pytest.approx((3 + 5 + 5.5) / 18)
    assert painter.metrics.auc.value == scenes.metrics.auc.value


def test_real_sources_and_sets_have_false_alarms_and_no_auc() -> None:
    report = report_of()
    for by, name in (("source", "natural / moss"), ("set", "natural")):
        metrics = row(report, by, name).metrics
        assert metrics.auc is None
        assert metrics.false_alarms is not None
        assert (metrics.false_alarms.value, metrics.false_alarms.n) == (0.5, 2)
    camera = row(report, "source", "scenes / camera").metrics.false_alarms
    assert camera is not None and camera.value == 0.25


def test_the_mean_counts_the_sets_that_have_both_classes() -> None:
    report = report_of()
    each = [row(report, "set", name).metrics.auc for name in ("faces", "scenes")]
    assert report.mean_auc is not None
    assert report.mean_auc.value == pytest.approx(np.mean([auc.value for auc in each if auc]))
    assert report.mean_auc.n == 13
    assert report_of([*NATURAL, *CAMERA]).mean_auc is None


def test_a_source_of_several_is_measured_against_all_real_pictures_of_its_set_too() -> None:
    mixed = [
        *CAMERA,
        *judged("scenes", "quiz", "real", [0.5]),
        *judged("scenes", "quiz", "fake", [1]),
    ]
    report = report_of(mixed)
    assert row(report, "source", "scenes / quiz").metrics.real == 1
    assert row(report, "fakes", "scenes / quiz").metrics.real == 5


def test_what_was_made_from_pictures_is_a_source_apart() -> None:
    made = judged("faces", "self-blend", "fake", [0, 2, 5])
    made += judged("scenes", "portrait", "real", [6, -1])
    report = report_of(derived=made)
    plain = report_of()
    assert row(report, "all", ALL) == row(plain, "all", ALL)
    assert row(report, "set", "faces") == row(plain, "set", "faces")
    blends = row(report, "fakes", "faces / self-blend").metrics
    assert (blends.real, blends.fake) == (2, 3)
    assert blends.auc is not None
    assert blends.auc.value == pytest.approx((1 + 1 + 2) / 6)
    portrait = row(report, "source", "scenes / portrait").metrics.false_alarms
    assert portrait is not None and (portrait.value, portrait.n) == (0.5, 2)


def test_a_source_made_is_never_taken_for_the_set_because_it_is_as_large() -> None:
    made = judged("natural", "portrait", "real", [9, 9])
    figure = row(report_of(derived=made), "source", "natural / portrait").metrics.false_alarms
    assert figure is not None and figure.value == 1.0


def test_frames_of_a_video_are_averaged_and_stills_stay() -> None:
    first = judged("clips", "swap", "fake", [1, 2, 6], video="v1")
    same_name = judged("clips", "youtube", "real", [-1, -4], video="v1")
    still = judged("clips", "youtube", "real", [0.25, -1.0])
    videos = to_videos([*first, *same_name, *still])
    assert [video.logit for video in videos] == [3.0, -2.5, 0.25, -1.0]
    assert videos[0].picture == first[0].picture
    report = report_of([*first, *same_name, *still])
    whole = row(report, "all", ALL, "video").metrics
    assert (whole.real, whole.fake) == (3, 1)
    assert whole.auc is not None and whole.auc.value == 1.0
    assert row(report, "all", ALL).metrics.real == 4
    assert not [r for r in report_of().rows if r.level == "video"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-9, 9)), min_size=1))
def test_the_order_of_frames_does_not_matter(frames: list[tuple[str, int]]) -> None:
    entries = [judged("s", "x", "fake", [logit], video=name)[0] for name, logit in frames]
    forward, backward = to_videos(entries), to_videos(entries[::-1])
    scores = [{e.picture.video: e.logit for e in found} for found in (forward, backward)]
    assert scores[0] == pytest.approx(scores[1])
    assert len(forward) == len({name for name, _ in frames})


def test_a_report_is_json_and_comes_back_as_it_was() -> None:
    rows = robustness_rows("blur", "a little", EVERYTHING)
    report = report_of(robustness=rows, skipped=[Skipped("a.jpg", "is empty")])
    text = json.dumps(typed_json.encode(report), allow_nan=False)
    assert typed_json.decode(Report, json.loads(text)) == report
    assert isinstance(report.rows[0].metrics, Metrics)


def test_changed_pictures_have_an_auc_for_whatever_has_both_classes() -> None:
    rows = robustness_rows("blur", "a little", EVERYTHING)
    assert [r.name for r in rows] == [ALL, "faces", "scenes", MEAN]
    report = report_of()
    assert rows[0].auc == row(report, "all", ALL).metrics.auc
    assert rows[3].auc == report.mean_auc
    assert [r.name for r in robustness_rows("blur", "", [*CAMERA, *PAINTER])] == [ALL, "scenes"]
    assert robustness_rows("blur", "", NATURAL) == ()


def test_nothing_to_judge_is_said() -> None:
    with pytest.raises(DataError, match="no picture to judge in d"):
        report_of([])


@pytest.mark.parametrize(("bad", "good"), [(1, 19), (5, 95), (0, 1)])
def test_a_few_unreadable_pictures_are_let_through(bad: int, good: int) -> None:
    check_skipped([Skipped("a.jpg", "is empty")] * bad, bad + good)


@pytest.mark.parametrize(("bad", "good"), [(1, 18), (6, 94)])
def test_many_unreadable_pictures_stop_it_and_are_named(bad: int, good: int) -> None:
    skipped = [Skipped(f"{index}.jpg", "It is empty.") for index in range(bad)]
    said = f"{bad} of {bad + good} pictures cannot be read. 0.jpg: It is empty."
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        check_skipped(skipped, bad + good)
    assert ("and 3 more" in caught.value.message) == (bad == 6)
