"""The benchmark of preferences: what it trains on, that both sides learn the same from it, and what it makes of the
figures.
"""

from __future__ import annotations

import doctest
import json
import math
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import palmette.model.loading
from tests.support.benchmarks import NAMES, corpus, words


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_docstrings(bench: SimpleNamespace, name: str) -> None:
    assert doctest.testmod(getattr(bench, name)).failed == 0


# What is trained on


# TRL's side of it


def make_job(bench: SimpleNamespace, kind: str, tiny_folder: Path, folder: Path) -> Any:
    """Two prompts in a step, 6 to train on, 2 held out; GRPO has 4 completions of each."""
    num = 4 if kind == "grpo" else 2
    groups = bench.preference_data.make_groups(corpus(8), num, words)
    assert len(groups) == 8
    data, held_out = str(folder / "train.json"), str(folder / "held_out.json")
    shared = {"documents": 2, "warmup": 1, "steps": 1, "kind": kind, "completions": num, "learning_rate": 0.02}
    shared |= {"tokens_per_batch": 4096}
    job = bench.preference_lessons.PreferenceJob(
        side="", model=str(tiny_folder), data=data, held_out=held_out, folder=str(folder), **shared
    )
    parts = groups[:6], groups[6:]
    if kind == "grpo":
        parts = tuple(
            bench.preference_data.with_old(part, bench.preference_lessons.score_old(job, part)) for part in parts
        )
    for path, part in zip((data, held_out), parts, strict=True):
        bench.preference_data.write_groups(Path(path), part)
    return job


@pytest.fixture
def in_float32(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides compute in float32, so that they differ by little more than rounding; nothing is sent anywhere."""
    monkeypatch.setattr("palmette.model.loading.fast_dtype", lambda _="auto": torch.float32)
    monkeypatch.setattr(bench.preference_trl, "fast_dtype", lambda: torch.float32)
    monkeypatch.setenv("CI", "1")


@pytest.mark.parametrize("kind", ["dpo", "reward", "grpo"])
@pytest.mark.usefixtures("in_float32")
def test_examples_are_the_branches_of_the_trees(
    bench: SimpleNamespace, kind: str, tiny_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    job = make_job(bench, kind, tiny_folder, tmp_path)
    groups = bench.preference_data.read_groups(job.data)
    trees = job.trees(groups, tokenizer)
    examples = bench.preference_trl.examples_of(job, groups, trees)
    rows = [row for one in examples for row in one["rows"]]
    assert sorted(rows) == sorted(row for tree in trees for row in bench.counts.tree_rows(tree))
    assert [one["length"] for one in examples] == sorted((one["length"] for one in examples), reverse=True)
    assert len({one["length"] for one in examples}) > 1
    if kind == "grpo":
        learned = sum(label != -100 for _, labels in rows for label in labels)
        assert {one["step_tokens"] for one in examples} == {learned}
        assert all(len(one["old"]) == len(one["completion_ids"]) for one in examples)
    elif kind == "dpo":
        texts = {tokenizer.decode(one["chosen_ids"]) for one in examples}
        assert texts == {group.completions[0] + "<|im_end|>" for group in groups}
        assert all(not set(one) & {"old", "advantage"} for one in examples)


def test_rows_are_filled_with_a_token_that_no_row_has(
    bench: SimpleNamespace, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Completions end with <|im_end|>, which is also the tokenizer's token for filling up."""
    assert tokenizer.pad_token == "<|im_end|>"
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    unused = bench.preference_trl.unused_token
    assert unused(tokenizer, [((5, end), (-100, -100))]) == "<|im_start|>" or start not in tokenizer.all_special_ids
    found = unused(tokenizer, [((start, 5, end), (-100,) * 3)])
    assert tokenizer.convert_tokens_to_ids(found) not in (start, 5, end)
    everything = tuple(tokenizer.get_vocab().values())
    with pytest.raises(SystemExit, match="every token"):
        unused(tokenizer, [(everything, (-100,) * len(everything))])


def test_the_classifier_begins_as_palmettes_model(
    bench: SimpleNamespace, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same adapter in the weights' dtype, the same head in float32, which reads bfloat16."""
    for module in (bench.preference_trl, palmette.model.loading):
        monkeypatch.setattr(module, "fast_dtype", lambda _="auto": torch.bfloat16)
    job = make_job(bench, "reward", tiny_folder, tmp_path)
    ours, (theirs, _) = bench.preference_lessons.adapted(job).model, bench.preference_trl.classifier(job)
    adapter = {name: value for name, value in ours.named_parameters() if ".lora_" in name}
    found = dict(theirs.named_parameters())
    assert len(adapter) > 2
    assert all(found[name].dtype == torch.bfloat16 and torch.equal(found[name], adapter[name]) for name in adapter)
    score = theirs.get_base_model().score.modules_to_save["default"]
    assert score.weight.dtype == torch.float32
    assert torch.equal(score.weight[0], ours.reward_head.weight)
    assert score.weight.requires_grad
    reward = theirs(input_ids=torch.tensor([[5, 6, 7]])).logits
    assert (reward.dtype, reward.shape) == (torch.float32, (1, 1))


def test_rollouts_are_filled_up_on_both_ends(bench: SimpleNamespace) -> None:
    shared = {"advantage": 0.5, "step_tokens": 9}
    batch = bench.preference_trl.collate_rollouts(
        [
            {"prompt_ids": [1, 2, 3], "completion_ids": [4], "old": [-0.5], **shared},
            {"prompt_ids": [5], "completion_ids": [6, 7], "old": [-1.0, -2.0], **shared},
        ],
        0,
    )
    assert {name: value.tolist() for name, value in batch.items()} == {
        "prompt_ids": [[1, 2, 3], [0, 0, 5]],
        "prompt_mask": [[1, 1, 1], [0, 0, 1]],
        "completion_ids": [[4, 0], [6, 7]],
        "completion_mask": [[1, 0], [1, 1]],
        "old_per_token_logps": [[-0.5, 0.0], [-1.0, -2.0]],
        "advantages": [0.5, 0.5],
        "num_items_in_batch": 9,
    }


# Both sides


class Told:
    """A channel that keeps what is said, and lets every turn begin at once."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def send(self, **values: Any) -> None:
        self.messages.append(values)

    def wait(self) -> None:
        """Go on."""


def play(bench: SimpleNamespace, job: Any, side: str, folder: Path) -> list[dict[str, Any]]:
    """What a side reports: its warm-up, two turns of a step, its end."""
    folder.mkdir()
    job, told = replace(job, side=side, folder=str(folder)), Told()
    lessons, peers = bench.preference_lessons, bench.preference_peers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, of which the benchmark's log is full
        if side == "palmette":
            bench.side.take_part(job, told, peers.palmette_side, lambda s: lessons.held_out_losses(job, s.model))
        else:
            given = bench.preference_trl.as_palmette
            bench.side.take_part(job, told, peers.trl_side, lambda s: lessons.held_out_losses(job, given(job, s.model)))
    return told.messages


def mean_advantage(bench: SimpleNamespace, job: Any) -> float:
    """Over the tokens of the held-out completions: one of four is right, so 3/4 and -1/4 over 1/2, the spread."""
    groups = bench.preference_data.read_groups(job.held_out)
    lengths = [[len(values) for values in group.old] for group in groups]
    assert all(group.rewards == (1.0, 0.0, 0.0, 0.0) for group in groups)
    total = sum(1.5 * first - 0.5 * sum(rest) for first, *rest in lengths)
    return total / sum(map(sum, lengths)) / (1 + 2e-4)


@pytest.mark.parametrize(("kind", "setting"), [("dpo", "padded:1"), ("reward", "padded:2"), ("grpo", "padded:4")])
@pytest.mark.usefixtures("in_float32")
def test_both_sides_learn_the_same(
    bench: SimpleNamespace, kind: str, setting: str, tiny_folder: Path, tmp_path: Path
) -> None:
    """Three optimizer steps in float32: the same tokens, the same loss at each step and afterwards, though TRL cuts its
    steps up.

    The losses begin where theory says: ln 2 for DPO, and for GRPO, whose ratio is 1, minus the mean advantage over
    tokens.
    """
    job = make_job(bench, kind, tiny_folder, tmp_path)
    ours = play(bench, job, "palmette", tmp_path / "palmette")
    theirs = play(bench, job, setting, tmp_path / "trl")
    assert len(ours) == len(theirs) == 4
    assert ours[-1]["rows_sha256"] == theirs[-1]["rows_sha256"]
    assert (ours[-1]["dtype"], theirs[-1]["dtype"]) == ("float32", "float32")
    assert ours[-1]["path"].startswith("fused")
    assert theirs[-1]["path"] == "sdpa"
    examples = 8 if kind == "grpo" else 2
    assert [told["examples"] for told in (*ours[1:3], *theirs[1:3])] == [examples] * 4
    assert ours[1]["tokens"] < theirs[1]["tokens"]
    assert all(told["learned"] == 0 for told in ours[1:3]) == (kind == "reward")
    for mine, other in zip(ours[:3], theirs[:3], strict=True):
        assert mine["training_loss"] == pytest.approx(other["training_loss"], abs=2e-4)
    if kind == "dpo":
        assert ours[0]["training_loss"] == pytest.approx(math.log(2), abs=1e-4)
        assert ours[-1]["untouched"] == pytest.approx(math.log(2), abs=1e-4)
    elif kind == "grpo":
        assert ours[-1]["untouched"] == pytest.approx(-mean_advantage(bench, job), abs=1e-4)
    assert ours[-1]["untouched"] == pytest.approx(theirs[-1]["untouched"], abs=1e-5)
    assert ours[-1]["loss"] == pytest.approx(theirs[-1]["loss"], abs=1e-3)
    assert abs(ours[-1]["loss"] - ours[-1]["untouched"]) > 5e-3  # else the agreement would say nothing
    assert ours[-1]["loss"] < ours[-1]["untouched"]


@pytest.mark.usefixtures("in_float32")
def test_old_log_probabilities_are_those_of_the_untouched_model(
    bench: SimpleNamespace, tiny_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Against transformers on plain rows."""
    job = make_job(bench, "grpo", tiny_folder, tmp_path)
    groups = bench.preference_data.read_groups(job.data)
    model = LlamaForCausalLM.from_pretrained(tiny_folder).eval()
    for group, tree in zip(groups[:2], job.trees(groups, tokenizer)[:2], strict=True):
        prompt = list(bench.preference_lessons.tokens_of(tree.root))
        for child, found in zip(tree.root.children, group.old, strict=True):
            tokens = prompt + list(bench.preference_lessons.tokens_of(child))
            with torch.no_grad():
                logprob = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
            expected = [float(logprob[at - 1, tokens[at]]) for at in range(len(prompt), len(tokens))]
            assert found == pytest.approx(expected, abs=1e-4)


# What is made of the figures


def result(bench: SimpleNamespace, *seconds: float, peak: float = 1, loss: float = 0.5, untouched: float = 0.7) -> Any:
    """Turns of 8 examples that took so many seconds."""
    turns = [
        {"seconds": s, "forward_backward": s, "examples": 8, "tokens": 80, "learned": 40, "flops": 10, "memory": 2**30}
        | {"training_loss": 0.6}
        for s in seconds
    ]
    end = {"peak": peak * 2**30, "loss": loss, "untouched": untouched, "path": "layers"}
    return bench.match.Result(1.0, turns, end, warmup_loss=0.7)


def make_race(bench: SimpleNamespace, kind: str, slower: float, **ours: float) -> Any:
    sides = {
        "palmette": result(bench, 1, 2, 3, **ours),
        "padded:4": result(bench, *(slower * s for s in (1, 4, 2)), peak=4),
    }
    return bench.preferences.Race(kind, "padded:4", sides)


def test_what_is_said_of_a_race(bench: SimpleNamespace) -> None:
    """8, 4, 8/3 examples a second against 4, 1, 2: medians 4 and 2, so 2; turn by turn 2, 4, 4/3.

    A quarter of the memory.
    """
    race = make_race(bench, "dpo", 2)
    assert race.headline() == "ratio dpo 2.0"
    assert "medians of 3 turns; turn by turn 1.3 to 4.0" in race.said()
    assert "peak memory 1.00 GiB against 4.00 GiB, 0.25 of it" in race.said()
    told = race.learned().splitlines()
    assert told[0] == "held-out loss of dpo: 0.7000 before training, then Palmette 0.5000, TRL padded:4 0.5000"
    assert told[1:] == [
        f"  training loss of {side}: 0.7000 in the warm-up, by turns 0.6000 0.6000 0.6000"
        for side in ("Palmette", "TRL padded:4")
    ]
    alone = bench.preferences.Race("grpo", None, {"palmette": result(bench, 1, 2, 3)})
    assert alone.headline() == "examples/s grpo 4.00"
    assert "Palmette alone" in alone.said()


def test_agreement_without_learning_says_little(bench: SimpleNamespace) -> None:
    assert "so little was learned" in make_race(bench, "dpo", 1, untouched=0.51).learned()
    assert "so little was learned" not in make_race(bench, "dpo", 1, untouched=0.53).learned()


def run_main(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, given: list[str], race: Any) -> None:
    """The whole command but for the measuring."""
    module = bench.preferences
    monkeypatch.setattr(module, "race", lambda _options, kind, *_: race(kind))
    monkeypatch.setattr(module, "matmul_peaks", lambda: {torch.bfloat16: 1e12, torch.float32: 1e11})
    monkeypatch.setattr(module, "load_tokenizer", lambda _: None)
    monkeypatch.setattr(module, "need_trl", lambda: None)
    monkeypatch.setattr(sys, "argv", ["preferences.py", *given])
    module.main()


def test_the_last_lines_are_the_ratios(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ratios = {"dpo": 1.9, "reward": 1.8, "grpo": 4.2}
    given = ["--json", str(tmp_path / "found.json")]
    run_main(bench, monkeypatch, given, lambda kind: make_race(bench, kind, ratios[kind]))
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == ["ratio dpo 1.9", "ratio reward 1.8", "ratio grpo 4.2"]
    assert sum("examples/s (least to most)" in line for line in said) == 3
    assert list(json.loads((tmp_path / "found.json").read_text())["kinds"]) == list(ratios)


def test_sides_that_learned_something_else_have_no_ratio(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0.5 of TRL, 0.47 of Palmette: further apart than 0.02."""
    with pytest.raises(SystemExit, match=r"held-out loss of reward 0\.4700 of Palmette"):
        run_main(bench, monkeypatch, ["--kinds", "reward"], lambda kind: make_race(bench, kind, 1, loss=0.47))
    assert "ratio" not in capsys.readouterr().out


def test_micro_batches_are_of_one_size(bench: SimpleNamespace) -> None:
    """16 completions of up to 340 tokens: 16 of them are 5440."""
    limits = bench.settings.Limits(16, 16, 340, 100_000)
    assert bench.preferences.settings_to_try(limits, 6144) == ["padded:16", "padded:8", "padded:4"]
    assert bench.preferences.settings_to_try(limits, 4096) == ["padded:8", "padded:4", "padded:2"]
    assert bench.preferences.settings_to_try(limits, 100) == ["padded:1"]
    assert bench.preferences.settings_to_try(bench.settings.Limits(12, 12, 340, 3000), 6144)[0] == "padded:6"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--samples", "1"], "2 or more"),
        (["--learning-rate", "0"], "above 0"),
        (["--micro-batch", "-1"], "or a number of examples"),
        (["--palmette-only", "--micro-batch", "2"], "leaves TRL out"),
        (["--kinds", "ppo"], "invalid choice"),
    ],
)
def test_options_that_make_no_sense(
    bench: SimpleNamespace,
    given: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["preferences.py", *given])
    with pytest.raises(SystemExit) as caught:
        bench.preferences.arguments()
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
