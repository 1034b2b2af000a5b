"""Law 2: branches do not see their siblings, the mask is shown to have arrived, and what would ignore it is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    BloomConfig,
    LlamaForCausalLM,
    MambaConfig,
    MistralConfig,
    Qwen3NextConfig,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from palmette.errors import ModelError
from palmette.model.attention import BACKENDS
from palmette.model.checks import check_model
from palmette.model.forward import branch_logprobs, check_positions, logits_at, score_tokens
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment
from tests.support.models import PATHS, SMALL, VOCABULARY, on_path, tiny_llama
from tests.support.poison import KEY, poison_tree, wanted


def victim_logprob(model: Any, one: PrefixTree) -> torch.Tensor:
    batch = PackedBatch.from_trees([[one]])
    return branch_logprobs(batch, score_tokens(model, batch))[0]["t", "victim"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("victim_first", [False, True])
def test_a_key_that_everybody_wants_stays_in_its_branch(path: str, victim_first: bool) -> None:
    model = wanted(on_path(path))
    with torch.no_grad():
        clean = victim_logprob(model, poison_tree((8, 8), victim_first))
        poisoned = victim_logprob(model, poison_tree((KEY, KEY), victim_first))
        # Vacuity guard: in the victim's own trunk the same key changes the answer a great deal.
        inside = Node((Segment((1, KEY, 3)),), poison_tree((8, 8)).root.children)
        reached = victim_logprob(model, PrefixTree(inside, "t"))
    assert torch.equal(clean, poisoned)
    assert abs(float(reached - clean)) > 0.1


def test_hidden_tokens_only_take_up_positions() -> None:
    model = tiny_llama()

    def score(placeholder: tuple[int, ...], attend: bool) -> torch.Tensor:
        trunk = (Segment((1, 2)), Segment(placeholder, attend=attend), Segment((3,)))
        return victim_logprob(model, PrefixTree(Node(trunk, poison_tree((8, 8)).root.children), "t"))

    with torch.no_grad():
        assert torch.equal(score((20, 21), attend=False), score((30, 31), attend=False))
        assert not torch.allclose(score((20, 21), attend=True), score((30, 31), attend=True))
        assert not torch.allclose(score((20,), attend=False), score((20, 21), attend=False))


def test_a_stock_backend_is_refused_by_name() -> None:
    model = tiny_llama(backend="sdpa")
    with pytest.raises(ModelError, match="LlamaForCausalLM runs the attention backend 'sdpa'"):
        victim_logprob(model, poison_tree((8,)))


class DeafLlama(LlamaForCausalLM):
    """Its first layer attends by itself and never looks at a mask."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        attention = self.model.layers[0].self_attn
        own = type(attention.config)(**attention.config.to_dict())
        own._attn_implementation = "deaf"
        attention.config = own


def deaf(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
    return sdpa_attention_forward(module, query, key, value, None, **{**options, "is_causal": True})


def test_a_layer_that_ignores_the_mask_is_refused_by_name() -> None:
    AttentionInterface.register("deaf", deaf)
    model = DeafLlama(tiny_llama(torch.float32).config).eval()
    model.config._attn_implementation = BACKENDS["sdpa"]
    with pytest.raises(ModelError, match="DeafLlama: the prefix tree's mask reached 1 of 2 layers"):
        check_model(model, training=False)


class RowIndexLlama(LlamaForCausalLM):
    """Takes the row index for the position."""

    def forward(self, position_ids: Any = None, **inputs: Any) -> Any:
        return super().forward(**inputs)


def test_a_model_that_ignores_positions_is_refused_by_name() -> None:
    model = RowIndexLlama(tiny_llama(torch.float32).config).eval()
    model.set_attn_implementation(BACKENDS["sdpa"])
    with pytest.raises(ModelError, match="RowIndexLlama gives a branch other numbers in a tree"):
        check_model(model, training=False)


def test_a_model_that_swaps_the_mask_is_refused_by_name() -> None:
    class Swapping(LlamaForCausalLM):
        def forward(self, attention_mask: Any = None, **inputs: Any) -> Any:
            return super().forward(attention_mask=attention_mask.clone(), **inputs)

    model = Swapping(tiny_llama(torch.float32).config).eval()
    model.set_attn_implementation(BACKENDS["sdpa"])
    with pytest.raises(ModelError, match="Swapping gave LlamaAttention another attention mask"):
        check_model(model, training=False)


HYBRID = Qwen3NextConfig(
    **{**SMALL, "num_hidden_layers": 4},
    num_experts=2,
    num_experts_per_tok=1,
    moe_intermediate_size=16,
    linear_num_value_heads=2,
    linear_num_key_heads=2,
    linear_key_head_dim=8,
    linear_value_head_dim=8,
)
UNFIT = {
    "MambaForCausalLM": MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, state_size=4),
    "Qwen3NextForCausalLM": HYBRID,
    "BloomForCausalLM": BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=1, n_head=2),
}


@pytest.mark.parametrize("name", sorted(UNFIT))
def test_models_without_plain_attention_are_refused_by_name(name: str) -> None:
    model = AutoModelForCausalLM.from_config(UNFIT[name]).eval()
    with pytest.raises(ModelError, match=name):
        check_model(model, training=False)


def test_an_encoder_decoder_is_refused_by_name() -> None:
    config = T5Config(vocab_size=VOCABULARY, d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8)
    with pytest.raises(ModelError, match="T5ForConditionalGeneration is an encoder-decoder"):
        check_model(T5ForConditionalGeneration(config), training=False)


def test_attention_dropout_is_refused_in_training_only() -> None:
    model = tiny_llama(torch.float32, attention_dropout=0.1)
    check_model(model, training=False)
    with pytest.raises(ModelError, match=r"attention_dropout = 0\.1"):
        check_model(model, training=True)


def test_a_sliding_window_shorter_than_a_branch_is_refused() -> None:
    model = AutoModelForCausalLM.from_config(MistralConfig(**SMALL, sliding_window=40)).eval()
    model.set_attn_implementation(BACKENDS["sdpa"])
    check_model(model, training=True)  # its own branches are 34 tokens long, and fit

    def run(length: int) -> None:
        batch = PackedBatch.from_trees([[PrefixTree(Node((Segment(tuple(range(length))),)))]])
        logits_at(model, batch, torch.tensor([0]))

    run(40)
    with pytest.raises(ModelError, match=r"a branch needs 41 positions.*MistralForCausalLM is 40: a sliding window"):
        run(41)


def test_frequencies_that_depend_on_the_batch_are_refused_beyond_their_limit() -> None:
    """Past it, one long tree would change the numbers of every other tree in its batch."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0, "original_max_position_embeddings": 50}
    model = tiny_llama(torch.float32, rope_parameters=rope)
    check_positions(model, 50, "a branch")
    with pytest.raises(ModelError, match="LlamaForCausalLM is 50: dynamic frequencies"):
        check_positions(model, 51, "a branch")


def test_a_model_that_takes_hidden_tokens_for_seen_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = PackedBatch.may_attend_BTT

    def blind(batch: PackedBatch) -> torch.Tensor:
        return honest(replace(batch, attend_BT=torch.ones_like(batch.attend_BT)))

    monkeypatch.setattr(PackedBatch, "may_attend_BTT", blind)
    with pytest.raises(ModelError, match="other numbers in a tree"):
        check_model(tiny_llama(torch.float32), training=False)
