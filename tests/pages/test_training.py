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

from palmette.data.records import Answer, Document, Question
from palmette.errors import RunError
from palmette.pages.charts import StepLine, axis_ends, steps_chart
from palmette.pages.training.figures import OTHERS, figure_groups, not_drawable
from palmette.pages.training.report import TRAINING, render_training_report, write_training_report
from palmette.pages.training.run import TrainingRun, read_training_run
from palmette.pages.training.samples import choose_evenly, group_by_step, repeated_questions, sample_rows, to_cards
from palmette.pages.training.warnings import Finding, find_warnings
from palmette.rollouts.batch import RewardedCompletion, RolloutBatch
from palmette.rollouts.questions import PromptGroup
from palmette.train import ppo
from palmette.train.stages import STAGES
from tests.support.browser import WIDTHS, Browser
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.html import Page as _Page
from tests.support.paths import ROOT

TRAIN = ROOT / "src" / "palmette" / "train"
LOGGED = {"loss": 1.0, "grad_norm": 0.5, "learning_rate": 1e-4, "seconds": 2.0, "resident_mib": 900}
MARKUP = "</script><img src=x onerror=alert(1)>\u2028<b>bold</b> & \u202eolleh"
# Where each stage counts what it counts, besides what all stages log.
COUNTED_IN = {
    "reward": ["reward.py"],
    "dpo": ["dpo.py"],
    "kto": ["kto.py"],
    "grpo": ["grpo.py", "kl_limit.py"],
    "ppo": ["ppo.py", "kl_limit.py"],
}


def log_lines(num: int, **series: Any) -> list[dict[str, Any]]:
    """`num` steps of half an epoch's length in all; a series is a list, a function of the step from 1, or a
    constant.
    """
    lines = []
    for step in range(1, num + 1):
        line: dict[str, Any] = {"step": step, "epoch": step / num / 2, **LOGGED, "seconds": 2.0 * step}
        for name, values in series.items():
            line[name] = values[step - 1] if isinstance(values, list) else values(step) if callable(values) else values
        lines.append({name: value for name, value in line.items() if value != "absent"})
    return lines


def sample_line(step: int, question: str, completion: str, reward: float, **more: Any) -> dict[str, Any]:
    asked = {"question": question, "asked": f"What about {question}?", "gold": ["dawn", "Dawn", "dawn"]}
    return {
        "step": step,
        **asked,
        "completion": completion,
        "finish": "end",
        "rewards": {"exact": reward},
        "reward": reward,
        **more,
    }


def write_run(
    folder: Path, stage: str, lines: list[dict[str, Any]], samples: list[dict[str, Any]] | None = None, **recipe: Any
) -> Path:
    folder.mkdir(parents=True)
    manifest = {
        "created": "2026-11-22T06:33:06+00:00",
        "model": {"name": "tiny <model>"},
        "start": {"run": "runs/before"},
        "data": [{"source": "builtin:train", "questions": 700}],
        "dropped": ["a record"],
        "tokens": 1000,
        **({"stage": stage} if stage != "sft" else {}),
    }
    values = {"output": "run", "train": {"epochs": 1, "max_grad_norm": 1.0}, **recipe}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if samples is not None:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in samples)
        (folder / "samples.jsonl").write_text(text, encoding="utf-8")
    return folder


def read(folder: Path, stage: str, lines: list[dict[str, Any]], *more: Any, **recipe: Any) -> TrainingRun:
    return read_training_run(write_run(folder / "run", stage, lines, *more, **recipe))


def page_of(run: TrainingRun) -> str:
    return render_training_report(run, find_warnings(run))


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def counted(stage: str) -> set[str]:
    """What a stage's sources say that it counts beside the loss."""
    found: set[str] = set()
    for name in COUNTED_IN.get(stage, []):
        found |= set(re.findall(r"tally\.(?:add|note)\(\"(\w+)\"", (TRAIN / name).read_text(encoding="utf-8")))
    if stage in ("grpo", "ppo"):
        asked = PromptGroup("d", Document("d", "", ()), (Question("q", "", (Answer("a", 0),)),), 0, (1,), (2,), ((3,),))
        parts = {"exact": 1.0, "f1": 1.0, "valid_json": 1.0, "abstention": 1.0, "model": 0.3}
        found |= RolloutBatch(0, (asked,), (RewardedCompletion((4,), "a", "end", parts, 1.0),), 1).summary().keys()
    if stage == "ppo":
        found |= {"score", ppo.COEFFICIENT, ppo.COMPLETION_KL, ppo.EXPLAINED}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_every_figure_that_a_stage_counts_has_a_chart_with_words(stage: str, tmp_path: Path) -> None:
    names = counted(stage)
    assert len(names) >= {"sft": 0, "reward": 3, "dpo": 4, "kto": 3, "grpo": 13, "ppo": 18}[stage]
    run = read(tmp_path, stage, log_lines(20, questions_per_second=3.0, **dict.fromkeys(names, 0.5)))
    groups = figure_groups(run)
    assert OTHERS not in groups
    drawn = [key for figures in groups.values() for figure in figures for key in figure.keys]
    assert sorted(drawn) == sorted({*names, *LOGGED, "questions_per_second"})
    assert all(figure.reading and figure.label for figures in groups.values() for figure in figures)
    html = page_of(run)
    assert html.count('<svg class="chart"') == sum(map(len, groups.values()))
    ids = re.findall(r'<title id="([^"]+)"', html)
    assert len(set(ids)) == len(ids)


def test_what_is_not_known_is_drawn_as_it_stands_and_what_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    """The figure "strange" lacks a step and is once NaN, so it is known in 18 of 20; "words" is no number, "nothing"
    null.
    """
    strange = [math.nan, "absent", *[7.0] * 18]
    run = read(tmp_path, "sft", log_lines(20, strange=strange, words="none", nothing=None))
    assert [figure.keys for figure in figure_groups(run)[OTHERS]] == [("strange",)]
    assert not_drawable(run) == ["words", "nothing"]
    html = page_of(run)
    assert "Known in 18 of 20 steps. Infinite or not a number in 1." in html
    assert "cannot be drawn: words, nothing." in html
    (broken,) = [finding for finding in find_warnings(run) if finding.rule.startswith("A figure is infinite")]
    assert (broken.raised, broken.found) == (True, "strange in 1 of 20 steps")


def test_one_of_two_verdicts_alone_keeps_its_words(tmp_path: Path) -> None:
    (figures, *_) = figure_groups(read(tmp_path, "kto", log_lines(3, undesirable_reward=-0.5))).values()
    assert [(figure.keys, figure.names) for figure in figures] == [(("undesirable_reward",), ("bad",))]


def last_two(before: float, after: float) -> list[float]:
    """20 steps, whose last tenth are two; the last one is as far above `after` as the one before is below."""
    return [*[before] * 18, after - 0.01, after + 0.01]


@pytest.mark.parametrize(
    ("stage", "rule", "calm", "alarming", "found"),
    [
        ("grpo", "clip share", {"clip_share": last_two(0.9, 0.29)}, {"clip_share": last_two(0.0, 0.31)}, "31.0 %"),
        (
            "ppo",
            "explained variance",
            {"explained_variance": last_two(-5.0, 0.1)},
            {"explained_variance": last_two(0.9, -0.1)},
            "-0.1",
        ),
        (
            "grpo",
            "all have the same reward",
            {"flat_groups": last_two(1.0, 0.5)},
            {"flat_groups": last_two(0.0, 0.6)},
            "60.0 %",
        ),
        ("ppo", "of completions that ended", {"ended": last_two(0.0, 0.95)}, {"ended": last_two(1.0, 0.85)}, "85.0 %"),
        ("dpo", "accuracy", {"accuracy": last_two(0.0, 0.6)}, {"accuracy": last_two(1.0, 0.4)}, "40.0 %"),
        ("dpo", "chosen", {"chosen_reward": last_two(-1.0, 0.1)}, {"chosen_reward": last_two(1.0, -0.1)}, "-0.1"),
        # A quarter of 2.0 is 0.5.
        ("grpo", "entropy", {"entropy": last_two(2.0, 0.52)}, {"entropy": last_two(2.0, 0.48)}, "2 became 0.48"),
        ("sft", "loss", {"loss": last_two(2.0, 1.0)}, {"loss": last_two(2.0, 2.1)}, "2 became 2.1"),
        ("sft", "gradient norm", {"grad_norm": last_two(1.0, 4.9)}, {"grad_norm": last_two(1.0, 5.1)}, "1 became 5.1"),
        # Twice the target of 4, half the limit of 25; see the recipe below.
        (
            "ppo",
            "twice its target",
            {"completion_kl": last_two(20.0, 7.9)},
            {"completion_kl": last_two(0.0, 8.1)},
            "8.1 nats a completion",
        ),
        (
            "ppo",
            "at which the run stops",
            {"kl": last_two(20.0, 12.4)},
            {"kl": last_two(0.0, 12.6)},
            "12.6 nats a completion",
        ),
        # 18 times 1 and twice 0.5 have the mean 0.95 and the standard deviation sqrt(0.9 * 0.05^2 + 0.1 * 0.45^2) =
        # 0.15.
        (
            "grpo",
            "The reward is lower",
            {"reward": [1.0, 0.0] * 9 + [0.4, 0.4]},
            {"reward": [1.0] * 18 + [0.5, 0.5]},
            "1 became 0.5, with a standard deviation of 0.15",
        ),
        (
            "ppo",
            "The reward model",
            {"reward_model": [0.0] * 18 + [1.0] * 2, "reward_exact": [0.5] * 20},
            {"reward_model": [0.0] * 18 + [1.0] * 2, "reward_exact": [0.5] * 18 + [0.0] * 2},
            "the score went from 0 to 1, reward_exact from 0.5 to 0",
        ),
    ],
)
def test_each_rule_warns_beyond_its_limit_and_not_before(
    stage: str, rule: str, calm: dict[str, Any], alarming: dict[str, Any], found: str, tmp_path: Path
) -> None:
    recipe = {"ppo": {"kl_target": 4.0, "kl_limit": 25.0}}

    def looked_at(name: str, series: dict[str, Any]) -> Finding:
        (tmp_path / name).mkdir()
        run = read(tmp_path / name, stage, log_lines(20, **series), **recipe)
        (one,) = [finding for finding in find_warnings(run) if rule in finding.rule]
        html = page_of(run)
        assert one.found in html
        assert (one.advice in html) == one.raised
        return one

    assert not looked_at("calm", calm).raised
    warned = looked_at("alarming", alarming)
    assert (warned.raised, warned.found) == (True, found)


def test_a_short_run_is_not_held_against_its_beginning(tmp_path: Path) -> None:
    nine = read(tmp_path, "sft", log_lines(9, loss=lambda step: float(step)))
    assert not [finding for finding in find_warnings(nine) if "loss" in finding.rule]
    (tmp_path / "ten").mkdir()
    ten = read(tmp_path / "ten", "sft", log_lines(10, loss=lambda step: float(step)))
    assert [finding.found for finding in find_warnings(ten) if finding.raised] == ["1 became 10"]


def test_the_headline_says_what_the_log_says(tmp_path: Path) -> None:
    """20 steps of 2 s over half an epoch of 1,000 tokens: 12.5 tokens a second, shown as 12.

    A twentieth of 20 steps is one.
    """
    lines = log_lines(20, loss=lambda step: 21.0 - step, comparisons_per_second=3.25)
    folder = write_run(tmp_path / "mine", "dpo", lines)
    html = page_of(read_training_run(folder))
    assert "<h1>DPO, mine</h1>" in html
    words = text_of(html)
    assert "tiny &lt;model&gt;, from runs/before, on builtin:train, started 2026-11-22 06:33 UTC. Not finished" in words
    assert "Not finished: 20 of about 40 steps" in words
    assert re.search(r"Steps 20 of about 40 .*Time 40 s .*Comparisons 3.250 /s", words)
    assert "12 tokens a second" in words
    assert re.search(r"Loss 1.000 20.0 at first", words)
    (folder / "adapter").mkdir()
    finished = text_of(page_of(read_training_run(folder)))
    assert "06:33 UTC, finished." in finished
    assert "of about" not in finished


def test_time_is_drawn_for_each_step(tmp_path: Path) -> None:
    """2, then 3, then 10 seconds."""
    run = read(tmp_path, "sft", log_lines(3, seconds=[2.0, 5.0, 15.0]))
    assert "From 2.000 at step 1 to 10.0." in page_of(run)


def test_pause_tokens_trained_alone_have_their_own_curves(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", "sft", log_lines(5))
    first = log_lines(4, loss=[9.0, 8.0, 7.0, 6.0])
    (folder / "metrics-embeddings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in first))
    html = page_of(read_training_run(folder))
    assert "Before that, only pause tokens were learned (metrics-embeddings.jsonl)" in html
    assert "From 9.000 at step 1 to 6.000." in html
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
    assert ">-50.0</text>" in clamped
    assert 'cy="236.0"' in clamped


def test_two_lines_are_told_apart_and_guides_are_drawn_where_they_fit() -> None:
    lines = [StepLine([(1, 0.0), (2, 1.0)], "chosen"), StepLine([(1, 0.0), (2, -1.0)], "rejected")]
    drawing = steps_chart("a", lines, title="t", label="l", guides=[0.5, 25.0])
    assert drawing.count('class="guide"') == 1
    assert drawing.count('class="curve other"') == 1
    assert "chosen 1.000</text>" in drawing
    assert "rejected -1.000</text>" in drawing
    assert "chosen: from 0 at step 1 to 1.000. rejected: from 0 at step 1 to -1.000." in drawing


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
    page = _Page(html)
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
    assert "warning: In the last tenth of the steps, the clip share is above 30.0 %. Here: 50.0 %." in told


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
    assert ", finished." in html
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
