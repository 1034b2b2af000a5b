"""Answers ranked by a reward model, by mixtures, and by people's verdicts; margins; and one process at an output."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palmette.data.records import Document, Question
from palmette.errors import DataError, RunError
from palmette.inference.reward_model import RewardModel, load_reward
from palmette.lock import locked
from palmette.model.loading import weights_hash
from palmette.rollouts.rewards import MODEL_REWARD, RewardMixture, Scorer
from palmette.rollouts.sampling import Sampling
from palmette.synth.preference_job import write_preferences
from palmette.synth.preference_settings import PreferenceSettings
from palmette.synth.preferences import DEFAULTS, PreferenceMaker, Preferences, make_preferences
from palmette.synth.work import begin_work
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.rewards import QaReward
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.scripted import DOCUMENT, HALF, RIGHT, WRONG, Script, verdicts

WHEN = replace(DOCUMENT, questions=DOCUMENT.questions[:1])
SCORES = {RIGHT: 0.0, HALF: 3.0, WRONG: -1.0, "broken": 2.0}


@pytest.fixture(scope="module")
def task(tokenizer: Any) -> ExtractiveQa:
    return ExtractiveQa(ChatTemplate(tokenizer))


def judge_of(scores: Mapping[str, float]) -> Scorer:
    """Scores by what was said."""
    return lambda completions: [scores[text] for _, _, text in completions]


def made(
    task: ExtractiveQa,
    work: Path,
    scores: Mapping[str, float],
    weights: dict[str, float] | None = None,
    *,
    judged: bool = True,
    judge_weight: float = 1.0,
    **changes: Any,
) -> Preferences:
    """Preferences among answers to one question, one answer for each score, drawn under one setting."""
    rules = QaReward(task.prompt, weights) if weights else None
    rewards = RewardMixture(rules, judge_of(scores) if judged else None, judge_weight)
    maker = PreferenceMaker(Script([list(scores)]), task, rewards, (Sampling(seed=0),), len(scores))
    return make_preferences(replace(maker, **changes), [WHEN], work, {})


def test_a_reward_model_ranks_alone_or_mixed_with_rules(task: ExtractiveQa, tmp_path: Path) -> None:
    """F1 + 0.5 valid JSON of the four: 1.5, 7/6, 0.5, 0. With half of the scores: 1.5, 8/3, 0, 1.

    All three orders differ.
    """
    alone = made(task, tmp_path / "a", SCORES, form="ranked").rows[0]
    assert alone["ranked"] == [HALF, "broken", RIGHT, WRONG]
    assert alone["samples"][1]["rewards"] == {MODEL_REWARD: 3.0}
    weights = {"f1": 1.0, "valid_json": 0.5}
    mixed = made(task, tmp_path / "b", SCORES, weights, form="ranked", judge_weight=0.5)
    assert mixed.rows[0]["ranked"] == [HALF, RIGHT, "broken", WRONG]
    assert mixed.mean_reward == pytest.approx((1.5 + 8 / 3 + 0 + 1) / 4)
    assert mixed.rows[0]["samples"][1]["rewards"] == pytest.approx({"f1": 2 / 3, "valid_json": 1.0, "model": 3.0})
    by_rule = made(task, tmp_path / "c", SCORES, weights, form="ranked", judged=False)
    assert by_rule.rows[0]["ranked"] == [RIGHT, HALF, WRONG, "broken"]
    with pytest.raises(ValueError, match="rewards by rule or a reward model"):
        made(task, tmp_path / "d", SCORES, judged=False)


def test_a_judge_sees_each_answer_with_its_own_question(task: ExtractiveQa, tmp_path: Path) -> None:
    """The scores of a batch go back to whom they belong to: each question prefers the answer that names it."""
    texts = [["when", "who"], ["where", "who"], ["when", "where"]]

    def judge(completions: Sequence[tuple[Document, Question, str]]) -> list[float]:
        assert all(document == DOCUMENT for document, _, _ in completions)
        return [float(text == question.id) for _, question, text in completions]

    maker = PreferenceMaker(Script(texts), task, RewardMixture(None, judge), (Sampling(seed=0), Sampling(seed=0)), 2)
    rows = make_preferences(maker, [DOCUMENT], tmp_path / "w", {}).rows
    assert [(row["chosen"], row["rejected"]) for row in rows] == [("when", "who"), ("who", "where"), ("where", "when")]


def test_answers_of_nearly_the_same_reward_are_left_out_and_counted(task: ExtractiveQa, tmp_path: Path) -> None:
    scores = {"a": 0.7, "b": 1.0, "c": 0.4}
    assert scores["a"] - scores["c"] < 0.3  # in floating point, not in what was meant
    expected = {0.0: ["b", "a", "c"], 0.3: ["b", "a", "c"], 0.5: ["b", "c"], 0.6: ["b", "c"], 0.7: None}
    for margin, ranked in expected.items():
        for form in ("ranked", "pairs"):
            done = made(task, tmp_path / f"{margin}{form}", scores, form=form, min_margin=margin)
            if ranked is None:
                assert (done.rows, done.counts) == ((), {"near": 1})
            elif form == "ranked":
                assert done.rows[0]["ranked"] == ranked
            else:
                assert (done.rows[0]["chosen"], done.rows[0]["rejected"]) == ("b", "c")
    assert made(task, tmp_path / "tied", {"a": 1.0, "b": 1.0}, min_margin=0.5).counts == {"tied": 1}


def test_a_list_holds_nine_answers_at_most(task: ExtractiveQa, tmp_path: Path) -> None:
    """Of 12, by index * 11 // 8: the best and the worst among them, evenly spread."""
    scores = {str(number): -float(number) for number in range(12)}
    (row,) = made(task, tmp_path / "w", scores, form="ranked").rows
    assert row["ranked"] == ["0", "1", "2", "4", "5", "6", "8", "9", "11"]
    assert len(row["samples"]) == 12
    (pair,) = made(task, tmp_path / "p", scores).rows
    assert (pair["chosen"], pair["rejected"], pair["margin"]) == ("0", "11", 11.0)


def test_a_stop_amid_questions_that_are_judged_together_changes_nothing(
    task: ExtractiveQa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge's last bits depend on what it reads together, as a model's do; a line break of Unicode stands in an
    answer.
    """
    monkeypatch.setattr("palmette.synth.preferences._QUESTIONS", 2)
    texts = [["a\u2028bcd", "abc"], ["abcd", "a"], ["abcde", "ab"]]
    asked: list[int] = []

    def judge(completions: Sequence[tuple[Document, Question, str]]) -> list[float]:
        asked.append(len(completions))
        return [len(text) + 1 / len(completions) for _, _, text in completions]

    maker = PreferenceMaker(Script(texts), task, RewardMixture(None, judge), (Sampling(seed=0),), 2)
    whole = make_preferences(maker, [DOCUMENT], tmp_path / "whole", {})
    assert asked == [4, 2]
    work, lines = tmp_path / "work", PreferenceMaker.lines

    def stopped(self: PreferenceMaker, together: Any) -> Iterator[Any]:
        yield next(iter(lines(self, together)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PreferenceMaker, "lines", stopped)
        with pytest.raises(KeyboardInterrupt):
            make_preferences(maker, [DOCUMENT], work, {})
    assert len(work.read_bytes().splitlines()) == 2
    with work.open("ab") as stream:
        stream.write('{"id": "who", "re\u2028'.encode()[:-1])  # cut within a character
    held = work.stat().st_ino
    again = make_preferences(maker, [DOCUMENT], work, {})
    assert work.stat().st_ino == held, "a lock on the file would be lost"
    assert json.dumps(again.rows) == json.dumps(whole.rows)
    assert (again.counts, again.mean_reward) == (whole.counts, whole.mean_reward)
    assert work.read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_work_file_is_compared_with_all_settings(tmp_path: Path) -> None:
    work = tmp_path / "w"
    begin_work(work, {"reward": {"f1": 1.0}, "form": "pairs"})
    now = {"reward": {"f1": 1.0}, "form": "pairs", "min_margin": 0.0}
    assert begin_work(work, now, defaults=DEFAULTS) == {}  # before there were margins
    for changed in ({"min_margin": 0.1}, {"reward_model": {"run": "r", "weight": 1.0}}, {"reward": {}}):
        with pytest.raises(RunError, match=f"was begun with {next(iter(changed))}"):
            begin_work(work, {"reward": {"f1": 1.0}, "form": "pairs", **changed}, defaults=DEFAULTS)
    whole = work.read_bytes()
    work.write_bytes(whole[:9])  # cut off within the settings
    assert begin_work(work, {"reward": {"f1": 1.0}, "form": "pairs"}) == {}
    assert work.read_bytes() == whole
    work.write_bytes(b"notes")
    with pytest.raises(RunError, match="it holds no settings"):
        begin_work(work, {})


def test_completions_to_one_prompt_share_it(
    reward_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five completions to two prompts are two trees, at the rewards of each completion by itself; and a bar is drawn
    only if wanted.
    """
    opened = load_reward(reward_run)
    one, other = "What is the tower built of? " * 4, [{"role": "user", "content": "Who built it?"}]
    completions: list[Any] = [(one, "abc"), (other, "abc"), (one, "17"), (one, "abc"), (other, "")]
    capsys.readouterr()
    alone = [opened.scores([completion], quiet=True)[0] for completion in completions]
    assert capsys.readouterr().err == ""
    seen: list[list[PrefixTree]] = []
    score_trees = RewardModel.score_trees

    def spied(self: RewardModel, trees: Sequence[PrefixTree], **options: Any) -> list[list[float]]:
        seen.append(list(trees))
        return score_trees(self, trees, **options)

    monkeypatch.setattr(RewardModel, "score_trees", spied)
    assert opened.scores(completions) == pytest.approx(alone, abs=1e-5)  # float32, in other rows
    assert "rewards" in capsys.readouterr().err
    assert [len(tree.root.children) for tree in seen[0]] == [3, 2]
    assert len({round(reward, 4) for reward in alone}) == 4
    train = opened.recipe.train.model_copy(update={"tokens_per_batch": seen[0][0].root.num_tokens + 8})
    small = replace(opened, recipe=opened.recipe.model_copy(update={"train": train}))
    assert small.scores(completions, quiet=True) == pytest.approx(alone, abs=1e-5)
    assert sum(len(tree.root.children) for tree in seen[1]) == 5
    assert len(seen[1]) > 2, "a tree must fit into a forward pass"


def test_the_command_ranks_by_a_reward_model(
    reward_run: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each answer earns 2 * what the reward model says of it after the question as messages, and nothing else."""
    monkeypatch.setattr(
        "palmette.synth.preference_job.Sampler", lambda *_, **__: Script([["abcabc", "17", "granite?"]])
    )
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out.jsonl"
    words = ("synth", "preferences", data, "--model", tiny_folder, "--samples", 3, "--temperature", 1, "--out", out)
    ranking = ("--reward", "none", "--reward-model", reward_run, "--reward-model-weight", 2)
    assert palmette(monkeypatch, *words, *ranking) == 0
    assert "rewards" not in capsys.readouterr().err.replace(str(reward_run), "")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["q1", "q2", "q3"]
    opened = load_reward(reward_run)
    for row in rows:
        scores = {text: opened.scores([(row["prompt"], text)])[0] for text in ("abcabc", "17", "granite?")}
        assert row["margin"] == pytest.approx(2 * (max(scores.values()) - min(scores.values())), abs=1e-5)
        assert row["chosen"] == max(scores, key=lambda text: scores[text])
        for sample in row["samples"]:
            assert sample["rewards"] == {"model": pytest.approx(scores[sample["text"]], abs=1e-5)}
    report = json.loads((tmp_path / "out.jsonl.report.json").read_text())
    assert report["reward_model"] == {
        "run": str(reward_run),
        "sha256": weights_hash(str(reward_run / "adapter")),
        "weight": 2.0,
    }
    assert (report["reward"], report["min_margin"], report["kept"]) == ({}, 0.0, 3)
    out.unlink()
    margin = str(max(row["margin"] for row in rows) + 0.1)
    assert palmette(monkeypatch, *words, *ranking, "--min-margin", margin) == 2
    assert "left out: 3 near" in capsys.readouterr().out
    assert palmette(monkeypatch, *words, *ranking[:-2], "--min-margin", margin) == 2
    assert "was begun with reward_model" in capsys.readouterr().err


def test_a_second_process_at_the_same_output_is_refused(tmp_path: Path) -> None:
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out.jsonl"
    rows = [{"question": "q1", "answer": answer, "label": answer == "granite"} for answer in ("granite", "white")]
    settings = PreferenceSettings(data=str(data), verdicts=verdicts(tmp_path / "v.jsonl", *rows))
    work = tmp_path / "out.jsonl.work"
    work.touch()
    with locked(work, wait=False) as mine:
        assert mine
        with pytest.raises(RunError, match=r"another process is writing .*out\.jsonl\. Wait for it, or give another"):
            write_preferences(settings, out, print)
        assert not out.exists()
        assert work.exists(), "it is the other's"
        write_preferences(settings, tmp_path / "other.jsonl", print)
    write_preferences(settings, out, print)
    assert out.read_bytes() == (tmp_path / "other.jsonl").read_bytes()
    with pytest.raises(DataError, match="no data file"):
        write_preferences(settings.model_copy(update={"data": "none.json"}), tmp_path / "third.jsonl", print)
    assert not list(tmp_path.glob("*.work")), "nothing was begun"
