"""Rollouts: their log-probabilities, their distribution, what they share, and how they end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from palmette.decode.prefix_cache import PrefixCache
from palmette.errors import ModelError, PackingError
from palmette.model.forward import score_tokens
from palmette.model.loading import load_model
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.sampling import Rollout, Sampling, completion_text, cut_at
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment
from tests.support.models import PATHS, VOCABULARY, on_path, tiny_llama
from tests.support.tokenizers import LetterPairs

# The second one begins as the first does, the third one is the beginning of both, the fourth has nothing in common with
# them.
PROMPTS = ((3, 1, 4, 1, 5), (3, 1, 4, 9, 2, 6), (3, 1), (8, 8, 8))


def sampler(model: Any, *, end: tuple[int, ...] = (), tokens_per_batch: int = 8192) -> Sampler:
    return Sampler(model, LetterPairs(), end_tokens=end, tokens_per_batch=tokens_per_batch)


def rollouts(model: Any, sampling: Sampling, num_samples: int = 3, **options: Any) -> list[list[Rollout]]:
    return list(sampler(model, **options).sample(PROMPTS, num_samples, sampling))


def trained_on(model: Any, prompt: Sequence[int], found: Sequence[Rollout]) -> list[list[float]]:
    """What the training forward says of the rollouts of one prompt, packed as a tree."""
    branches = tuple(Node((Segment(r.tokens, learn=1.0),), name=str(index)) for index, r in enumerate(found))
    batch = PackedBatch.from_trees([[PrefixTree(Node((Segment(tuple(prompt)),), branches, "root"), "tree")]])
    with torch.no_grad():
        values = score_tokens(model, batch).logprob_P.tolist()
    lengths = np.cumsum([0, *(len(r.tokens) for r in found)])
    assert lengths[-1] == len(values)
    return [values[a:b] for a, b in pairwise(lengths)]


def plain_softmax(prompt: Sequence[int], temperature: float = 1.0) -> np.ndarray:
    """The next token's distribution by stock attention, normalised by numpy."""
    with torch.no_grad():
        logits = tiny_llama(torch.float64, "sdpa")(input_ids=torch.tensor([list(prompt)])).logits[0, -1].numpy()
    weights = np.exp((logits - logits.max()) / temperature)
    return np.asarray(weights / weights.sum())


@pytest.mark.parametrize("path", PATHS)
def test_logprobs_are_those_of_the_training_forward(path: str) -> None:
    """In float64 the two differ by the order of sums alone: 15 digits, of which a few dozen terms and two layers
    take some.
    """
    model = on_path(path)
    plain = rollouts(model, Sampling(max_new_tokens=7, seed=1))
    end = plain[0][0].tokens[3]
    sampling = Sampling(temperature=1.3, top_p=0.9, max_new_tokens=7, seed=1)
    found = rollouts(model, sampling, end=(end,))
    endings = [r.finish for samples in found for r in samples]
    for prompt, samples in zip(PROMPTS, found, strict=True):
        for rollout, wanted in zip(samples, trained_on(model, prompt, samples), strict=True):
            assert rollout.logprobs == pytest.approx(wanted, abs=1e-9)
            assert rollout.sampling_logprobs != pytest.approx(wanted, abs=1e-2)
    assert len(endings) == 12
    for samples in plain:
        assert all(r.sampling_logprobs == pytest.approx(r.logprobs, abs=1e-9) for r in samples)


@pytest.mark.parametrize("path", PATHS)
def test_logprobs_in_bfloat16(path: str) -> None:
    """bfloat16 keeps 8 bits: logits up to 16 are rounded to 1/16, and the two ways round different sums in every layer.

    So single tokens may differ by a few of these steps; on the mean they must not.
    """
    model = on_path(path, torch.bfloat16)
    found = rollouts(model, Sampling(max_new_tokens=12))
    gaps = [
        got - wanted
        for prompt, samples in zip(PROMPTS, found, strict=True)
        for rollout, values in zip(samples, trained_on(model, prompt, samples), strict=True)
        for got, wanted in zip(rollout.logprobs, values, strict=True)
    ]
    assert len(gaps) == 4 * 3 * 12
    assert max(map(abs, gaps)) < 0.4
    assert abs(float(np.mean(gaps))) < 0.02


@pytest.mark.slow
def test_logprobs_of_the_real_model() -> None:
    """SmolLM2-135M-Instruct in bfloat16: thirty layers round where the tiny model has two; 0.23 and 0.002 when this
    was written.
    """
    loaded = load_model(dtype="bfloat16")
    encode = loaded.tokenizer.encode
    prompts = [
        encode(text) for text in ("The ferry leaves at 7:40 from pier 3. It", "The ferry leaves at 7:40 from the town")
    ]
    found = Sampler(loaded.model, loaded.tokenizer, end_tokens=[loaded.tokenizer.eos_token_id]).sample(
        prompts, 8, Sampling(max_new_tokens=16)
    )
    gaps = [
        got - wanted
        for prompt, samples in zip(prompts, found, strict=True)
        for rollout, values in zip(samples, trained_on(loaded.model, prompt, samples), strict=True)
        for got, wanted in zip(rollout.logprobs, values, strict=True)
    ]
    assert len(gaps) > 100
    assert max(map(abs, gaps)) < 0.6
    assert abs(float(np.mean(gaps))) < 0.03


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (2.0, 1.0), (1.0, 0.8), (1.5, 0.5)])
def test_samples_follow_the_distribution(temperature: float, top_p: float) -> None:
    """Pearson's chi-square test of 6,000 first tokens, rare ones together; the same test rejects another
    temperature.
    """
    found = next(
        sampler(tiny_llama(torch.float64), tokens_per_batch=8192).sample(
            PROMPTS[:1], 6000, Sampling(temperature=temperature, top_p=top_p, max_new_tokens=1, seed=5)
        )
    )
    counts = np.bincount([r.tokens[0] for r in found], minlength=VOCABULARY)

    def p_value(probability: np.ndarray) -> float:
        order = np.argsort(-probability, kind="stable")
        size = int(np.searchsorted(np.cumsum(probability[order]), top_p)) + 1 if top_p < 1 else VOCABULARY
        kept = np.zeros_like(probability)
        kept[order[:size]] = probability[order[:size]] / probability[order[:size]].sum()
        assert top_p == 1 or 1 < size < VOCABULARY
        expected, seen = kept * len(found), counts.copy()
        if (seen[expected == 0] > 0).any():
            return 0.0
        common = expected >= 5
        rare = [expected[~common].sum()], [seen[~common].sum()]
        if rare[0][0] < 5:
            return float(chisquare(seen[common], expected[common] * seen[common].sum() / expected[common].sum()).pvalue)
        return float(chisquare([*seen[common], *rare[1]], [*expected[common], *rare[0]]).pvalue)

    assert p_value(plain_softmax(PROMPTS[0], temperature)) > 0.01
    assert p_value(plain_softmax(PROMPTS[0], temperature * 1.4)) < 1e-6


def test_samples_share_their_prompt_and_prompts_their_beginnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that went into the cache: each distinct prefix of a prompt once, and every sample's own."""
    lengths: list[int] = []
    read = PrefixCache.read
    monkeypatch.setattr(PrefixCache, "read", lambda self, slots: lengths.append(self.length) or read(self, slots))
    found = rollouts(tiny_llama(torch.float64), Sampling(max_new_tokens=4), num_samples=5)
    prefixes = {prompt[: count + 1] for prompt in PROMPTS for count in range(len(prompt))}
    assert len(prefixes) == 5 + 3 + 0 + 3
    assert {len(r.tokens) for samples in found for r in samples} == {4}
    assert lengths == [len(prefixes) + passes * 4 * 5 for passes in range(4)]


@pytest.mark.parametrize("tokens_per_batch", [12, 20, 33, 60, 8192])
def test_batches_do_not_change_samples(tokens_per_batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one sample a batch to all in one; and each prompt alone, under its key."""
    model = tiny_llama(torch.float64)
    sampling = Sampling(temperature=1.2, top_p=0.95, max_new_tokens=6, seed=3)
    wanted = rollouts(model, sampling, end=(11, 12, 13))
    assert len({r.tokens for samples in wanted for r in samples}) == 12, "samples do not differ"
    assert {r.finish for samples in wanted for r in samples} == {"end", "length"}
    batches: list[int] = []
    truncate = PrefixCache.truncate
    monkeypatch.setattr(PrefixCache, "truncate", lambda self, length: batches.append(length) or truncate(self, length))
    found = rollouts(model, sampling, end=(11, 12, 13), tokens_per_batch=tokens_per_batch)
    assert (len(batches) == 1) == (tokens_per_batch == 8192)
    assert tokens_per_batch > 20 or max(batches) > 1, "nothing stayed in the cache"
    alone = [
        next(sampler(model, end=(11, 12, 13)).sample([prompt], 3, sampling, keys=[key]))
        for key, prompt in enumerate(PROMPTS)
    ]
    for other in (found, alone):
        for one, two in zip(chain(*wanted), chain(*other), strict=True):
            assert (one.tokens, one.text, one.finish, one.key, one.index) == (
                two.tokens,
                two.text,
                two.finish,
                two.key,
                two.index,
            )
            assert one.logprobs == pytest.approx(two.logprobs, abs=1e-9)
    same, twin = sampler(model).sample([PROMPTS[0], PROMPTS[0]], 3, sampling)
    assert not {r.tokens for r in same} & {r.tokens for r in twin}, "equal prompts have equal draws"
    assert rollouts(model, Sampling(1.2, 0.95, 6, seed=4)) != rollouts(model, Sampling(1.2, 0.95, 6, seed=3))


@pytest.mark.parametrize("sampling", [Sampling(0.0, max_new_tokens=5), Sampling(1e-4, max_new_tokens=5)])
def test_without_temperature_the_likeliest_token_is_taken(sampling: Sampling) -> None:
    """Against the argmax of plain rows."""
    for prompt, samples in zip(PROMPTS, rollouts(tiny_llama(torch.float64), sampling), strict=True):
        tokens = list(prompt)
        for _ in range(5):
            tokens.append(int(plain_softmax(tokens).argmax()))
        assert {r.tokens for r in samples} == {tuple(tokens[len(prompt) :])}
        assert all(r.sampling_logprobs == pytest.approx((0.0,) * 5) for r in samples)
        assert all(max(r.logprobs) < 0 for r in samples)


def test_the_end_token_is_among_the_tokens() -> None:
    """The tokens up to the first end token, which is drawn, weighed and recorded, but not said."""
    model = tiny_llama(torch.float64)
    free = rollouts(model, Sampling(max_new_tokens=9))
    end = Counter(token for samples in free for r in samples for token in r.tokens).most_common(1)[0][0]
    found = rollouts(model, Sampling(max_new_tokens=9), end=(end, 60))
    ended = 0
    for one, two in zip(chain(*free), chain(*found), strict=True):
        stops = [place for place, token in enumerate(one.tokens) if token in (end, 60)]
        upto = stops[0] + 1 if stops else 9
        assert two.tokens == one.tokens[:upto]
        assert two.logprobs == pytest.approx(one.logprobs[:upto], abs=1e-9)
        assert two.finish == ("end" if stops else "length")
        assert two.num_text_tokens == upto - bool(stops)
        assert two.text == LetterPairs().decode(one.tokens[: upto - bool(stops)])
        ended += bool(stops)
    assert 0 < ended < 12


def test_a_stop_string_across_tokens_ends_a_sample() -> None:
    """The last letter of a token and the first of the next: text and tokens are cut at the first place where the two
    stand.
    """
    model = tiny_llama(torch.float64)
    sampling = Sampling(max_new_tokens=8, seed=2)
    free = rollouts(model, sampling)
    stop = free[0][0].text[5:7]
    assert stop not in free[0][0].text[:6]
    found = rollouts(model, Sampling(max_new_tokens=8, seed=2, stop=("never said", stop)))
    across = 0
    for one, two in zip(chain(*free), chain(*found), strict=True):
        place = one.text.find(stop)
        if place < 0:
            assert (two.tokens, two.text, two.finish) == (one.tokens, one.text, "length")
            continue
        upto = (place + 3) // 2  # the token in which the string's second letter stands, and those before it
        assert (two.tokens, two.text, two.finish) == (one.tokens[:upto], one.text[:place], "stop")
        assert two.logprobs == pytest.approx(one.logprobs[:upto], abs=1e-9)
        assert two.num_text_tokens == place // 2
        across += place % 2
    assert across > 0
    assert found[0][0].text == free[0][0].text[:5]


def test_what_was_said(tokenizer: Any) -> None:
    """A character in several tokens; a stop string that begins inside a token; the end token."""
    tokens = tokenizer("né\n\nnext", add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    assert completion_text(tokenizer, (*tokens, end), "end", ()) == ("né\n\nnext", len(tokens))
    within = len(tokenizer("né", add_special_tokens=False)["input_ids"])
    assert within > 1
    assert completion_text(tokenizer, tokens, "stop", ("\n\n",)) == ("né", within)
    assert completion_text(tokenizer, tokens, "stop", ("né",)) == ("", 0)
    assert cut_at("a\nb;c", (";", "\n")) == "a"
    assert cut_at("abc", ("x",)) is None


def test_the_model_is_left_as_it_was() -> None:
    """In training mode, with checkpointing, where transformers gives no cache; one part is in evaluation mode and
    stays so.
    """
    model = tiny_llama(torch.float64)
    wanted = rollouts(model, Sampling(max_new_tokens=4))
    model.activation_checkpointing_enable()
    model.train()
    model.lm_head.eval()
    modes = [module.training for module in model.modules()]
    assert rollouts(model, Sampling(max_new_tokens=4)) == wanted
    assert [module.training for module in model.modules()] == modes


def test_what_cannot_be_sampled_is_refused_at_once() -> None:
    model = tiny_llama(torch.float64, max_position_embeddings=20)
    sampling = Sampling(max_new_tokens=8)
    with pytest.raises(PackingError, match="prompt 1 is empty"):
        sampler(model).sample([(1,), ()], 1, sampling)
    with pytest.raises(PackingError, match="prompt 1 needs 11 tokens with a completion, and tokens_per_batch is 10"):
        sampler(model, tokens_per_batch=10).sample([(1,), (1, 2, 3)], 1, sampling)
    with pytest.raises(ModelError, match=r"needs 21 positions, and the limit of .* is 20"):
        sampler(model).sample([(1,) * 13], 1, sampling)
    with pytest.raises(ValueError, match="num_samples is 0"):
        sampler(model).sample([(1,)], 0, sampling)
    with pytest.raises(ValueError, match="2 keys for 1 prompts"):
        sampler(model).sample([(1,)], 1, sampling, keys=[1, 2])
    assert list(sampler(model).sample([], 2, sampling)) == []
    with torch.no_grad():
        model.lm_head.weight[3, 3] = math.nan
    with pytest.raises(ModelError, match="not numbers"):
        list(sampler(model).sample([(1,)], 1, sampling))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"max_new_tokens": 0},
        {"stop": "a"},
        {"stop": ("",)},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)
