"""training.html: figures, rules and samples are counted by hand here; the page itself is driven in a headless
Chromium where there is one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from palmette.errors import RunError
from palmette.pages.charts import StepLine, axis_ends, steps_chart
from palmette.pages.training.figures import OTHERS, figure_groups
from palmette.pages.training.report import TRAINING, write_training_report
from palmette.pages.training.run import read_training_run
from palmette.pages.training.samples import choose_evenly, group_by_step, repeated_questions, sample_rows, to_cards
from tests.support.browser import WIDTHS, Browser
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.html import ParsedPage
from tests.support.training_runs import MARKUP, counted, log_lines, page_of, read, sample_line, text_of, write_run


def test_the_headline_says_what_the_log_says(tmp_path: Path) -> None:
    """20 steps of 2 s over half an epoch of 1,000 tokens: 12.5 tokens a second, shown as 12.

    A twentieth of 20 steps is one.
    """
    lines = log_lines(20, loss=lambda step: 21.0 - step, comparisons_per_second=3.25)
    folder = write_run(tmp_path / "mine", "dpo", lines)
    html = page_of(read_training_run(folder))
    assert "<h1>DPO, mine</h1>" in html
    words = text_of(html)
    assert "Model tiny &lt;model&gt; Begun from runs/before Data builtin:train Started 2026-11-22 06:33 UTC" in words
    assert "State not finished: 20 of about 40 steps" in words
    assert re.search(r"Steps 20 of about 40 .*Time 40 s .*Comparisons 3.2 a second", words)
    assert "12 tokens a second" in words
    assert re.search(r"Loss 1 20 at first", words)
    (folder / "adapter").mkdir()
    finished = text_of(page_of(read_training_run(folder)))
    assert "06:33 UTC State finished" in finished
    assert "of about" not in finished


def test_settings_are_a_list_of_names_and_values(tmp_path: Path) -> None:
    """Each setting of the recipe and each version has a line of its own, and what is unset has none."""
    folder = write_run(tmp_path / "run", "sft", log_lines(3), lora={"rank": 2, "dora": False, "targets": None})
    manifest = json.loads((folder / "manifest.json").read_text())
    versions = {"torch": "2.1", "numpy": "3.4"}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "versions": versions, "dropped": []}))
    html = page_of(read_training_run(folder))
    for name, value in {"rank": "2", "dora": "no", "torch": "2.1", "numpy": "3.4", "questions": "700"}.items():
        assert f"<div><dt>{name}</dt><dd>{value}</dd></div>" in html
    assert "<dt>targets</dt>" not in html
    assert "<dt>left out</dt><dd>0 records</dd>" in html


def test_samples_come_before_curves(tmp_path: Path) -> None:
    html = page_of(read(tmp_path, "ppo", log_lines(3, reward=0.5), [sample_line(1, "a", "said", 1.0)]))
    ids = re.findall(r'<section id="(\w+)"', html)
    assert ids == ["figures", "warnings", "samples", "curves", "about"]
    assert re.findall(r'<a href="#(\w+)">', html) == ids


def test_time_is_drawn_for_each_step(tmp_path: Path) -> None:
    """2, then 3, then 10 seconds."""
    run = read(tmp_path, "sft", log_lines(3, seconds=[2.0, 5.0, 15.0]))
    assert "From 2 at step 1 to 10." in page_of(run)


def test_pause_tokens_trained_alone_have_their_own_curves(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", "sft", log_lines(5))
    first = log_lines(4, loss=[9.0, 8.0, 7.0, 6.0])
    (folder / "metrics-embeddings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in first))
    html = page_of(read_training_run(folder))
    assert "Before that, only pause tokens were learned (metrics-embeddings.jsonl)" in html
    assert "From 9 at step 1 to 6." in html
    ids = re.findall(r'<title id="([^"]+)"', html)
    assert len(set(ids)) == len(ids) == 8  # five, and loss, learning rate and gradient norm again


def test_no_peak_is_lost_and_values_below_zero_are_drawn() -> None:
    """1,000 steps of 0 with one 7: an axis to 8 in steps of 2, from 236 up to 34, so 7 is at 59.25."""
    drawing = steps_chart("a", [StepLine([(n, 7.0 * (n == 500)) for n in range(1, 1001)])], title="t", label="l")
    pale = re.search(r'class="pale" d="([^"]+)"', drawing)
    assert pale is not None
    assert " 59.2" in pale[1]
    assert axis_ends([StepLine([(1, -0.7), (2, 0.2)])], None) == (-0.8, 0.2)
    # Drawn from -1: the axis goes from -1 to 0, and the label says what the value is.
    clamped = steps_chart("b", [StepLine([(1, -50.0)])], title="t", label="l", least=-1.0)
    assert axis_ends([StepLine([(1, -50.0)])], -1.0) == (-1.0, 0.0)
    assert ">-50</text>" in clamped
    assert 'cy="236.0"' in clamped


def test_two_lines_are_told_apart_and_guides_are_drawn_where_they_fit() -> None:
    lines = [StepLine([(1, 0.0), (2, 1.0)], "chosen"), StepLine([(1, 0.0), (2, -1.0)], "rejected")]
    drawing = steps_chart("a", lines, title="t", label="l", guides=[0.5, 25.0])
    assert drawing.count('class="guide"') == 1
    assert drawing.count('class="curve other"') == 1
    assert "chosen 1</text>" in drawing
    assert "rejected -1</text>" in drawing
    assert "chosen: from 0 at step 1 to 1. rejected: from 0 at step 1 to -1." in drawing


def test_a_guide_beyond_the_drawing_is_said(tmp_path: Path) -> None:
    html = page_of(read(tmp_path, "grpo", log_lines(3, kl=0.5, clip_share=0.4), grpo={"kl_limit": 25.0}))
    assert "Beyond the drawing: 25, grpo.kl_limit, where the run stops." in html
    assert "Dashed: 30, above it steps are too large." in html


def test_samples_are_arranged_by_moment_and_question(tmp_path: Path) -> None:
    """Rewards 0 to 2, so 0.5 is a quarter of the way. Question b came three times, a twice, the others once."""
    lines = [
        sample_line(1, "a", "first", 0.0),
        sample_line(1, "b", "b1", 0.5),
        sample_line(5, "b", "b2", 1.0),
        sample_line(5, "c", "only", 1.5),
        sample_line(9, "b", "b3", 2.0),
        sample_line(9, "a", "last", 2.0, finish="length"),
    ]
    cards = to_cards(read(tmp_path, "grpo", log_lines(9), lines).samples)
    assert [card.level for card in cards] == [0, 1, 2, 3, 4, 4]
    moments, again = group_by_step(cards), repeated_questions(cards)
    assert [(moment.step, len(moment.cards)) for moment in moments] == [(1, 2), (5, 2), (9, 2)]
    assert [[card.sample.completion for card in one] for one in again] == [["b1", "b2", "b3"], ["first", "last"]]
    followed = sample_rows(moments, again)
    assert [strip.title for strip in followed] == ["What about b?", "What about a?"]
    assert [strip.title for strip in sample_rows(moments, [])] == ["Beginning, step 1", "Middle, step 5", "End, step 9"]
    assert [strip.title for strip in sample_rows(moments[:2], [])] == ["Beginning, step 1", "End, step 5"]
    assert [moment.step for moment in choose_evenly(moments, 2)] == [1, 9]
    html = page_of(read_training_run(tmp_path / "run"))
    assert html.count("cut at the length limit") == 2  # followed, and step by step
    assert "Right: dawn / Dawn</p>" in html


def test_text_of_the_model_stays_text(tmp_path: Path) -> None:
    """It also may hold U+2028, which ends a line for Python's splitlines, but not in JSON Lines."""
    line = sample_line(1, MARKUP, MARKUP, 1.0, gold=[MARKUP], rewards={MARKUP: 1.0})
    run = read(tmp_path, "grpo", log_lines(2, **{MARKUP: 1.0}), [line])
    assert [sample.completion for sample in run.samples] == [MARKUP]
    html = page_of(run)
    page = ParsedPage(html)
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"link", "img", "iframe", "object", "embed", "base", "form", "b"}
    assert html.count("</script>") == 1
    assert not [a for _, a in page.elements if {"src", "style"} & set(a) or any(name.startswith("on") for name in a)]
    assert not re.search(r"url\(|@import|https?:|innerHTML|insertAdjacentHTML", page.raw["style"] + page.raw["script"])
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.raw[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in str(policy)


def test_of_many_moments_some_are_shown_and_that_is_said(tmp_path: Path) -> None:
    lines = [sample_line(step, str(step), "r", 1.0) for step in range(1, 502)]
    html = page_of(read(tmp_path, "grpo", log_lines(501), lines))
    assert "200 of 501 batches, evenly chosen" in html
    assert html.count('<section data-step="') == 200
    assert {'data-step="step 1"', 'data-step="step 501"'} <= set(re.findall(r'data-step="[^"]+"', html))


def test_the_command_writes_the_page_of_an_unfinished_run_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A last line that is being written is left out; so is a half sample."""
    folder = write_run(
        tmp_path / "stage" / "run", "grpo", log_lines(20, clip_share=0.5), [sample_line(1, "a", "said", 1.0)]
    )
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (folder / name).open("a") as stream:
            stream.write('{"step": 21, "lo')
    (folder / TRAINING).write_text("old")
    assert palmette(monkeypatch, "report", folder) == 0
    html = (folder / TRAINING).read_text(encoding="utf-8")
    assert "<h1>GRPO, stage</h1>" in html
    told = capsys.readouterr().err
    assert f"look at {folder / TRAINING}" in told
    assert "warning: In the last tenth of the steps, the clip share is above 30 %. Here: 50 %." in told


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        write_training_report(tmp_path)
    with pytest.raises(RunError, match="has taken no step yet"):
        write_training_report(write_run(tmp_path / "new", "sft", []))
    broken = write_run(tmp_path / "broken", "grpo", log_lines(2), [{"step": 1}, sample_line(1, "a", "b", 1.0)])
    with pytest.raises(RunError, match=r"samples\.jsonl: line 1 is no sample"):
        write_training_report(broken)
    assert not (broken / TRAINING).exists()
    stepless = write_run(tmp_path / "stepless", "sft", [{"loss": 1.0}])
    with pytest.raises(RunError, match="line 1 has no step"):
        write_training_report(stepless)


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_training_commands_leave_the_page(
    stage: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    settings: dict[str, Any] = {
        "output": str(out),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(squad_file(tmp_path / "train.json"))]},
        "lora": {"rank": 2},
        "train": {"epochs": 2, "trees_per_step": 1},
    }
    if stage == "grpo":
        settings["rollouts"] = {"samples": 2, "max_new_tokens": 3, "rewards": {"exact": 1.0}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    assert palmette(monkeypatch, "train", stage, tmp_path / "recipe.yaml") == 0
    html = (out / TRAINING).read_text(encoding="utf-8")
    run = read_training_run(out)
    assert run.finished
    assert run.stage == stage
    assert len(run.keys) == {"sft": 6, "grpo": 15}[stage]
    assert OTHERS not in figure_groups(run)
    assert html.count('<svg class="chart"') == len(run.keys)
    assert "<dd>finished</dd>" in html
    assert ("Samples over time" in html) == (stage == "grpo")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three moments; question a came at the first and the last."""
    samples = [
        sample_line(1, "a", MARKUP, 0.0),
        sample_line(1, "b", "word" * 200, 0.5),
        sample_line(5, "c", "", 1.0),
        sample_line(9, "a", "dawn", 1.2),
    ]
    series: dict[str, Any] = dict.fromkeys(counted("ppo"), lambda step: math.sin(step) / step)
    lines = log_lines(
        300,
        explained_variance=lambda step: 1 - 60 / step,
        **{k: v for k, v in series.items() if k != "explained_variance"},
    )
    folder = write_run(tmp_path_factory.mktemp("page") / "run", "ppo", lines, samples, ppo={"kl_limit": 25.0})
    write_training_report(folder)
    return (folder / TRAINING).as_uri()


SHOWN = "#moments article:visible .completion"


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_opens_quietly_and_fits(browser: Browser, url: str, width: int, dark: bool) -> None:
    page = browser.open(url, width, dark=dark)
    page.locator("summary").first.click()
    page.locator("#all").click()
    assert page.evaluate("document.querySelector('details').open")
    assert page.evaluate(WIDTHS) == [width, width]
    assert page.locator(SHOWN).count() == 4
    assert browser.complaints() == []


@pytest.mark.browser
def test_samples_are_gone_through_by_step_and_by_question(browser: Browser, url: str) -> None:
    page = browser.open(url, 1400)
    completions, shown, all_steps = page.locator(SHOWN), page.locator("#shown"), page.locator("#all")
    earlier, later, moment = page.locator("#previous"), page.locator("#next"), page.locator("#moment")
    assert completions.all_text_contents() == [MARKUP, "word" * 200]
    assert (shown.text_content(), earlier.is_disabled(), later.is_disabled()) == ("step 1", True, False)
    later.click()
    assert completions.all_text_contents() == ["empty completion"]
    moment.fill("2")
    assert completions.all_text_contents() == ["dawn"]
    assert (shown.text_content(), earlier.is_disabled(), later.is_disabled()) == ("step 9", False, True)
    page.locator("#follow").select_option("0")
    assert completions.all_text_contents() == [MARKUP, "dawn"]
    assert (shown.text_content(), moment.is_disabled(), all_steps.is_disabled()) == ("any step", True, True)
    assert page.locator("img, #samples b").count() == 0
    colours = page.locator("#moments .sample").evaluate_all(
        "(all) => all.map((e) => getComputedStyle(e).borderLeftColor)"
    )
    assert len(set(colours)) == 4
    swatches = page.locator(".swatch").evaluate_all("(all) => all.map((e) => getComputedStyle(e).borderTopColor)")
    assert len(set(swatches)) == 5
    assert set(colours) <= set(swatches)
    assert browser.complaints() == []
