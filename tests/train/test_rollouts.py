"""What a policy learns from its rollouts: the trees, the objective on them against stock transformers and TRL, and
classic bugs put back.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from palmette.data.records import Document, Question
from palmette.errors import DataError, ModelError, PackingError, RunError
from palmette.rollouts.batch import RewardedCompletion, RolloutBatch
from palmette.rollouts.maker import RolloutMaker
from palmette.rollouts.questions import PromptGroup, group_prompts
from palmette.rollouts.rewards import RewardMixture
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.sampling import Sampling
from palmette.rollouts.scoring import score_rollouts
from palmette.tasks.extractive_qa import ExtractiveQa, Reasoning
from palmette.tasks.qa_prompt import load_prompt
from palmette.tasks.rewards import QaReward
from palmette.train.policies.grpo import GrpoLearner, completion_advantages, needed_scores
from palmette.train.policies.plan import RolloutPlan
from palmette.train.recipes.rollouts import GrpoSection
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment
from tests.support.models import SMALL, tiny_llama, with_exact_norms
from tests.support.rollouts import DOCUMENTS, LENGTH, LengthReward, ends, packed, step
from tests.support.trl_losses import trl_grpo_loss, trl_rloo_loss


@pytest.fixture(scope="module")
def task(tokenizer: Any) -> ExtractiveQa:
    return ExtractiveQa(ChatTemplate(tokenizer))


@pytest.fixture(scope="module")
def asked(task: ExtractiveQa) -> list[PromptGroup]:
    limits = {"num_samples": 4, "max_new_tokens": LENGTH, "most_questions": 3, "row_tokens": 4096}
    found, dropped = group_prompts(DOCUMENTS, task, **limits)
    assert (len(found), dropped) == (2, [])
    return found


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return tiny_llama(torch.float64, vocab_size=len(tokenizer))


@pytest.fixture(scope="module")
def maker(model: Any, tokenizer: Any) -> RolloutMaker:
    return RolloutMaker(
        Sampler(model, tokenizer, end_tokens=ends(model)), RewardMixture(LengthReward()), 4, LENGTH, seed=3
    )


@pytest.fixture(scope="module")
def made(model: Any, asked: list[PromptGroup], maker: RolloutMaker) -> RolloutBatch:
    """Rollouts whose old and reference policies are a little off the present one, so that some ratios are clipped."""
    rollouts = maker.make(asked, 0)
    assert {sample.finish for sample in rollouts.samples} == {"end", "length"}
    assert len({len(sample.tokens) for sample in rollouts.samples}) > 2
    now_P = score_rollouts(model, packed(rollouts), rollouts, ends(model))[0]
    noise_P = 0.4 * torch.randn(2, len(now_P), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rollouts.scored.update(old=now_P + noise_P[0], reference=now_P + noise_P[1])
    return rollouts


def learner(model: Any, rollouts: RolloutBatch, **settings: Any) -> GrpoLearner:
    plan: Any = SimpleNamespace(rollouts=rollouts)
    return GrpoLearner(GrpoSection(**settings), plan, max_new_tokens=LENGTH, end_tokens=ends(model))


def stock_logprobs(model: Any, task: ExtractiveQa, rollouts: RolloutBatch) -> tuple[Any, torch.Tensor]:
    """One completion a row, after its whole prompt, through transformers as it is: the model, and the
    log-probabilities of the completions' tokens.
    """
    stock = LlamaForCausalLM(
        LlamaConfig(**{**SMALL, "vocab_size": model.config.vocab_size}, max_position_embeddings=4096)
    )
    stock = with_exact_norms(stock.double())
    stock.load_state_dict(model.state_dict())
    questions = [(document, question) for document in DOCUMENTS for question in document.questions]
    rows = []
    for index, sample in enumerate(rollouts.samples):
        prompt = task.prompt_tokens(*questions[index // rollouts.num_samples])
        logits = stock(input_ids=torch.tensor([[*prompt, *sample.tokens]])).logits[0]
        predicted = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
        rows.append(predicted[torch.arange(len(sample.tokens)), torch.tensor(sample.tokens)])
    return stock, torch.cat(rows)


def by_hand(rollouts: RolloutBatch, objective: str) -> torch.Tensor:
    """Advantages from the papers' formulas, number by number."""
    found = []
    for start in range(0, len(rollouts.samples), 4):
        rewards = [sample.reward for sample in rollouts.samples[start : start + 4]]
        spread = statistics.stdev(rewards)
        for index, reward in enumerate(rewards):
            others = rewards[:index] + rewards[index + 1 :]
            if objective == "rloo":
                found.append(reward - statistics.mean(others))
            else:
                found.append((reward - statistics.mean(rewards)) / (spread + 1e-4) if spread else 0.0)
    return torch.tensor(found, dtype=torch.float64)


CASES = [("token", "dapo"), ("branch", "grpo"), ("constant", "dr_grpo"), ("rloo", "rloo")]


@pytest.mark.parametrize(("kind", "loss_type"), CASES)
def test_a_step_on_the_tree_is_that_of_plain_rows(
    model: Any, task: ExtractiveQa, made: RolloutBatch, kind: str, loss_type: str
) -> None:
    """Loss and every gradient, in three packings: one row, a row for each document, a pass for each. 1e-9: float64,
    sums in another order.
    """
    stock, stock_P = stock_logprobs(model, task, made)
    advantage_N = by_hand(made, loss_type)
    assert advantage_N.abs().max() > 0.5
    old_P, reference_P, branch_P = made.scored["old"], made.scored["reference"], made.branch_P
    clip = {"epsilon_low": 0.2, "epsilon_high": 0.28}
    if kind == "rloo":
        theirs, logged = trl_rloo_loss(stock_P, old_P, advantage_N, branch_P, **clip)
        learn = learner(model, made, objective="rloo", clip_high=0.28, kl_coefficient=0.0)
    else:
        more = {"beta": 0.3, "max_completion_length": LENGTH, **clip}
        theirs, logged = trl_grpo_loss(stock_P, old_P, reference_P, advantage_N, branch_P, loss_type, **more)
        learn = learner(model, made, average=kind, clip_high=0.28, kl_coefficient=0.3)
    theirs.backward()
    wanted = {name: p.grad for name, p in stock.named_parameters()}
    packings = [packed(made), packed(made, one_row=False), packed(made, 64)]
    assert [len(batches) for batches in packings] == [1, 1, 2]
    tallies = []
    for batches in packings:
        loss, found = step(model, learn, batches)
        torch.testing.assert_close(loss, theirs, rtol=1e-9, atol=1e-12)
        assert found.keys() == wanted.keys()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-7, atol=1e-10)
        tallies.append(learn.tally.take())
    assert 0 < tallies[0]["clip_share"] < 1
    for tally in tallies[1:]:
        assert tally == pytest.approx(tallies[0], rel=1e-9)
    assert tallies[0]["entropy"] == pytest.approx(-float(stock_P.detach().mean()), rel=1e-9)
    if kind == "token":
        assert tallies[0]["clip_share"] == pytest.approx(logged["clip_ratio/region_mean"][0], rel=1e-6)
        # TRL logs k3 a token; here it is of a completion.
        per_completion = logged["kl"][0] * len(branch_P) / len(made.samples)
        assert tallies[0]["kl"] == pytest.approx(per_completion, rel=1e-6)


def test_scored_once_more_they_are_what_the_sampler_said(model: Any, made: RolloutBatch, maker: RolloutMaker) -> None:
    """In float64 the two differ by the order of sums alone."""
    prompts = [prompt for one in made.groups for prompt in one.prompts]
    sampling = {"max_new_tokens": LENGTH, "seed": 3 * 1_000_003}
    groups = maker.sampler.sample(prompts, 4, Sampling(**sampling), keys=[0, 1, 2])
    said = [logprob for group in groups for rollout in group for logprob in rollout.logprobs]
    assert score_rollouts(model, packed(made), made, ends(model))[0].tolist() == pytest.approx(said, abs=1e-9)


def without_end(self: PromptGroup, completions: Any) -> PrefixTree:
    """The tree with a classic bug: the last token of each completion is not learned."""
    tree = TREE(self, completions)

    def cut(leaf: Node) -> Node:
        (whole,) = leaf.segments
        parts = (Segment(whole.tokens[:-1], learn=1.0), Segment(whole.tokens[-1:]))
        return Node(tuple(part for part in parts if part.tokens), name=leaf.name)

    below = tuple(Node(q.segments, tuple(map(cut, q.children)), q.name) for q in tree.root.children)
    return PrefixTree(Node(tree.root.segments, below), tree.name)


def with_prompt(self: PromptGroup, completions: Any) -> PrefixTree:
    """The tree with another one: the question is learned too."""
    tree = TREE(self, completions)
    below = tuple(Node((Segment(q.segments[0].tokens, learn=1.0),), q.children, q.name) for q in tree.root.children)
    return PrefixTree(Node(tree.root.segments, below), tree.name)


TREE = PromptGroup.tree


@pytest.mark.parametrize(
    ("bug", "error", "message"),
    [
        (without_end, ValueError, "tokens of sample 0 are learned"),
        (with_prompt, PackingError, "several branches share"),
    ],
)
def test_classic_bugs_are_caught(
    model: Any, made: RolloutBatch, monkeypatch: pytest.MonkeyPatch, bug: Any, error: Any, message: str
) -> None:
    monkeypatch.setattr(PromptGroup, "tree", bug)
    with pytest.raises(error, match=message):
        step(model, learner(model, made), packed(made))


def test_nothing_but_completions_is_learned(made: RolloutBatch) -> None:
    (batch,) = packed(made)
    learned = batch.token_BT[batch.learn_BT != 0].tolist()
    assert sorted(learned) == sorted(token for sample in made.samples for token in sample.tokens)
    assert set(batch.learn_BT.unique().tolist()) == {0.0, 1.0}
    ended = [sample for sample in made.samples if sample.ended]
    assert ended
    assert all(sample.tokens[-1] in range(100) for sample in ended)


def test_a_policy_too_far_from_its_reference_stops(model: Any, made: RolloutBatch) -> None:
    """Only at the end of a step, whatever its first batch says, and before anything is learned from it."""
    stock = learner(model, made, kl_limit=1000.0)
    step(model, stock, packed(made, 64))
    reached = stock.tally.take()["kl"]
    with pytest.raises(
        ModelError, match=r"is \d+\.\d nats a completion away from its reference, more than grpo\.kl_limit"
    ):
        step(model, learner(model, made, kl_limit=reached * 0.99), packed(made, 64))
    step(model, learner(model, made, kl_limit=reached * 1.01), packed(made, 64))


def test_which_scores_are_needed() -> None:
    assert needed_scores(GrpoSection(), 1) == ("reference",)
    assert needed_scores(GrpoSection(), 2) == ("old", "reference")
    assert needed_scores(GrpoSection(kl_coefficient=0.0, kl_limit=None), 1) == ()
    assert needed_scores(GrpoSection(objective="rloo"), 1) == ("old", "reference")


def test_the_kl_of_rloo_is_in_the_reward(made: RolloutBatch) -> None:
    """Reward - 0.5 * log(old / reference) of the whole completion, against the mean of the others."""
    advantage_N = completion_advantages(GrpoSection(objective="rloo", kl_coefficient=0.5), made)
    gaps = (made.scored["old"] - made.scored["reference"]).tolist()
    rewards, at = [], 0
    for sample in made.samples:
        rewards.append(sample.reward - 0.5 * sum(gaps[at : at + len(sample.tokens)]))
        at += len(sample.tokens)
    wanted = [rewards[i] - (sum(rewards[i // 4 * 4 : i // 4 * 4 + 4]) - rewards[i]) / 3 for i in range(len(rewards))]
    assert advantage_N.tolist() == pytest.approx(wanted, rel=1e-9)
    assert wanted != pytest.approx(by_hand(made, "rloo").tolist(), abs=0.1)


def test_documents_are_parted_where_rows_are_full(task: ExtractiveQa) -> None:
    """Four questions, of which two fit into a row; a long one fits into none. Each keeps its number."""
    texts = ["A?", "B?", "x" * 400, "C?"]
    document = Document("d", "Text.", tuple(Question(text[:1], text) for text in texts))
    limits: dict[str, Any] = {"num_samples": 2, "max_new_tokens": 10, "most_questions": 9}
    opened = [task.open_completion("Text.", text) for text in texts]
    shared = len(opened[0].root) + len(opened[0].document)
    two = shared + len(opened[0].question) + len(opened[1].question) + 2 * 20
    found, dropped = group_prompts([document], task, row_tokens=two, on_too_long="drop", **limits)
    assert [([q.id for q in one.questions], one.first_key) for one in found] == [(["A", "B"], 0), (["C"], 3)]
    assert found[0].prompts[1] == tuple(task.prompt_tokens(document, document.questions[1]))
    (problem,) = dropped
    needed = shared + len(opened[2].question) + 20
    assert problem == f"question 'x' with 2 completions needs up to {needed} tokens, more than train.row_tokens = {two}"
    with pytest.raises(PackingError, match="question 'x' with 2 completions needs up to"):
        group_prompts([document], task, row_tokens=two, **limits)
    alone, _ = group_prompts([document], task, row_tokens=two - 1, on_too_long="drop", **limits)
    assert [len(one.questions) for one in alone] == [1, 1, 1]
    one_by_one, _ = group_prompts([document], task, row_tokens=4096, **{**limits, "most_questions": 1})
    assert [len(one.questions) for one in one_by_one] == [1, 1, 1, 1]
    blah = ExtractiveQa(task.template, reasoning=Reasoning("blah"))
    with pytest.raises(DataError, match="in one completion of its own"):
        group_prompts([document], blah, row_tokens=4096, **limits)


def test_what_rollouts_say_of_themselves(asked: list[PromptGroup]) -> None:
    """Three questions with four completions each: "when" is answered rightly twice, "who" always, "what" never."""
    reward = QaReward(load_prompt(), {"exact": 1.0, "valid_json": 0.5})
    right, none, junk = '{"answer": "7:40"}', '{"answer": "?"}', "7"
    samples = []
    for question, texts in zip(
        [q for d in DOCUMENTS for q in d.questions], [[right, junk, right, none], [none] * 4, [junk] * 4], strict=True
    ):
        for text in texts:
            parts = reward.parts(text, question)
            finish: Any = "length" if text == junk else "end"
            samples.append(
                RewardedCompletion((5,) * (2 if text == junk else 3), text, finish, parts, reward.total(parts))
            )
    found = RolloutBatch(7, tuple(asked), tuple(samples), 4)
    assert found.summary() == pytest.approx(
        {
            "reward": (2 + 4 + 0.5 * 7) / 12,
            "reward_exact": 6 / 12,
            "reward_valid_json": 7 / 12,
            "completion_tokens": (7 * 3 + 5 * 2) / 12,
            "ended": 7 / 12,
            "flat_groups": 2 / 3,
        }
    )
    shown = found.shown(2)
    assert [(line["question"], line["gold"], line["completion"], line["reward"]) for line in shown] == [
        ("when", ["7:40"], right, 1.5),
        ("who", [], none, 1.5),
    ]
    again = RolloutBatch.from_json(json.loads(json.dumps(found.to_json())), asked, 4)
    assert (again.samples, again.number) == (found.samples, 7)


def plan(model: Any, asked: list[PromptGroup], maker: RolloutMaker) -> RolloutPlan:
    def score(rollouts: RolloutBatch, batches: Any, before: RolloutBatch | None) -> None:
        rollouts.scored["old"] = score_rollouts(model, batches, rollouts, ends(model))[0]
        rollouts.notes["before"] = before.notes["before"] + 1 if before else 0.5

    settings = {"documents": 2, "trees_per_step": 1, "passes": 2, "row_tokens": 4096, "tokens_per_batch": 4096}
    return RolloutPlan(model, asked, maker, score=score, one_row=True, seed=0, **settings)


def test_rollouts_are_sampled_once_and_survive_a_stop(tokenizer: Any, asked: list[PromptGroup], tmp_path: Path) -> None:
    """Three documents, two at a time, twice over, in steps of one: 2 * 2 + 1 * 2 = 6 steps, new samples before the
    first and the fifth.
    """
    model = tiny_llama(torch.float32, vocab_size=len(tokenizer))
    source = Sampler(model, tokenizer, end_tokens=ends(model))
    maker = RolloutMaker(source, RewardMixture(LengthReward()), 4, LENGTH, seed=3)
    third = PromptGroup("f", asked[1].document, asked[1].questions, 9, asked[1].root, asked[1].trunk, asked[1].ends)
    first = plan(model, [*asked, third], maker)
    assert first.steps_per_epoch == 6
    first.keep_samples(tmp_path / "samples.jsonl", 0, 1)
    batches, seen = [], []
    for number in range(6):
        batches.append(first.step_batches(0, number))
        seen.append(first.rollouts)
        if number == 2:
            (tmp_path / "checkpoint").mkdir()
            first.save(tmp_path / "checkpoint", 0)
    assert [rollouts.number for rollouts in seen] == [0, 0, 0, 0, 1, 1]
    assert seen[0] is seen[3]
    names = [[name for batch in step for row in batch.rows for name, _ in row.nodes if name] for step in batches]
    assert {frozenset(names[0]), frozenset(names[1])} == {frozenset(names[2]), frozenset(names[3])}
    assert set(names[0]) != set(names[1])
    lines = [json.loads(line)["step"] for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert lines == [1, 5]

    later = plan(model, [*asked, third], maker)
    later.load(tmp_path / "checkpoint")
    later.keep_samples(tmp_path / "samples.jsonl", 3, 1)
    (again,) = later.step_batches(0, 3)
    assert torch.equal(again.token_BT, batches[3][0].token_BT)
    for name, value_P in seen[3].scored.items():
        assert torch.equal(later.rollouts.scored[name], value_P)
        assert value_P.dtype == torch.float32
    assert later.rollouts.samples == seen[3].samples
    later.step_batches(0, 4)
    assert later.rollouts.samples == seen[4].samples
    assert later.rollouts.notes == {"before": 1.5}
    lines = [json.loads(line)["step"] for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert lines == [1, 5]
    with pytest.raises(RunError, match="are lost"):
        plan(model, [*asked, third], maker).step_batches(0, 3)


def test_draws_depend_on_seed_batch_and_question_alone(asked: list[PromptGroup], maker: RolloutMaker) -> None:
    def texts(number: int, which: list[PromptGroup]) -> list[str]:
        return [sample.text for sample in maker.make(which, number).samples]

    both = texts(0, asked)
    assert both == texts(0, asked)
    assert both[8:] == texts(0, asked[1:])
    assert both != texts(1, asked)
