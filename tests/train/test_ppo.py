"""PPO on trees of rollouts: one step against stock transformers and arithmetic token by token; the stage learns,
adapts, stops and resumes.
"""

from __future__ import annotations

import json
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from palmette.config.recipes import read_section
from palmette.errors import ModelError, RecipeError
from palmette.inference.answerer import load_answerer
from palmette.model.heads import add_head, head_of
from palmette.rollouts.batch import RolloutBatch
from palmette.rollouts.maker import RolloutMaker
from palmette.rollouts.questions import group_prompts
from palmette.rollouts.rewards import RewardMixture
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.scoring import score_rollouts
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.rewards import REWARDS
from palmette.train.policies.ppo import PpoLearner, add_advantages, next_coefficient
from palmette.train.recipes.rollouts import PpoRecipe, PpoSection
from palmette.train.run import resume, train
from palmette.train.steps.callbacks import TrainingInterrupted
from palmette.tree.chat import ChatTemplate
from tests.support.data import squad_file
from tests.support.models import SMALL, tiny_llama, with_exact_norms
from tests.support.rewards import letters
from tests.support.rollouts import DOCUMENTS, LENGTH, LengthReward, ends, packed, step
from tests.support.runs import adapter, assert_same, log, on_step, quiet

SETTINGS = PpoSection(value_coefficient=0.7, unfinished_amount=2.0, lam=0.9, gamma=0.97)
COEFFICIENT = 0.3


@pytest.fixture(scope="module")
def task(tokenizer: Any) -> ExtractiveQa:
    return ExtractiveQa(ChatTemplate(tokenizer))


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer))
    add_head(model, "value", seed=1).double()
    return model


@pytest.fixture(scope="module")
def made(model: Any, task: ExtractiveQa, tokenizer: Any) -> RolloutBatch:
    """Rollouts whose policies and values were a little off the present ones, so that ratios and values are clipped."""
    limits = {"num_samples": 4, "max_new_tokens": LENGTH, "most_questions": 3, "row_tokens": 4096}
    asked, _ = group_prompts(DOCUMENTS, task, **limits)
    source = Sampler(model, tokenizer, end_tokens=ends(model))
    rollouts = RolloutMaker(source, RewardMixture(LengthReward()), 4, LENGTH, seed=3).make(asked, 0)
    assert {sample.finish for sample in rollouts.samples} == {"end", "length"}
    now_P, value_P = score_rollouts(model, packed(rollouts), rollouts, ends(model), head_of(model, "value"))
    assert value_P is not None
    noise_P = 0.4 * torch.randn(3, len(now_P), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    add_advantages(SETTINGS, rollouts, now_P + noise_P[0], value_P + noise_P[1], now_P + noise_P[2], COEFFICIENT)
    return rollouts


def targets(rollouts: RolloutBatch) -> tuple[list[float], list[float]]:
    """Whitened advantages and returns of all tokens, by the recursion as it stands in the papers, one number after
    the other.
    """
    old, reference, value = (rollouts.scored[name].tolist() for name in ("old", "reference", "value"))
    advantages, returns, at = [], [], 0
    for sample in rollouts.samples:
        places = range(at, at + len(sample.tokens))
        rewards = [-COEFFICIENT * (old[i] - reference[i]) for i in places]
        rewards[-1] += sample.reward - (0.0 if sample.finish == "end" else 2.0)
        following, carried, found = 0.0, 0.0, []
        for i, reward in zip(reversed(places), reversed(rewards), strict=True):
            carried = reward + 0.97 * following - value[i] + 0.97 * 0.9 * carried
            following = value[i]
            found.append((carried, carried + value[i]))
        advantages += [advantage for advantage, _ in reversed(found)]
        returns += [ret for _, ret in reversed(found)]
        at += len(sample.tokens)
    mean, spread = statistics.mean(advantages), statistics.pstdev(advantages)
    return [(advantage - mean) / spread for advantage in advantages], returns


def plain_loss(model: Any, task: ExtractiveQa, rollouts: RolloutBatch) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """One completion a row through transformers as it is: the model with a head, PPO's loss, and how many of the
    terms were clipped.
    """
    config = LlamaConfig(**{**SMALL, "vocab_size": model.config.vocab_size}, max_position_embeddings=4096)
    stock = with_exact_norms(LlamaForCausalLM(config).double())
    stock.add_module("value_head", torch.nn.Linear(SMALL["hidden_size"], 1, dtype=torch.float64))
    state = model.state_dict()
    state["value_head.weight"], state["value_head.bias"] = (
        state["value_head.weight"][None],
        state["value_head.bias"][None],
    )
    stock.load_state_dict(state)
    advantages, returns = targets(rollouts)
    old, old_value = rollouts.scored["old"].tolist(), rollouts.scored["value"].tolist()
    questions = [(document, question) for document in DOCUMENTS for question in document.questions]
    policy, value, clipped, at = [], [], [], 0
    for index, sample in enumerate(rollouts.samples):
        prompt = task.prompt_tokens(*questions[index // 4])
        states = stock.model(input_ids=torch.tensor([[*prompt, *sample.tokens]])).last_hidden_state[0]
        for place, token in enumerate(sample.tokens):
            before = states[len(prompt) + place - 1]
            ratio = (torch.log_softmax(stock.lm_head(before), dim=-1)[token] - old[at]).exp()
            kept = torch.clamp(ratio, 0.8, 1.2)
            policy.append(-torch.minimum(ratio * advantages[at], kept * advantages[at]))
            clipped.append(float(kept.detach() * advantages[at] < ratio.detach() * advantages[at]))
            said = stock.value_head(before)[0]
            near = old_value[at] + torch.clamp(said - old_value[at], -0.2, 0.2)
            value.append(0.5 * torch.maximum((said - returns[at]) ** 2, (near - returns[at]) ** 2))
            at += 1
    loss = torch.stack(policy).mean() + 0.7 * torch.stack(value).mean()
    return stock, loss, torch.tensor(clipped, dtype=torch.float64).mean()


def test_a_step_on_the_tree_is_that_of_plain_rows(model: Any, task: ExtractiveQa, made: RolloutBatch) -> None:
    """Loss and every gradient, in three packings, that of the head among them.

    A value read at the token itself would be another number.
    """
    stock, wanted, clipped = plain_loss(model, task, made)
    assert 0 < float(clipped) < 1
    wanted.backward()
    plan: Any = type("Plan", (), {"rollouts": made})
    tallies = []
    for batches in (packed(made), packed(made, one_row=False), packed(made, 64)):
        learn = PpoLearner(SETTINGS, plan, end_tokens=ends(model))
        loss, found = step(model, learn, batches)  # type: ignore[arg-type]
        torch.testing.assert_close(loss, wanted.detach(), rtol=1e-9, atol=1e-12)
        for name, parameter in stock.named_parameters():
            assert parameter.grad is not None
            gradient = found[name].reshape(parameter.grad.shape)
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-7, atol=1e-10)
        tallies.append(learn.tally.take())
    assert tallies[0]["clip_share"] == pytest.approx(float(clipped), rel=1e-9)
    assert tallies[0]["kl_coefficient"] == COEFFICIENT
    for tally in tallies[1:]:
        assert tally == pytest.approx(tallies[0], rel=1e-9)


def test_what_is_noted_of_rollouts(made: RolloutBatch) -> None:
    advantages, returns = targets(made)
    assert made.scored["advantage"].tolist() == pytest.approx(
        advantages, rel=1e-6
    )  # whitening adds 1e-8 to the variance
    assert made.scored["return"].tolist() == pytest.approx(returns, rel=1e-9)
    gaps = made.scored["old"] - made.scored["reference"]
    assert made.notes["completion_kl"] == pytest.approx(float(gaps.sum()) / 12)
    misses = [a - b for a, b in zip(returns, made.scored["value"].tolist(), strict=True)]
    explained = 1 - statistics.pvariance(misses) / statistics.pvariance(returns)
    assert made.notes["explained_variance"] == pytest.approx(explained)
    cut = sum(sample.finish == "length" for sample in made.samples)
    assert made.notes["score"] == pytest.approx((sum(sample.reward for sample in made.samples) - 2 * cut) / 12)


def test_the_coefficient_adapts() -> None:
    """Ziegler et al. (2019), section 2.2: twice the target is an error of 1, cut to 0.2; times the gain 0.5."""
    settings = PpoSection(kl_coefficient=0.2, kl_target=3.0, kl_gain=0.5)
    assert next_coefficient(settings, None) == 0.2
    assert next_coefficient(settings, {"kl_coefficient": 0.4, "completion_kl": 6.0}) == pytest.approx(0.4 * 1.1)
    assert next_coefficient(settings, {"kl_coefficient": 0.4, "completion_kl": 2.7}) == pytest.approx(0.4 * 0.95)
    assert next_coefficient(PpoSection(), {"kl_coefficient": 0.4, "completion_kl": 6.0}) == 0.05


@pytest.fixture(autouse=True)
def letters_are_rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REWARDS, "letters", letters)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(squad_file(tmp_path_factory.mktemp("data") / "squad.json"))


def recipe(tiny_folder: Path, data: str, out: Path, section: dict[str, Any], **sections: Any) -> PpoRecipe:
    rollouts = {"samples": 3, "max_new_tokens": 5, "documents": 2, "passes": 2, "rewards": {"letters": 1.0}}
    common = {"model": {"name": str(tiny_folder), "dtype": "float32"}, "data": {"train": [data]}}
    settings = {"output": str(out), **common, **sections}
    settings["rollouts"] = {**rollouts, **sections.get("rollouts", {})}
    return read_section(
        PpoRecipe, {**settings, "train": {"trees_per_step": 1, "learning_rate": 0.01, **section}}, "test"
    )


def test_it_adapts_stops_and_resumes_bit_equal(
    tiny_folder: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs of four steps over one batch of rollouts each; the signal comes in step 2, so step 3 is the last,
    amid the first batch.
    """
    changes: dict[str, Any] = {"lora": {"rank": 2, "dropout": 0.2}, "ppo": {"kl_target": 0.5}}
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    train(recipe(tiny_folder, data, straight, {"epochs": 2}, **changes), quiet)
    on_step(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted, match=r"after step 3. Continue with: palmette train ppo --resume"):
        train(recipe(tiny_folder, data, stopped, {"epochs": 2}, **changes), quiet)
    monkeypatch.undo()
    monkeypatch.setitem(REWARDS, "letters", letters)
    resume(stopped, quiet)
    assert_same(adapter(straight), adapter(stopped))
    head = "adapter/value_head.safetensors"
    assert_same(load_file(straight / head), load_file(stopped / head))
    assert load_file(straight / head)["weight"].abs().max() > 0
    lines = log(straight)
    assert [line["kl_coefficient"] for line in lines[:4]] == [0.05] * 4
    assert lines[4]["kl_coefficient"] == pytest.approx(
        0.05 * (1 + 0.1 * max(-0.2, min(0.2, lines[0]["completion_kl"] / 0.5 - 1)))
    )
    assert {"score", "value_loss", "explained_variance", "kl", "old_kl", "clip_share", "entropy"} <= lines[4].keys()
    assert json.loads((straight / "manifest.json").read_text())["stage"] == "ppo"
    assert load_answerer(str(straight)).task.prompt.sha256  # answers questions like any other run


def test_what_is_rewarded_is_learned(tiny_folder: Path, data: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ppo = {"kl_coefficient": 0.0, "kl_limit": None, "unfinished_amount": 0.0}
    section = {"epochs": 12, "method": "full", "trees_per_step": 2, "save_every": 99}
    train(recipe(tiny_folder, data, out, section, ppo=ppo, rollouts={"samples": 8}), quiet)
    rewards = [line["reward"] for line in log(out)]
    assert len(rewards) == 24
    first, last = sum(rewards[:4]) / 4, sum(rewards[-4:]) / 4
    assert first < 0.5
    assert last > first + 0.15


def test_a_policy_that_runs_away_stops_the_run(tiny_folder: Path, data: str, tmp_path: Path) -> None:
    """In bfloat16, as real models are; the head stays in float32."""
    changes: dict[str, Any] = {"ppo": {"kl_limit": 1e-4}, "lora": {"rank": 2}}
    changes["model"] = {"name": str(tiny_folder), "dtype": "bfloat16"}
    section = {"epochs": 2, "learning_rate": 0.1, "warmup": 0.0}
    with pytest.raises(
        ModelError, match=r"nats a completion away from its reference, more than ppo\.kl_limit = 0\.0001"
    ):
        train(recipe(tiny_folder, data, tmp_path / "run", section, **changes), quiet)
    assert not (tmp_path / "run" / "adapter").exists()
    first = log(tmp_path / "run")[0]
    assert (first["kl"], first["old_kl"]) == (0, 0)  # policy, old policy and reference agree to the last bit at first


def test_contradictions_in_recipes_are_refused() -> None:
    for values, message in (
        ({"ppo": {"unfinished_amount": -1.0}}, r"ppo\.unfinished_amount = -1\.0 would reward"),
        ({"ppo": {"kl_target": 1.0, "kl_coefficient": 0.0}}, "cannot adapt"),
        ({"rollouts": {"rewards": {}}}, r"rollouts\.rewards is empty"),
        ({"ppo": {"lamda": 0.9}}, "Did you mean 'lam'"),
    ):
        with pytest.raises(RecipeError, match=message):
            read_section(PpoRecipe, {"output": "x", **values}, "test")
