from dataclasses import replace

from edgedf.runtime.profile.against import compare
from edgedf.runtime.profile.document import Problem
from edgedf.runtime.profile.report.markdown import markdown
from edgedf.runtime.profile.request import QUICK
from tests.runtime.profile.made import FLOAT, document

BASE = document()
RUN = BASE.devices[0]


def test_markdown_shows_the_verdict_first_and_folds_the_rest() -> None:
    text = markdown(BASE, compare(BASE, BASE))
    assert text.startswith("**✓ Nothing got worse by more than 10%.**\n")
    assert "\nPublishable: every figure is valid" in text
    opened, folded = text.split("<details>")
    assert "#### Latency" in opened and "#### Ratios of medians" in opened
    assert "#### Start and memory" in folded and folded.count("</details>") == 1
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_markdown_marks_what_may_not_be_published_and_escapes_what_came_from_outside() -> None:
    evil = replace(
        BASE,
        publishable=False,
        effort=QUICK,
        models=(replace(FLOAT, file="a|b<script>.tflite"), BASE.models[1]),
        devices=(replace(RUN, status="partial", problem=Problem("Lost *it*.", next_step="again")),),
    )
    text = markdown(evil)
    assert "\n**Not publishable: " in f"\n{text}"
    assert "<script>" not in text
    assert r"a\|b\<script\>.tflite" in text
    assert r"**Lost \*it\*. Next step: again.**" in text
