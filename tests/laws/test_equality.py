"""Law 1: numbers and gradients of the packed form equal those of a plain, unpacked oracle in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import example as always
from hypothesis import given, settings
from transformers import AutoModelForCausalLM, DeepseekV3Config, Gemma2Config, GPT2Config, MistralConfig, Qwen3Config

from palmette.errors import ModelError
from palmette.model.attention import BACKENDS, Attention
from palmette.model.blocks import QueryBlock, query_blocks
from palmette.tree.prefix_tree import PrefixTree
from tests.support.equality import assert_equal_to_oracle, gradients, packed_numbers
from tests.support.models import PATHS, SMALL, VOCABULARY, on_path, tiny_llama
from tests.support.oracle import branches
from tests.support.trees import DEEP, example, trees


@pytest.mark.parametrize("path", PATHS)
def test_random_trees_equal_the_oracle(path: str) -> None:
    model, plain = on_path(path), tiny_llama(backend="sdpa")
    seen = {"branching": 0, "hidden": 0, "deep": 0, "learned first tokens": 0}

    @settings(max_examples=40, deadline=None)
    @always(DEEP)
    @given(trees())
    def check(tree: PrefixTree) -> None:
        paths = branches(tree.root)
        seen["branching"] += len(paths) > 1
        seen["deep"] += max(map(len, paths)) == 4
        seen["hidden"] += any(not s.attend for node in tree.nodes() for s in node.segments)
        seen["learned first tokens"] += any(path[-1].segments[0].learn > 0 for path in paths)
        assert_equal_to_oracle(model, plain, [[tree]])

    check()
    assert all(seen.values()), f"no example of {[case for case, count in seen.items() if not count]}"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rows", [[[0, 9, 17]], [[0], [9, 17]], [[0, 9], [17]]], ids=str)
def test_several_trees_and_rows_equal_the_oracle(path: str, rows: list[list[int]]) -> None:
    model, plain = on_path(path), tiny_llama(backend="sdpa")
    assert_equal_to_oracle(model, plain, [[example(offset) for offset in row] for row in rows])


@pytest.mark.parametrize("path", ["fused", "sdpa"])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_blocks_of_queries_equal_the_oracle(size: int, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention in blocks that straddle nodes, trees and padding; the usual size would hold these rows in one block."""
    cut: list[list[int]] = []

    def watched(may_attend_BTT: torch.Tensor) -> list[list[QueryBlock]]:
        rows = query_blocks(may_attend_BTT)
        cut.extend([len(block.key_K) for block in row] for row in rows)
        return rows

    monkeypatch.setattr("palmette.model.attention.query_blocks", watched)
    monkeypatch.setattr("palmette.model.blocks._GRID", size)
    monkeypatch.setattr("palmette.model.blocks._MOST", size)
    rows = [[example(0), example(9)], [example(17)]]
    assert_equal_to_oracle(on_path(path), tiny_llama(backend="sdpa"), rows)
    assert max(map(len, cut)) > 20 // size, "the rows were not cut"
    assert max(map(max, cut)) < 40, "no key was skipped"


@pytest.mark.parametrize("path", PATHS)
def test_gradient_checkpointing_keeps_less_and_changes_nothing(path: str) -> None:
    def run(checkpointing: bool) -> tuple[float, list[torch.Tensor], int]:
        model, kept = on_path(path).train(), []
        if checkpointing:
            model.activation_checkpointing_enable()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            _, loss = packed_numbers(model, [[example(0), example(9)], [example(17)]])
        loss.backward()
        return float(loss.detach()), gradients(model), sum(kept)

    (plain, wanted, all_kept), (checkpointed, got, kept) = run(False), run(True)
    assert plain == checkpointed
    assert all(torch.equal(a, b) for a, b in zip(wanted, got, strict=True))
    assert kept < all_kept / 2, "the activations of the layers are kept all the same"


FAMILIES = {
    "qwen3": Qwen3Config(**SMALL),
    "mistral": MistralConfig(**SMALL, sliding_window=None),
    "gemma2": Gemma2Config(**SMALL, query_pre_attn_scalar=8, attn_logit_softcapping=5.0, final_logit_softcapping=3.0),
    # Multi-head latent attention: values have a size of their own.
    "deepseek_v3": DeepseekV3Config(
        **{**SMALL, "num_key_value_heads": 4},
        first_k_dense_replace=2,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=8,
        v_head_dim=12,
    ),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, attn_pdrop=0.0, initializer_range=0.4),
}


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_other_families_equal_the_oracle(family: str, backend: Attention) -> None:
    """The oracle runs the family's own eager attention, which alone knows all of them (logit capping, say)."""

    def build(backend: str) -> Any:
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(copy.deepcopy(FAMILIES[family])).to(torch.float64).eval()
        model.set_attn_implementation(backend)
        return model

    if (family, backend) == ("gemma2", "flex"):
        with pytest.raises(ModelError, match="softcap"):
            packed_numbers(build(BACKENDS[backend]), [[example(0)]])
        return
    if (family, backend) == ("gemma2", "sdpa"):
        with pytest.raises(ValueError, match=r"does not support an attention implementation through torch.nn"):
            build(BACKENDS[backend])  # sdpa cannot cap scores
        return
    model, plain = build(BACKENDS[backend]), build("eager")
    found, _ = packed_numbers(model, [[example(0), example(9)]])
    for offset in (0, 9):
        tree = example(offset)
        for path in branches(tree.root):
            tokens = [t for node in path for s in node.segments for t in s.tokens]
            attend = [s.attend for node in path for s in node.segments for _ in s.tokens]
            learn = [s.learn for node in path for s in node.segments for _ in s.tokens]
            visible = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
            visible &= torch.tensor(attend)[None, :] | torch.eye(len(tokens), dtype=torch.bool)
            additive = torch.zeros(visible.shape, dtype=torch.float64).masked_fill(~visible, -1e300)[None, None]
            logits = plain(input_ids=torch.tensor([tokens]), attention_mask=additive, use_cache=False).logits[0]
            logprobs = torch.log_softmax(logits, -1)
            expected = sum(logprobs[i - 1, tokens[i]] for i in range(1, len(tokens)) if learn[i])
            # The families' eager attention takes its softmax in float32: seven digits, less the sums.
            torch.testing.assert_close(found[0][path[-1].name], expected, rtol=1e-5, atol=1e-5)
