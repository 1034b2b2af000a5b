"""FlexAttention: the block mask is the tree's mask, the numbers are those of plain attention, and what it cannot do
is refused.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.utils import counters
from torch.nn.attention.flex_attention import BlockMask, create_mask
from transformers import AutoModelForCausalLM, Gemma2Config, GptOssConfig

from palmette.errors import ModelError
from palmette.model import flex as module
from palmette.model.attention import BACKENDS, expect_mask
from palmette.model.flex import BACKEND, _flex, flex, flex_refusal, receipt_of, tree_block_mask, tree_mask, use_flex
from palmette.model.loading import add_lora
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment
from tests.support.models import SMALL, VOCABULARY, tiny_llama
from tests.support.poison import KEY, poison_tree, wanted
from tests.support.trees import trees

gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="flex attention's kernels run on a GPU only")


def words(count: int, step: int, *, attend: bool = True, learn: float = 0.0) -> Segment:
    return Segment(tuple((step * index + 5) % VOCABULARY for index in range(count)), attend=attend, learn=learn)


def long_batch() -> PackedBatch:
    """Two rows of 576 tokens: a tree of three long branches beside a small one, and two trees with much padding."""
    branches = tuple(Node((words(100, step, learn=1.0),), name=f"b{step}") for step in (3, 5, 7))
    trunk = (words(150, 11), words(20, 13, attend=False), words(30, 17))
    first = PrefixTree(Node(trunk, branches), "first")
    small = PrefixTree(Node((words(20, 19),), (Node((words(9, 23, learn=1.0),), name="c"),)), "small")
    return PackedBatch.from_trees([[first, small], [small, small]])


def padded_mask(batch: PackedBatch, size: int) -> torch.Tensor:
    """The dense mask in rows of whole blocks, [B, S, S]; what was added sees itself alone."""
    num_rows, width = batch.token_BT.shape
    full = -(-width // size) * size
    mask = torch.eye(full, dtype=torch.bool).repeat(num_rows, 1, 1)
    mask[:, :width, :width] = batch.may_attend_BTT()
    return mask


def listed(counts: torch.Tensor, indices: torch.Tensor) -> set[tuple[int, int, int]]:
    """(row, block, block listed for it)."""
    return {
        (row, block, other)
        for row, blocks in enumerate(counts[:, 0].tolist())
        for block, count in enumerate(blocks)
        for other in indices[row, 0, block, :count].tolist()
    }


def assert_covers(mask: BlockMask, batch: PackedBatch, size: int) -> dict[str, int]:
    """The rule is the mask, token by token; a block is listed as full, as partial, or not at all, as its tokens say."""
    want = padded_mask(batch, size)
    length = want.shape[-1]
    assert mask.shape == (len(want), 1, length, length)
    assert torch.equal(create_mask(mask.mask_mod, len(want), 1, length, length, device="cpu")[:, 0], want)
    tiles = want.unfold(1, size, size).unfold(2, size, size).flatten(3)
    full, some = tiles.all(dim=3), tiles.any(dim=3)
    found = listed(mask.full_kv_num_blocks, mask.full_kv_indices), listed(mask.kv_num_blocks, mask.kv_indices)
    assert found[0] == {tuple(where) for where in full.nonzero().tolist()}
    assert found[1] == {tuple(where) for where in (some & ~full).nonzero().tolist()}
    # The backward kernel goes by keys.
    turned = listed(mask.full_q_num_blocks, mask.full_q_indices), listed(mask.q_num_blocks, mask.q_indices)
    assert turned == tuple({(row, key, query) for row, query, key in blocks} for blocks in found)
    below = torch.ones(some.shape[1:], dtype=torch.bool).tril(-1)
    return {"full": len(found[0]), "partial": len(found[1]), "skipped": int((below & ~some).sum())}


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(trees(), min_size=1, max_size=3), min_size=1, max_size=2), size=st.sampled_from([2, 4, 16])
)
def test_the_block_mask_is_the_mask(rows: list[list[PrefixTree]], size: int) -> None:
    batch = PackedBatch.from_trees(rows)
    assert_covers(tree_block_mask(batch.subtree_end_BT, batch.attend_BT, size), batch, size)


@pytest.mark.parametrize("size", [16, 64, 128])
def test_long_rows_have_full_partial_and_skipped_blocks(size: int) -> None:
    """What the random trees could leave out: every kind of block occurs below the diagonal, and a row that ends
    within a block.
    """
    batch = long_batch()
    counts = assert_covers(tree_block_mask(batch.subtree_end_BT, batch.attend_BT, size), batch, size)
    assert min(counts.values()) > 0
    assert size < 128 or batch.token_BT.shape[1] % size != 0


def plain_attention(query: Any, key: Any, value: Any, mask_BTT: torch.Tensor, scaling: float) -> torch.Tensor:
    groups = query.shape[1] // key.shape[1]
    scores = torch.einsum("bhid,bhjd->bhij", query, key.repeat_interleave(groups, dim=1)) * scaling
    weights = scores.masked_fill(~mask_BTT[:, None], -torch.inf).softmax(dim=-1)
    return torch.einsum("bhij,bhjd->bhid", weights, value.repeat_interleave(groups, dim=1))


@pytest.mark.parametrize(
    ("num_heads", "num_key_heads", "scaling", "dtype", "limit"),
    [
        (4, 2, 0.3, torch.float64, 1e-12),
        (6, 2, None, torch.float64, 1e-12),
        (3, 3, None, torch.float64, 1e-12),
        (4, 2, None, torch.float32, 1e-5),
    ],
)
def test_attention_is_a_masked_softmax(
    num_heads: int, num_key_heads: int, scaling: float | None, dtype: torch.dtype, limit: float
) -> None:
    """Queries share key heads two by two, three by three, or not at all; values are narrower; the row is no multiple
    of a block.
    """
    batch = long_batch()
    torch.manual_seed(3)
    num_rows, width = batch.token_BT.shape
    query = torch.randn(num_rows, num_heads, width, 8, dtype=dtype)
    key = torch.randn(num_rows, num_key_heads, width, 8, dtype=dtype)
    value = torch.randn(num_rows, num_key_heads, width, 5, dtype=dtype)
    got = flex(query, key, value, tree_block_mask(batch.subtree_end_BT, batch.attend_BT), scaling)
    want = plain_attention(query, key, value, batch.may_attend_BTT(), 8**-0.5 if scaling is None else scaling)
    torch.testing.assert_close(got, want, rtol=limit, atol=limit)


def logits_BTV(model: Any, batch: PackedBatch, mask: Any) -> torch.Tensor:
    """All logits; each layer has to sign for the mask."""
    with expect_mask(receipt_of(mask), "a model", model.config.num_hidden_layers):
        inputs = {"input_ids": batch.token_BT, "position_ids": batch.position_BT, "attention_mask": mask}
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits


@torch.no_grad()
def test_a_model_gives_the_logits_of_sdpa() -> None:
    batch = long_batch()
    mask = tree_mask(batch, torch.float64)
    assert isinstance(mask, BlockMask)
    got = logits_BTV(tiny_llama(backend=BACKEND), batch, mask)
    want = logits_BTV(tiny_llama(backend=BACKENDS["sdpa"]), batch, batch.may_attend_BTT()[:, None])
    # float64 carries 15 to 16 digits; sums over hundreds of keys lose two or three of them.
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


@torch.no_grad()
@pytest.mark.parametrize("victim_first", [False, True])
def test_a_key_that_everybody_wants_stays_in_its_branch(victim_first: bool) -> None:
    model = wanted(tiny_llama(backend=BACKEND))

    def victim(one: PrefixTree) -> torch.Tensor:
        batch = PackedBatch.from_trees([[one]])
        mask = tree_mask(batch, model.dtype)
        assert isinstance(mask, BlockMask)
        return logits_BTV(model, batch, mask)[batch.node_BT == (1 if victim_first else 2)]

    clean, poisoned = (victim(poison_tree(poison, victim_first)) for poison in ((8, 8), (KEY, KEY)))
    assert torch.equal(clean, poisoned)
    # Vacuity guard: in the victim's own trunk the same key changes the numbers a great deal.
    inside = PrefixTree(Node((Segment((1, KEY, 3)),), poison_tree((8, 8), victim_first).root.children), "t")
    assert float((victim(inside) - clean).abs().max()) > 0.1


@torch.no_grad()
def test_every_layer_signs_for_the_very_mask() -> None:
    model, batch = tiny_llama(backend=BACKEND), long_batch()
    mask, twin = tree_mask(batch, model.dtype), tree_mask(batch, model.dtype)
    swapped = copy.deepcopy(model)
    swapped.model.layers[1].register_forward_pre_hook(
        lambda _, inputs, options: (inputs, {**options, "attention_mask": twin}), with_kwargs=True
    )
    with pytest.raises(ModelError, match="gave LlamaAttention another attention mask"):
        logits_BTV(swapped, batch, mask)
    with pytest.raises(ModelError, match="reached 2 of 3 layers"), expect_mask(receipt_of(mask), "a model", 3):
        model(input_ids=batch.token_BT, attention_mask=mask, position_ids=batch.position_BT, use_cache=False)


def test_with_gradients_a_cpu_takes_the_dense_mask() -> None:
    batch, found = long_batch(), []
    mask = tree_mask(batch, torch.float64)
    assert isinstance(mask, torch.Tensor)
    for backend in (BACKEND, BACKENDS["sdpa"]):
        model = tiny_llama(backend=backend)
        logits_BTV(model, batch, mask[:, None]).logsumexp(dim=-1).sum().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(got, want) for got, want in zip(*found, strict=True))
    assert any(bool(gradient.any()) for gradient in found[0])


def test_gradients_under_a_block_mask_are_refused_on_a_cpu() -> None:
    batch = long_batch()
    with torch.no_grad():
        mask = tree_mask(batch, torch.float32)
    with pytest.raises(ModelError, match=r"no backward pass on a CPU. Set model.attention: sdpa"):
        logits_BTV(tiny_llama(torch.float32, backend=BACKEND), batch, mask)


def some_inputs(num_queries: int, num_keys: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    key = torch.randn(1, 2, num_keys, 8)
    return torch.randn(1, 4, num_queries, 8), key, torch.randn_like(key)


def test_keys_from_a_cache_are_refused() -> None:
    """Padding by a negative number would cut keys off."""
    mask = tree_block_mask(torch.full((1, 100), 100), torch.ones(1, 100, dtype=torch.bool))
    assert flex(*some_inputs(100, 100), mask).shape == (1, 4, 100, 8)
    for num_queries, num_keys in ((100, 140), (140, 140), (300, 300)):
        with pytest.raises(ModelError, match=f"got {num_queries} queries, {num_keys} keys and a mask for 128 tokens"):
            flex(*some_inputs(num_queries, num_keys), mask)
    long = tree_block_mask(torch.full((1, 300), 300), torch.ones(1, 300, dtype=torch.bool))
    with pytest.raises(ModelError, match="a mask for 384 tokens"):
        flex(*some_inputs(100, 100), long)


REFUSED = {
    "softcap": (50.0, "Set model.attention: eager"),
    "position_bias": (torch.zeros(1, 4, 100, 100), "Set model.attention: sdpa"),
    "s_aux": (torch.zeros(4), "Use another model"),
    "dropout": (0.1, "attention_dropout: 0.0"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_it_would_leave_out_is_refused(name: str) -> None:
    mask = tree_block_mask(torch.full((1, 100), 100), torch.ones(1, 100, dtype=torch.bool))
    value, way_out = REFUSED[name]
    with pytest.raises(ModelError, match=f"Linear.*{way_out}"):
        _flex(torch.nn.Linear(1, 1), *some_inputs(100, 100), mask, **{name: value})


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_torch_cannot_compile_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise NotImplementedError("head of 8")

    monkeypatch.setattr(
        module, "_compiled", lambda backend, dynamic: torch.compile(module.flex_attention, backend=broken)
    )
    mask = tree_block_mask(torch.full((1, 40), 40), torch.ones(1, 40, dtype=torch.bool))
    with pytest.raises(ModelError, match=r"cannot be compiled.*head of 8.*Set model.attention: sdpa"):
        flex(*some_inputs(40, 40), mask)


def test_another_tree_in_the_same_shape_does_not_compile_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, asked = module._compiled, []

    def spy(backend: str, *, dynamic: bool) -> Any:
        asked.append(dynamic)
        return compiled(backend, dynamic=dynamic)

    monkeypatch.setattr(module, "_compiled", spy)
    monkeypatch.setattr(module, "_own_shapes", set())
    monkeypatch.setattr(module, "NUM_OWN_KERNELS", 1)

    def run(length: int, hidden: int) -> int:
        before = counters["stats"]["unique_graphs"]
        attend = torch.arange(length)[None] != hidden
        flex(*some_inputs(length, length), tree_block_mask(torch.full((1, length), length), attend))
        return int(counters["stats"]["unique_graphs"] - before)

    run(700, 3)
    assert [run(700, 5), run(650, 6)] == [0, 0]  # 650 tokens are filled up to the same 768
    for length in (800, 900, 1000, 1100, 1200):
        assert run(length, 3) <= (length == 800)
    assert asked == [False] * 3 + [True] * 5


def test_who_cannot_be_served_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = tiny_llama(torch.float32, head_dim=16)
    assert flex_refusal(fits, "cpu") == "flex attention has no backward pass on a CPU"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert "needs Triton" in (flex_refusal(fits, "cuda") or "")
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    assert flex_refusal(fits, "cuda") is None
    assert "8 components" in (flex_refusal(tiny_llama(torch.float32), "cuda") or "")
    assert "float64" in (flex_refusal(tiny_llama(head_dim=16), "cuda") or "")
    capped = AutoModelForCausalLM.from_config(Gemma2Config(**{**SMALL, "head_dim": 16}))
    assert "capped" in (flex_refusal(capped, "cuda") or "")
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1}
    sinks = AutoModelForCausalLM.from_config(GptOssConfig(**{**SMALL, "head_dim": 16}, **experts))
    assert "sinks" in (flex_refusal(sinks, "cuda") or "")
    monkeypatch.setattr(type(fits), "_supports_flex_attn", False)
    assert "does not support flex attention in LlamaForCausalLM" in (flex_refusal(fits, "cuda") or "")


def test_a_model_is_switched_where_that_serves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama(torch.float32)
    use_flex(model, "cpu", required=False)
    assert model.config._attn_implementation == BACKENDS["sdpa"]
    with pytest.raises(
        ModelError, match=r"LlamaForCausalLM cannot run flex attention here: .* Set model\.attention: sdpa"
    ):
        use_flex(model, "cpu", required=True)
    monkeypatch.setattr(module, "flex_refusal", lambda model, device: None)
    adapted = add_lora(model, rank=2, alpha=4, dropout=0.0, targets=["q_proj"])
    use_flex(adapted, "cuda", required=True)
    assert adapted.config._attn_implementation == BACKEND
    batch = long_batch()
    with torch.no_grad():
        logits_BTV(adapted, batch, tree_mask(batch, torch.float32))


# The rest needs a GPU: the compiled kernels, forward and backward.


def gradients(model: Any, batch: PackedBatch, mask: Any) -> tuple[float, list[torch.Tensor]]:
    """Loss (mean negative log-likelihood of the learned tokens), and its gradients."""
    row_P, column_P = (batch.learn_BT != 0).nonzero(as_tuple=True)
    logits_PV = logits_BTV(model, batch, mask)[row_P, batch.predictor_BT[row_P, column_P]]
    loss = torch.nn.functional.cross_entropy(logits_PV.float(), batch.token_BT[row_P, column_P])
    loss.backward()
    found = [parameter.grad.float().clone() for parameter in model.parameters()]
    model.zero_grad()
    return float(loss.detach()), found


@gpu
@needs_cuda
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-3), (torch.bfloat16, 0.05)])
def test_gradients_are_those_of_sdpa(dtype: torch.dtype, limit: float, checkpointing: bool) -> None:
    """Relative difference of all gradients together; the limits are those of model/checks.py, the rounding of each
    dtype.
    """
    batch = long_batch().to("cuda")
    mask, dense = tree_mask(batch, dtype), batch.may_attend_BTT()[:, None]
    assert isinstance(mask, BlockMask)
    found = []
    for backend, given_mask in ((BACKEND, mask), (BACKENDS["sdpa"], dense)):
        model = tiny_llama(dtype, backend=backend, head_dim=16, initializer_range=0.1).to("cuda").train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        found.append(gradients(model, batch, given_mask))
    (got_loss, got), (want_loss, want) = found
    assert abs(got_loss - want_loss) <= limit * abs(want_loss)
    got_flat, want_flat = (torch.cat([one.flatten() for one in several]) for several in (got, want))
    assert float((got_flat - want_flat).norm()) <= limit * float(want_flat.norm())


@gpu
@needs_cuda
def test_training_steps_lower_the_loss() -> None:
    batch = long_batch().to("cuda")
    model = tiny_llama(torch.bfloat16, backend=BACKEND, head_dim=16, initializer_range=0.1).to("cuda").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss, found = gradients(model, batch, tree_mask(batch, model.dtype))
        for parameter, gradient in zip(model.parameters(), found, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        optimizer.step()
        losses.append(loss)
    assert losses[-1] < losses[0] - 0.3


@gpu
@needs_cuda
def test_peak_memory_does_not_grow_with_the_square_of_the_row() -> None:
    """Queries, keys, values, outputs and their gradients are linear in the row; a dense mask is quadratic."""
    leaves = tuple(Node((words(200, step),)) for step in range(2, 32))
    batch = PackedBatch.from_trees([[PrefixTree(Node((words(2000, 11),), leaves))]]).to("cuda")
    width, peaks = batch.token_BT.shape[1], []
    inputs = [torch.randn(1, 8, width, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    for backend in ("warm-up", "flex", "sdpa"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        if backend == "sdpa":
            dense = batch.may_attend_BTT()[:, None]
            torch.nn.functional.scaled_dot_product_attention(*inputs, attn_mask=dense).sum().backward()
        else:
            flex(*inputs, tree_block_mask(batch.subtree_end_BT, batch.attend_BT)).sum().backward()
        torch.cuda.synchronize()
        peaks.append(torch.cuda.max_memory_allocated() - before)
        for tensor in inputs:
            tensor.grad = None
    assert width**2 > 6e7
    assert peaks[1] < peaks[2] / 2
