"""Scalar heads: rewards and values off the packed tree equal those of plain rows under transformers' own classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForSequenceClassification

from palmette.config.sections import LoraSection
from palmette.errors import ModelError
from palmette.model.heads import add_head, branch_rewards, head_of, load_head, save_heads, scalars_at
from palmette.model.loading import add_lora
from palmette.objectives.reward import bradley_terry_loss, ranked_pairs
from palmette.tasks.leaf_labels import ranks
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment
from tests.support.models import PATHS, on_path, tiny_llama, with_exact_norms

SHARED = (1, 2, 3)


def tree(name: str, prompt: tuple[int, ...], *completions: tuple[int, ...], learn: float = 0.0) -> PrefixTree:
    leaves = tuple(Node((Segment(tokens, learn=learn),), name=str(rank)) for rank, tokens in enumerate(completions))
    return PrefixTree(Node((Segment(SHARED), Segment(prompt)), leaves), name)


ROWS = [
    [tree("a", (4, 5), (6, 7, 8), (9,)), tree("b", (10,), (11, 12), (13, 14, 15, 16), (17,))],
    [tree("c", (18, 19, 20, 21), (22,), (6, 7, 8))],
]


def plain_rows() -> dict[tuple[str, str], list[int]]:
    """The tokens of each branch, by name."""
    return {
        (one.name, leaf.name): [t for s in (*one.root.segments, *leaf.segments) for t in s.tokens]
        for row in ROWS
        for one in row
        for leaf in one.root.children
    }


def with_head(path: str) -> Any:
    model = on_path(path)
    add_head(model, "reward", seed=3).double()
    with torch.no_grad():
        head_of(model, "reward").bias.fill_(0.5)
    return model


def classifier(model: Any) -> Any:
    """transformers' classifier of one label with the same weights; it has no bias."""
    config = tiny_llama(backend="sdpa").config
    config.num_labels, config.pad_token_id = 1, None
    plain = with_exact_norms(LlamaForSequenceClassification(config).double().eval())
    plain.model.load_state_dict(tiny_llama(backend="sdpa").model.state_dict())
    plain.score.weight.data.copy_(head_of(model, "reward").weight[None])
    return plain


@pytest.mark.parametrize("path", PATHS)
def test_rewards_and_gradients_equal_those_of_rows_of_their_own(path: str) -> None:
    """float64 carries 15 to 16 digits; sums over a few dozen terms lose two or three."""
    model = with_head(path)
    plain = classifier(model)
    batch = PackedBatch.from_trees(ROWS)
    branches = find_branches(batch)
    reward_N = branch_rewards(model, batch, branches)
    rows = plain_rows()
    expected_N = torch.stack(
        [plain(input_ids=torch.tensor([rows[name]])).logits[0, 0] + 0.5 for name in branches.names]
    )
    assert len(reward_N) == 7
    assert float(reward_N.detach().std()) > 0.1, "the branches are alike"
    torch.testing.assert_close(reward_N, expected_N, rtol=1e-11, atol=1e-11)

    chosen_M, rejected_M, weight_M = ranked_pairs(*ranks(branches))
    assert [(branches.names[c], branches.names[r]) for c, r in zip(chosen_M, rejected_M, strict=True)] == [
        (("a", "0"), ("a", "1")),
        (("b", "0"), ("b", "1")),
        (("b", "0"), ("b", "2")),
        (("b", "1"), ("b", "2")),
        (("c", "0"), ("c", "1")),
    ]
    for value_N in (reward_N, expected_N):
        bradley_terry_loss(value_N, chosen_M, rejected_M, 3, weight_M=weight_M, centring=0.01).backward()
    got, wanted = (dict(one.model.named_parameters()) for one in (model, plain))
    assert got.keys() == wanted.keys()
    assert float(wanted["layers.0.self_attn.q_proj.weight"].grad.abs().max()) > 1e-6
    for name, parameter in wanted.items():
        torch.testing.assert_close(got[name].grad, parameter.grad, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(head_of(model, "reward").weight.grad, plain.score.weight.grad[0], rtol=1e-9, atol=1e-10)
    assert model.lm_head.weight.grad is None


@pytest.mark.parametrize("path", PATHS)
def test_values_before_every_learned_token_equal_plain_hidden_states(path: str) -> None:
    """One place predicts the first tokens of several branches: its value stands once for each."""
    model, plain = on_path(path), tiny_llama(backend="sdpa")
    head = add_head(model, "value", seed=5).double()
    trees = [tree("a", (4, 5), (6, 7, 8), (9,), learn=1.0), tree("b", (10,), (11, 12), learn=1.0)]
    batch = PackedBatch.from_trees([trees])
    row_P, column_P = batch.learn_BT.nonzero(as_tuple=True)
    predictor_P = batch.predictor_BT[row_P, column_P]
    assert len(set(predictor_P.tolist())) < len(predictor_P)
    value_P = scalars_at(model, batch, row_P, predictor_P, "value")
    branch_P = find_branches(batch).of_tokens(batch, row_P, column_P)
    expected = []
    for completion, prompt in (((6, 7, 8), (4, 5)), ((9,), (4, 5)), ((11, 12), (10,))):
        hidden_TD = plain.model(input_ids=torch.tensor([[*SHARED, *prompt, *completion]])).last_hidden_state[0]
        expected.append(hidden_TD[len(SHARED) + len(prompt) - 1 : -1] @ head.weight)
    for branch, values in enumerate(expected):
        torch.testing.assert_close(value_P[branch_P == branch], values, rtol=1e-11, atol=1e-11)


def test_no_logits_are_computed() -> None:
    model, seen = with_head("sdpa"), []
    model.lm_head.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape)))
    batch = PackedBatch.from_trees(ROWS)
    branch_rewards(model, batch, find_branches(batch))
    assert seen == [(1, 0, 61)]


def test_a_head_in_float32_reads_a_model_in_bfloat16() -> None:
    model = on_path("sdpa", torch.bfloat16)
    assert add_head(model, "reward").weight.dtype == torch.float32
    batch = PackedBatch.from_trees(ROWS)
    assert branch_rewards(model, batch, find_branches(batch)).dtype == torch.float32


def test_new_heads_are_small_repeatable_and_trainable_beside_an_adapter() -> None:
    """Rewards of inputs with entries of size 1 begin with a variance of D / (D + 1): a little below 1."""
    one, two, other = (add_head(tiny_llama(), "reward", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.weight, two.weight)
    assert not torch.equal(one.weight, other.weight)
    wide = add_head(tiny_llama(hidden_size=4096, intermediate_size=8, num_hidden_layers=1), "reward")
    assert float(wide.weight.detach().std()) == pytest.approx(1 / 4097**0.5, rel=0.05)
    assert (float(wide.bias.detach()), wide.bias.shape) == (0.0, ())
    model = add_lora(tiny_llama(), **LoraSection().model_dump())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # 0 at first, so that the adapter would change nothing
            torch.nn.init.normal_(parameter)
    add_head(model, "reward").double()
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert [name for name in trainable if "lora" not in name] == ["reward_head.weight", "reward_head.bias"]
    batch = PackedBatch.from_trees(ROWS)
    rewards = branch_rewards(model, batch, find_branches(batch))
    with model.disable_adapter():
        assert not torch.allclose(branch_rewards(model, batch, find_branches(batch)), rewards)


def test_heads_are_saved_and_loaded(tmp_path: Path) -> None:
    model = with_head("sdpa").float()
    value = add_head(model, "value", seed=9)
    save_heads(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reward_head.safetensors", "value_head.safetensors"]
    fresh = on_path("sdpa", torch.float32)
    assert head_of(fresh, "reward") is None
    batch = PackedBatch.from_trees(ROWS)
    branches = find_branches(batch)
    load_head(fresh, tmp_path, "reward")
    assert torch.equal(branch_rewards(fresh, batch, branches), branch_rewards(model, batch, branches))
    held = add_head(fresh, "value", seed=1)
    assert load_head(fresh, tmp_path, "value") is held
    assert torch.equal(held.weight, value.weight)
    save_heads(tiny_llama(), tmp_path / "nothing to write")


BAD = {
    "missing": (None, "cannot read the reward head .*reward_head.safetensors.*that trained a reward head"),
    "damaged": (b"{", "cannot read the reward head"),
    "another width": ({"weight": torch.zeros(31), "bias": torch.zeros(())}, r"'weight': \(31,\).*needs .*\(32,\)"),
    "no bias": ({"weight": torch.zeros(32)}, "needs .*'bias'"),
    "not finite": ({"weight": torch.full((32,), torch.nan), "bias": torch.zeros(())}, "not finite"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_heads_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    held, message = BAD[case]
    path = tmp_path / "reward_head.safetensors"
    if isinstance(held, bytes):
        path.write_bytes(held)
    elif held is not None:
        save_file(held, path)
    model = tiny_llama()
    with pytest.raises(ModelError, match=message):
        load_head(model, tmp_path, "reward")
    assert head_of(model, "reward") is None


def test_a_head_is_given_once_and_missed_by_name() -> None:
    model = tiny_llama()
    batch = PackedBatch.from_trees(ROWS)
    with pytest.raises(ModelError, match="LlamaForCausalLM has no reward head"):
        branch_rewards(model, batch, find_branches(batch))
    add_head(model, "reward")
    with pytest.raises(ModelError, match="has a reward head already"):
        add_head(model, "reward")
