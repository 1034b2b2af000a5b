"""Retention: closed forms of perplexity and KL divergence, two roads to one figure, the built-in texts, the command."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from palmette.data.general import ChatPrompt, Passage, passages
from palmette.errors import DataError, ModelError
from palmette.evaluate.retention.measure import (
    Settings,
    adapter_retention,
    compare,
    greedy_completions,
    kl_divergence,
    observe,
    score_texts,
)
from palmette.evaluate.retention.probe import Probe
from palmette.evaluate.retention.scores import CompletionScore, Retention, TextScore, total
from palmette.model.loading import add_lora, load_model
from palmette.pages.plots import SweepPoint, forgetting_figure, plot_forgetting
from palmette.tasks.text_pieces import beginning
from tests.support.models import tiny_llama
from tests.support.oracle import oracle
from tests.support.tokenizers import STYLES

TEXTS = (
    Passage("ferry", "news", "The ferry leaves at 7:40."),
    Passage("cafe", "letter", "I wait at the café."),
    Passage("tower", "note", "The tower is granite, and white; nobody knows who built it."),
)
PROMPTS = (
    ChatPrompt("tower", "explain", "What is the tower built of?"),
    ChatPrompt("sum", "arithmetic", "What is 2 + 2?"),
    ChatPrompt("ferry", "small talk", "Hello!"),
)
FEW = Settings(max_new_tokens=6, tokens_per_batch=64)


@pytest.fixture(scope="module")
def probe(tokenizer: PreTrainedTokenizerFast) -> Probe:
    return Probe(tokenizer, TEXTS, PROMPTS)


def model_of(probe: Probe, **changes: Any) -> Any:
    return tiny_llama(torch.float64, vocab_size=len(probe.tokenizer), **changes)


def with_logits(probe: Probe, logit_V: torch.Tensor) -> Any:
    """A model that gives these logits wherever it is asked.

    Every embedding is a vector of ones and no layer adds anything to it; the last norm leaves it as it is (but for its
    epsilon), so the output layer's row v gives D * weight.
    """
    model = model_of(probe)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(1.0)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.copy_((logit_V / model.config.hidden_size)[:, None].expand_as(model.lm_head.weight))
    return model


def with_adapter(probe: Probe, *, trained: bool) -> Any:
    model = add_lora(model_of(probe), rank=2, alpha=4.0, dropout=0.0, targets="all-linear").to(torch.float64).eval()
    if trained:
        torch.manual_seed(3)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.3)
    return model


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary(probe: Probe) -> None:
    """ln V nats for every token; so log2 V bits for each, over the bytes of what was predicted."""
    model = model_of(probe)
    torch.nn.init.zeros_(model.lm_head.weight)
    scores = score_texts(model, probe, FEW)
    vocabulary = len(probe.tokenizer)
    assert [score.id for score in scores] == ["ferry", "cafe", "tower"]
    for score, passage in zip(scores, TEXTS, strict=True):
        assert score.perplexity == pytest.approx(vocabulary, rel=1e-12)
        # The first token is not predicted; this tokenizer's first tokens are ASCII, so a character is a byte.
        tokens = probe.tokenizer(passage.text)["input_ids"]
        num_bytes = len(passage.text.encode()) - len(probe.tokenizer.decode(tokens[:1]))
        assert (score.num_tokens, score.num_bytes) == (len(tokens) - 1, num_bytes)
        assert score.bits_per_byte == pytest.approx((len(tokens) - 1) * math.log2(vocabulary) / num_bytes, rel=1e-12)
    assert total(scores).perplexity == pytest.approx(vocabulary, rel=1e-12)


def test_figures_of_a_text_by_hand() -> None:
    """Two bits for each of 3 tokens over 6 bytes, then one bit for each of 5 over 4: 11 bits, 8 tokens, 10 bytes."""
    first, second = TextScore("a", 3, 6, 6 * math.log(2)), TextScore("b", 5, 4, 5 * math.log(2))
    assert (first.perplexity, first.bits_per_byte) == (pytest.approx(4.0), pytest.approx(1.0))
    assert (second.perplexity, second.bits_per_byte) == (pytest.approx(2.0), pytest.approx(1.25))
    both = total([first, second])
    assert (both.num_tokens, both.num_bytes) == (8, 10)
    assert both.perplexity == pytest.approx(2 ** (11 / 8))
    assert both.bits_per_byte == pytest.approx(1.1)


def test_bytes_are_those_of_utf_8(tokenizer: PreTrainedTokenizerFast) -> None:
    """'xé€': one byte that nothing predicts, then two and three, each byte a token of its own here."""
    made = Probe(tokenizer, (Passage("a", "note", "xé€"),), PROMPTS)
    assert made.num_bytes == [5]
    assert made.trees[0].learn_weight == 5


def test_texts_score_as_in_rows_of_their_own(probe: Probe) -> None:
    """Against stock attention, one text a row; two of the texts begin with the same token, which they share when
    packed.
    """
    assert probe.trees[0].root.segments[0] == probe.trees[2].root.segments[0]
    scores = score_texts(model_of(probe), probe, replace(FEW, tokens_per_batch=256))
    plain = model_of(probe, backend="sdpa")
    for score, tree in zip(scores, probe.trees, strict=True):
        with torch.no_grad():
            (expected,) = oracle(plain, tree)[0].values()
        assert score.nll == pytest.approx(-float(expected), rel=1e-9)


def test_how_texts_are_batched_changes_nothing(probe: Probe) -> None:
    one, many = (observe(model_of(probe), probe, replace(FEW, tokens_per_batch=n)) for n in (4096, 64))
    assert len(one.logprobs) < len(many.logprobs)
    assert [s.nll for s in one.texts] == pytest.approx([s.nll for s in many.texts], rel=1e-9)
    assert one.completions == many.completions
    torch.manual_seed(1)
    tuned = model_of(probe)
    torch.nn.init.normal_(tuned.lm_head.weight, std=0.4)
    found = [
        compare(untouched, tuned, probe, replace(FEW, tokens_per_batch=n)) for untouched, n in ((one, 4096), (many, 64))
    ]
    assert found[0].kl > 0.1
    assert [r.kl for r in found[0].completions] == pytest.approx([r.kl for r in found[1].completions], rel=1e-9)


def test_a_bos_token_predicts_the_first_token_where_the_tokenizer_writes_one() -> None:
    plain = STYLES["llama3"]()
    assert plain.bos_token_id is not None
    assert beginning(plain) == ()
    opening = STYLES["llama3"]()
    opening.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", opening.bos_token_id)]
    )
    assert beginning(opening) == (opening.bos_token_id,)
    without, with_bos = (Probe(made, TEXTS, PROMPTS) for made in (plain, opening))
    assert with_bos.trees[0].root.segments[0].tokens == (opening.bos_token_id,)
    assert with_bos.trees[0].learn_weight == without.trees[0].learn_weight + 1
    assert with_bos.num_bytes[0] == len(TEXTS[0].text.encode())


@pytest.mark.parametrize("style", STYLES)
def test_prompts_are_written_as_the_template_writes_them(style: str) -> None:
    """Against the template rendered whole by transformers, up to the generation prompt; but for blanks, which some
    decoders add.
    """
    made = STYLES[style]()
    probe = Probe(made, TEXTS, PROMPTS)
    for prompt, tokens in zip(PROMPTS, probe.prompt_tokens(), strict=True):
        turn = [{"role": "user", "content": prompt.text}]
        expected = made.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        assert "".join(made.decode(tokens).split()) == "".join(expected.split())


def test_kl_divergence_is_torchs() -> None:
    torch.manual_seed(0)
    p, q = (torch.log_softmax(3.0 * torch.randn(150, 37), dim=-1) for _ in range(2))
    expected = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(dim=-1)
    assert expected.min() > 0.1
    torch.testing.assert_close(kl_divergence(p, q), expected, rtol=1e-5, atol=1e-5)
    assert kl_divergence(p, p).tolist() == [0.0] * 150


def test_kl_divergence_with_added_tokens() -> None:
    """p = (1/2, 1/2), q = (1/4, 1/4, 1/2): ln 2, since what q has besides has probability 0 in p.

    The other way round: refused.
    """
    p, q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.25, 0.5]]).log()
    assert float(kl_divergence(p, q)) == pytest.approx(math.log(2))
    with pytest.raises(ModelError, match="2 tokens and the untouched one 3"):
        kl_divergence(q, p)


def test_two_known_models(probe: Probe) -> None:
    """The untouched model gives one token 1/2 and the V - 1 others 1 / (2 (V - 1)) each; the tuned one is uniform.

    KL = ln V - H(p), where H(p) = ln(2) / 2 + ln(2 (V - 1)) / 2 = ln 2 + ln(V - 1) / 2. The untouched model repeats its
    token to the limit; the tuned one takes the first of all.
    """
    vocabulary, token = len(probe.tokenizer), 100
    logit_V = torch.zeros(vocabulary, dtype=torch.float64)
    logit_V[token] = math.log(vocabulary - 1)
    untouched = observe(with_logits(probe, logit_V), probe, FEW)
    assert untouched.completions == ((token,) * 6,) * 3
    found = compare(untouched, with_logits(probe, torch.zeros_like(logit_V)), probe, FEW)
    # The norm's epsilon, 1e-6, scales the logits by 1 - 5e-7.
    assert found.kl == pytest.approx(math.log(vocabulary) - math.log(2) - math.log(vocabulary - 1) / 2, rel=1e-5)
    assert found.kl > 1.0
    assert found.unchanged == 0.0
    assert [completion.num_tokens for completion in found.completions] == [6, 6, 6]
    assert total(found.after).perplexity == pytest.approx(vocabulary, rel=1e-9)


def test_a_completion_ends_with_the_end_of_the_turn(probe: Probe) -> None:
    """The token that ends the turn is likeliest: it is the whole completion, and its distribution counts."""
    logit_V = torch.zeros(len(probe.tokenizer), dtype=torch.float64)
    logit_V[probe.end_of_turn] = 5.0
    model = with_logits(probe, logit_V)
    untouched = observe(model, probe, FEW)
    assert untouched.completions == ((probe.end_of_turn,),) * 3
    found = compare(untouched, model, probe, FEW)
    assert (found.kl, found.unchanged, found.perplexity_ratio) == (0.0, 100.0, 1.0)
    assert {completion.untouched for completion in found.completions} == {"<|im_end|>"}


def test_completions_are_greedy(probe: Probe) -> None:
    """By hand, one prompt a row, without a cache; room for one prompt at a time, and for all."""
    plain = model_of(probe, backend="sdpa")
    expected = []
    for tokens in probe.prompt_tokens():
        made: list[int] = []
        while len(made) < 6 and probe.end_of_turn not in made:
            with torch.no_grad():
                made.append(int(plain(input_ids=torch.tensor([[*tokens, *made]])).logits[0, -1].argmax()))
        expected.append(tuple(made))
    for room in (1, 4096):
        assert greedy_completions(model_of(probe), probe, replace(FEW, tokens_per_batch=room)) == expected


def test_kl_by_hand_along_the_completions(probe: Probe) -> None:
    """Against stock attention: the untouched model's completion after its prompt, one prompt a row."""
    tuned = with_adapter(probe, trained=True)
    found = adapter_retention(tuned, probe, FEW)
    before, after = model_of(probe, backend="sdpa"), with_adapter(probe, trained=True)
    after.get_base_model().set_attn_implementation("sdpa")
    with tuned.disable_adapter():
        completions = observe(tuned, probe, FEW).completions
    sums, count = 0.0, 0
    for completion, score, prompt in zip(completions, found.completions, probe.prompt_tokens(), strict=True):
        row = torch.tensor([[*prompt, *completion]])
        places = slice(len(prompt) - 1, row.shape[1] - 1)
        with torch.no_grad():
            p, q = (torch.softmax(model(input_ids=row).logits[0, places], dim=-1) for model in (before, after))
        divergence = (p * (p.log() - q.log())).sum(dim=-1)
        assert score.kl == pytest.approx(float(divergence.mean()), rel=1e-9)
        assert score.num_tokens == len(completion)
        sums, count = sums + float(divergence.sum()), count + len(completion)
    assert found.kl == pytest.approx(sums / count, rel=1e-9)
    assert found.kl > 0.01


def test_with_its_adapter_off_a_model_is_the_untouched_one(probe: Probe) -> None:
    """One model with the adapter off and on, against two models: the same figures.

    Without training nothing has changed.
    """
    tuned = with_adapter(probe, trained=True)
    one = adapter_retention(tuned, probe, FEW)
    untouched = observe(model_of(probe), probe, FEW)
    two = compare(untouched, tuned, probe, FEW)
    assert one == two
    assert one.perplexity_ratio != pytest.approx(1.0, rel=1e-3)
    assert one.unchanged < 100.0
    merged = compare(untouched, tuned.merge_and_unload(), probe, FEW)
    assert merged.kl == pytest.approx(one.kl, rel=1e-6)
    fresh = adapter_retention(with_adapter(probe, trained=False), probe, FEW)
    assert (fresh.kl, fresh.unchanged, fresh.perplexity_ratio) == (0.0, 100.0, 1.0)


def test_the_adapter_is_on_again_afterwards(probe: Probe) -> None:
    tuned = with_adapter(probe, trained=True)
    assert adapter_retention(tuned, probe, FEW) == adapter_retention(tuned, probe, FEW)


def test_figures_of_a_comparison_by_hand() -> None:
    """KL: (2 * 0.1 + 6 * 0.5) / 8 = 0.4, by tokens. Perplexity: 4 before, 8 after; one of two passages got worse."""
    before = (TextScore("a", 4, 8, 4 * math.log(4)), TextScore("b", 4, 8, 4 * math.log(4)))
    after = (TextScore("a", 4, 8, 4 * math.log(16)), before[1])
    completions = (
        CompletionScore("x", "k", 2, 0.1, True, "s", "s"),
        CompletionScore("y", "k", 6, 0.5, False, "s", "t"),
    )
    found = Retention(before, after, completions).summary()
    assert found["kl"] == pytest.approx(0.4)
    assert found["perplexity_ratio"] == pytest.approx(2.0)
    assert (found["passages_worse"], found["passages"], found["text_tokens"]) == (1, 2, 8)
    assert (found["completions_unchanged"], found["completion_tokens"]) == (50.0, 8)
    assert found["tuned"] == {"perplexity": pytest.approx(8.0), "bits_per_byte": pytest.approx(1.5)}


def test_models_of_different_tokenizers_are_not_compared(probe: Probe) -> None:
    with pytest.raises(ModelError, match="different tokenizers"):
        probe.check_same(Probe(STYLES["llama3"](), TEXTS, PROMPTS))
    probe.check_same(Probe(probe.tokenizer, TEXTS, PROMPTS))


def test_a_text_without_a_predicted_token_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match="'short'"):
        Probe(tokenizer, (Passage("short", "note", "x"),), PROMPTS)


def test_a_model_that_came_apart_is_an_error(probe: Probe) -> None:
    model = model_of(probe)
    with torch.no_grad():
        model.lm_head.weight[3, 0] = math.nan
    with pytest.raises(ModelError, match="not finite"):
        observe(model, probe, FEW)


def test_a_sweep_is_drawn_as_it_is(tmp_path: Path) -> None:
    """Two seeds at one learning rate are two points and one place of the line; the cost of a ratio e is 1 nat."""
    points = [
        SweepPoint(1e-3, 50.0, 0.5, math.e),
        SweepPoint(1e-4, 30.0, 0.1, 1.0),
        SweepPoint(1e-3, 60.0, 0.7, math.e),
    ]
    task, cost = forgetting_figure(points, untouched_exact=10.0).axes[:2]
    assert task.get_xscale() == cost.get_xscale() == "log"
    curve = next(line for line in task.lines if line.get_label() == "fine-tuned")
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == ([1e-4, 1e-3], [30.0, 55.0])
    assert len(task.collections[0].get_offsets()) == 3
    divergence, rise = (line for line in cost.lines if len(line.get_xdata()) == 2 and line.get_marker() in "s^")
    assert list(divergence.get_ydata()) == pytest.approx([0.1, 0.6])
    assert list(rise.get_ydata()) == pytest.approx([0.0, 1.0])
    plot_forgetting(points, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no points"):
        plot_forgetting([], tmp_path / "none.png")


@pytest.mark.slow
def test_the_real_model_predicts_text_and_not_its_words_shuffled() -> None:
    """Of each register the first fifty words, in their order and in another."""
    loaded, plain, mixed = load_model(dtype="float32"), [], []
    for passage in passages():
        words = passage.text.split()[:50]
        plain.append(replace(passage, text=" ".join(words)))
        random.Random(0).shuffle(words)
        mixed.append(replace(passage, text=" ".join(words)))
    plain, mixed = (score_texts(loaded.model, Probe(loaded.tokenizer, texts), Settings()) for texts in (plain, mixed))
    assert total(plain).perplexity < len(loaded.tokenizer) / 500
    assert total(plain).bits_per_byte < 2.0
    for before, after in zip(plain, mixed, strict=True):
        assert math.isfinite(before.perplexity)
        assert after.perplexity > 1.5 * before.perplexity, before.id
