from __future__ import annotations

import dataclasses
import re

import pytest

from edgedf.runtime.profile import document
from edgedf.runtime.profile.against import compare
from edgedf.runtime.profile.document import Problem, Profile, Validity, name_of
from edgedf.runtime.profile.report.against_wording import compared, verdict_line
from edgedf.runtime.profile.report.figures import kib, megabytes, ms, number
from edgedf.runtime.profile.report.html_report import render
from edgedf.runtime.profile.report.wording import (
    key,
    sections,
    standing,
    sustained_line,
)
from edgedf.runtime.profile.request import QUICK
from tests.contract.pages import Page, drawings
from tests.runtime.profile import documents

NASTY = "a<img src=x onerror=alert(1)>\"'&\x1b[31m\udce9.tflite"
LOST = Problem("The phone was lost.", "a phone that stays", "plug it in again", "blocks")


def whole() -> Profile:
    """All that a document may hold."""
    first = documents.result(0, 1, 2.81, sustained=documents.minutes(5))
    invalid = documents.result(
        1, 1, 5.44, validity=Validity("invalid", ("other processes kept 0.9 of 2 busy",))
    )
    cut_off = documents.run(
        documents.result(0, 4, 9.1, problems=(Problem("No operators.", step="operators"),)),
        device="adb:R58M123ABC",
        status="partial",
        problem=LOST,
    )
    dead = document.DeviceRun(
        "ssh:pi@board", "failed", problem=Problem("Connection refused.", "", "start sshd")
    )
    return documents.profile(
        documents.run(first, invalid, states=documents.states(load_from=40)),
        cut_off,
        dead,
        publishable=False,
    )


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(whole()))


def test_every_figure_of_every_table_is_on_the_page(page: Page) -> None:
    profile = whole()
    for run in profile.devices:
        for section in sections(profile, run):
            for said in (section.title, *section.headings, *section.remarks):
                assert said in page.text
            for row in section.rows:
                assert all(cell.lstrip("✓~✗ ") in page.text for cell in row)
        for result in run.results:
            found = result.latency
            assert found is not None
            for value in (found.minimum_ms, found.p50_ms, found.p90_ms, found.p99_ms, found.std_ms):
                assert number(value) in page.text
            for said in (f"{found.queries:,}", ms(found.maximum_ms), result.runtime):
                assert said in page.text
            assert f"{result.warm_up_queries}, steady" in page.text
            assert result.memory is not None
            assert kib(result.memory.model_kib) in page.text
    for model in profile.models:
        assert megabytes(model.size_bytes) in page.text
        assert f"{model.auc:.3f} ({model.auc_low:.3f} to {model.auc_high:.3f})" in page.text
    assert standing(profile) in page.text


def test_results_have_the_same_letters_in_tables_and_plots(page: Page) -> None:
    profile = whole()
    for index, result in enumerate(profile.devices[0].results):
        # a row of each table at least, and three plots of its own
        assert page.text.count(f"{key(index)} · {name_of(profile, result)}") >= 5


def test_what_went_wrong_is_marked_where_it_did(page: Page) -> None:
    for said in (
        "Cut off: what had been measured by then is below. blocks: The phone was lost.",
        "plug it in again",
        "Nothing was measured. Connection refused.",
        "start sshd",
        "other processes kept 0.9 of 2 busy",
        "Shaded: other work took processors.",
    ):
        assert said in page.text
    styles = [attributes.get("class") for attributes in page.named("p")]
    assert styles.count("verdict fail") == 2  # the whole, and the device that never answered
    badges = [attributes.get("class") for attributes in page.named("span")]
    assert "badge fail" in badges
    assert "badge pass" in badges


def test_a_valid_profile_may_be_published() -> None:
    seen = Page(render(documents.profile()))
    assert next(p.get("class") for p in seen.named("p")) == "verdict pass"
    assert "Cut off" not in seen.text


def test_there_is_a_plot_of_everything() -> None:
    profile = whole()
    titles = [svg[0].text or "" for svg in drawings(render(profile))]
    for kind, count in (
        ("Distribution of latency: ", 3),
        ("Latency over time: ", 3),
        ("The machine meanwhile", 2),
        ("Operators: ", 3),
        ("Sustained: ", 1),
        ("AUC, latency and size", 1),
        ("Ratios of latency", 1),
        ("Shares of the pipeline", 2),
    ):
        assert sum(title.startswith(kind) for title in titles) == count
    assert len(titles) == 16


def test_sustained_runs_and_ratios_are_told() -> None:
    profile = whole()
    text = Page(render(profile)).text
    run = profile.devices[0]
    assert run.results[0].sustained is not None
    assert sustained_line(run.results[0].sustained) in text
    for ratio in run.ratios:
        assert f"{ratio.ratio:.2f}×" in text


def test_every_drawing_can_be_told_from_the_others() -> None:
    text = render(whole())
    found = re.findall(r' id="([^"]+)"', text)
    assert len(found) == len(set(found)) == 2 * len(drawings(text))
    for svg in drawings(text):
        assert svg.get("role") == "img"
        assert all(part in found for part in (svg.get("aria-labelledby") or "").split())


def test_it_needs_nothing_but_itself() -> None:
    text = render(whole())
    seen = Page(text)
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "link", "iframe", "object", "img"})
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert not any(name.startswith("on") for _, attributes in seen.tags for name in attributes)


def test_a_phone_can_read_it(page: Page) -> None:
    for cell in page.named("td"):
        assert cell == {} or cell["data-label"]
    for svg in page.named("svg"):
        assert (svg["viewbox"] or "").startswith("0 0 360 ")


def test_whatever_comes_from_outside_is_escaped() -> None:
    plain = whole()
    texts = dict.fromkeys(("cpu", "system", "name", "soc", "python", "edgedf"), NASTY)
    machine = dataclasses.replace(documents.MACHINE, governors=(NASTY,), **texts)
    problem = Problem(NASTY, NASTY, NASTY, NASTY)
    nasty_run = dataclasses.replace(
        plain.devices[0],
        device=NASTY,
        machine=machine,
        status="partial",
        problem=problem,
        results=tuple(
            dataclasses.replace(
                result,
                runtime=NASTY,
                problems=(problem,),
                validity=Validity("invalid", (NASTY,)),
                operators=document.OperatorShares(
                    NASTY,
                    tuple(
                        dataclasses.replace(each, name=NASTY, kind=NASTY, delegate=NASTY)
                        for each in result.operators.operators
                    ),
                    *(2, 1.0, 1.0, NASTY),
                    left_out=(NASTY,),
                ),
            )
            for result in plain.devices[0].results
            if result.operators is not None
        ),
    )
    model = documents.model(NASTY, model_id=NASTY, precision=NASTY, auc_dataset=NASTY)
    text = render(
        documents.profile(
            nasty_run, models=(model, model), images_from=NASTY, created=NASTY, edgedf=NASTY
        )
    )
    text.encode("utf-8")
    assert "\x1b" not in text
    seen = Page(text)
    assert seen.named("img") == []
    assert seen.text.count("<img src=x onerror=alert(1)>") > 20
    assert drawings(text)


def test_native_results_have_no_plots_that_need_single_inferences() -> None:
    text = render(documents.profile(documents.run(documents.native()), publishable=False))
    titles = [svg[0].text or "" for svg in drawings(text)]
    assert titles == ["The machine meanwhile"]
    assert "benchmark_model gives no percentiles" in Page(text).text


def test_a_device_without_machine_or_results_is_told_all_the_same() -> None:
    run = document.DeviceRun("ssh:pi@board", "failed", problem=LOST)
    text = render(documents.profile(run, publishable=False))
    assert drawings(text) == []
    assert "The phone was lost." in Page(text).text


def test_degenerate_documents_have_finite_coordinates() -> None:
    text = render(documents.degenerate())
    found = drawings(text)
    assert len(found) == 5
    for svg in found:
        for element in svg.iter():
            for name, value in element.attrib.items():
                assert "nan" not in value.lower() or name == "aria-labelledby"
                assert "inf" not in value.lower()


def test_size_and_latency_are_compared_where_no_model_states_an_auc() -> None:
    bare = documents.model(auc=None, auc_low=None, auc_high=None)
    profile = documents.profile()
    text = render(dataclasses.replace(profile, models=(bare, bare)))
    assert "Size and latency" in [svg[0].text for svg in drawings(text)]
    assert "No model states an AUC" in Page(text).text


def test_models_without_an_auc_are_named_where_others_have_one() -> None:
    profile = documents.profile()
    bare = documents.model("b.tflite", auc=None, auc_low=None, auc_high=None)
    text = Page(render(dataclasses.replace(profile, models=(profile.models[0], bare)))).text
    assert "Without an AUC, so not shown: C, D." in text


def test_effort_is_told() -> None:
    effort = dataclasses.replace(QUICK, sustained_seconds=1800.0)
    text = Page(render(documents.profile(effort=effort, publishable=False))).text
    assert "at least 128 inferences and 5 s of each" in text
    assert "30 min without a pause" in text


def test_changes_against_an_earlier_profile_come_first() -> None:
    before = documents.profile(documents.run(documents.result(0, 1, 2.0)))
    now = documents.profile(documents.run(documents.result(0, 1, 3.0)))
    comparison = compare(now, before)
    seen = Page(render(now, comparison))
    text = seen.text
    for section in compared(comparison):
        for row in section.rows:
            assert all(cell.lstrip("✓?✗ ") in text for cell in row)
    assert text.index(verdict_line(comparison)) < text.index("sha256")
    assert "badge fail" in [span.get("class") for span in seen.named("span")]


def test_letters_go_on_after_the_last() -> None:
    assert [key(index) for index in (0, 25, 26, 52)] == ["A", "Z", "A2", "A3"]
