"""Fused layers: the stock layer's numbers and gradients, for every family, adapter and mode that they are used for;
stock elsewhere.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.modules.module import register_module_forward_hook
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.models.llama import modeling_llama as llama

from palmette.errors import ModelError
from palmette.model.attention import BACKENDS
from palmette.model.checks import check_model
from palmette.model.forward import masked_logits, score_tokens
from palmette.model.fused import FusedLayer, describe, fuse
from palmette.model.loading import without_alias_warning
from palmette.objectives.nll import weighted_nll
from palmette.tree.batch import PackedBatch
from tests.support.models import SMALL, VOCABULARY, with_exact_norms
from tests.support.trees import example

FAMILIES = {
    "llama": LlamaConfig(**SMALL),
    "llama with biases": LlamaConfig(**SMALL, attention_bias=True),
    "mistral": MistralConfig(**SMALL, sliding_window=None),
    "qwen2": Qwen2Config(**{**SMALL, "head_dim": 8}),
}
# float64 carries 15 to 16 digits; the gradients are sums over a few hundred products.
EXACT = {"rtol": 1e-9, "atol": 1e-11}


def build(family: str = "llama", dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(FAMILIES[family]))
    model = with_exact_norms(model.to(dtype)).train()
    with torch.no_grad():  # as drawn, biases are 0 and norms 1
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.normal_(1.0, 0.3)
    model.set_attn_implementation(BACKENDS["sdpa"])
    return model


def adapted(model: Any, **changes: Any) -> Any:
    """With a LoRA adapter that does something: B is drawn too."""
    settings = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear", **changes}
    with without_alias_warning():
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings), autocast_adapter_dtype=False)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.2 * drawn)
    return model


def run(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities of a packed batch of two rows, and the gradients of what is trained."""
    batch = PackedBatch.from_trees([[example(0), example(9)], [example(17)]])
    scores = score_tokens(model, batch)
    loss = weighted_nll(scores.logprob_P, batch.learn_BT[scores.row_P, scores.column_P], batch.learn_weight)
    loss.backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    model.zero_grad()
    return scores.logprob_P.detach(), trained


def assert_same(stock: Any, fused: Any, **tolerance: float) -> None:
    assert describe(fused).startswith("fused layers")
    assert describe(stock) == "stock layers"
    (wanted, slopes), (found, got) = run(stock), run(fused)
    torch.testing.assert_close(found, wanted, **tolerance)
    assert got.keys() == slopes.keys()
    assert got
    for name, slope in slopes.items():
        assert float(slope.abs().max()) > 1e-6, f"{name} gets no gradient, so nothing is compared"
        torch.testing.assert_close(got[name], slope, **tolerance)


def fused_copy(model: Any) -> Any:
    model = copy.deepcopy(model)
    fuse(model)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_all_weights_trained(family: str) -> None:
    model = build(family)
    assert_same(model, fused_copy(model), **EXACT)


ADAPTERS: dict[str, dict[str, Any]] = {
    "everywhere": {},
    "some layers": {"target_modules": ["q_proj", "v_proj", "down_proj"]},
    "one layer": {"target_modules": ["up_proj"]},
    "ranks that differ": {"rank_pattern": {"k_proj": 2, "gate_proj": 7}, "alpha_pattern": {"v_proj": 3}},
    "rank-stabilised": {"use_rslora": True},
    "with embeddings trained": {"modules_to_save": ["embed_tokens"], "target_modules": ["q_proj", "o_proj"]},
}


@pytest.mark.parametrize("family", ["llama", "llama with biases"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters_trained(adapter: str, family: str) -> None:
    model = adapted(build(family), **ADAPTERS[adapter])
    assert_same(model, fused_copy(model), **EXACT)


def test_compiled_kernels_in_float32() -> None:
    """float32 carries 7 digits; two layers of sums lose two or three of them."""
    model = adapted(build(dtype=torch.float32))
    assert_same(model, fused_copy(model), rtol=2e-3, atol=2e-4)


def test_fusing_first_serves_adapters_that_come_later() -> None:
    early = build()
    fuse(early)
    assert_same(adapted(build()), adapted(early), **EXACT)


def test_an_adapter_switched_off_or_merged() -> None:
    bare, fused = build(), fused_copy(adapted(build()))
    wanted, _ = run(bare)
    with fused.disable_adapter():
        off, _ = run_without_gradients(fused)
    torch.testing.assert_close(off, wanted, **EXACT)
    on, _ = run(fused)
    assert float((on - wanted).abs().max()) > 0.1, "the adapter does nothing"
    with without_alias_warning():
        merged = fused.merge_and_unload()
    assert describe(merged).startswith("fused")
    torch.testing.assert_close(run_without_gradients(merged)[0], on, **EXACT)


@torch.no_grad()
def run_without_gradients(model: Any) -> tuple[torch.Tensor, None]:
    batch = PackedBatch.from_trees([[example(0), example(9)], [example(17)]])
    return score_tokens(model, batch).logprob_P, None


def test_going_back_twice_gives_the_same_twice() -> None:
    model = fused_copy(adapted(build()))
    batch = PackedBatch.from_trees([[example(0)]])
    loss = score_tokens(model, batch).logprob_P.sum()
    trained = [p for p in model.parameters() if p.requires_grad]
    first = torch.autograd.grad(loss, trained, retain_graph=True)
    second = torch.autograd.grad(loss, trained)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_the_form_does_not_cover_stays_stock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout on the adapter's input, DoRA, another family, another attention: computed as ever, and said to be."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a fused layer ran")

    odd = {
        "dropout": adapted(build(), lora_dropout=0.1),
        "DoRA": adapted(build(), use_dora=True),
        "two adapters": adapted(build()),
        "attention dropout": build(),
    }
    with without_alias_warning():
        odd["two adapters"].add_adapter("other", LoraConfig(target_modules="all-linear", r=2))
    odd["attention dropout"].config.attention_dropout = 0.5
    torch.manual_seed(3)
    odd["qwen3"] = AutoModelForCausalLM.from_config(Qwen3Config(**SMALL)).to(torch.float64)
    odd["qwen3"].set_attn_implementation(BACKENDS["sdpa"])
    odd["eager"] = build()
    odd["eager"].set_attn_implementation(BACKENDS["eager"])
    monkeypatch.setattr(FusedLayer, "apply", refuse)
    for name, model in odd.items():
        fuse(model)
        assert describe(model) == "stock layers", name
        run_without_gradients(model)
    fuse(model := build())
    with pytest.raises(AssertionError, match="a fused layer ran"):
        run_without_gradients(model)


def scaled_model() -> Any:
    """A model that brings a layer of its own under a name of transformers': Granite's form, residuals times 0.22."""

    class LlamaDecoderLayer(llama.LlamaDecoderLayer):
        def forward(self, hidden_states: Any, **options: Any) -> Any:
            attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **options)
            middle = hidden_states + 0.22 * attended
            return middle + 0.22 * self.mlp(self.post_attention_layernorm(middle))

    model = build()
    for layer in model.model.layers:
        layer.__class__ = LlamaDecoderLayer
    return model


def test_a_layer_of_the_same_name_is_computed_by_its_own_code() -> None:
    model = scaled_model()
    assert type(model.model.layers[0]).__name__ == "LlamaDecoderLayer"
    wanted, slopes = run(model)
    fuse(model)
    assert describe(model) == "stock layers"
    found, got = run(model)
    assert torch.equal(found, wanted)
    assert all(torch.equal(got[name], slope) for name, slope in slopes.items())
    assert float((run(build())[0] - wanted).abs().max()) > 0.1, "scaling changes nothing here"


def attach_hook(module: Any) -> None:
    module.register_forward_hook(lambda _module, _inputs, output: 2 * output)


def attach_pre_hook(module: Any) -> None:
    module.register_forward_pre_hook(lambda _module, inputs: tuple(2 * x for x in inputs))


def attach_backward_hook(module: Any) -> None:
    module.register_full_backward_hook(lambda _module, slopes, _: tuple(2 * x for x in slopes))


def replace_forward(module: Any) -> None:
    plain = module.forward
    module.forward = lambda x: 2 * plain(x)


ATTACHED = {
    "hook on an MLP": ("mlp", attach_hook),
    "hook before a projection": ("self_attn.q_proj", attach_pre_hook),
    "hook on an adapter": ("mlp.up_proj.lora_A.default", attach_hook),
    "hook on an activation": ("mlp.act_fn", attach_hook),
    "hook on the way back": ("post_attention_layernorm", attach_backward_hook),
    "replaced norm": ("input_layernorm", replace_forward),
    "replaced MLP": ("mlp", replace_forward),
}


@pytest.mark.parametrize("case", ATTACHED)
def test_what_is_attached_to_a_part_of_a_layer_takes_effect(case: str) -> None:
    """Expected: a model that was never fused, with the same attached."""
    path, attach = ATTACHED[case]
    stock, fused = adapted(build()), fused_copy(adapted(build()))
    before = run(stock)
    for model in (stock, fused):
        attach(model.get_base_model().model.layers[1].get_submodule(path))
    (wanted, slopes), (found, got) = run(stock), run(fused)
    assert describe(fused) == "stock layers"
    changed = [(wanted, before[0]), *((slope, before[1][name]) for name, slope in slopes.items())]
    assert max(float((a - b).abs().max()) for a, b in changed) > 0.01, "what is attached does nothing"
    torch.testing.assert_close(found, wanted, **EXACT)
    for name, slope in slopes.items():
        torch.testing.assert_close(got[name], slope, **EXACT)


def test_hooks_on_all_modules_are_called() -> None:
    model, called = fused_copy(build()), []
    handle = register_module_forward_hook(lambda module, _inputs, _output: called.append(type(module).__name__))
    try:
        run_without_gradients(model)
    finally:
        handle.remove()
    assert called.count("LlamaMLP") == 2
    assert describe(model).startswith("fused")


def test_a_layer_whose_attention_chose_another_backend_stays_stock() -> None:
    model = build()
    attention = model.model.layers[0].self_attn
    attention.config = copy.deepcopy(attention.config)
    attention.config._attn_implementation = BACKENDS["eager"]
    fuse(model)
    assert describe(model) == "stock layers"


def test_fused_layers_are_proved_against_stock_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method replaced on transformers' class cannot be seen on a layer: the proof must show the difference."""
    plain = llama.LlamaMLP.forward
    monkeypatch.setattr(llama.LlamaMLP, "forward", lambda self, x: 0.5 * plain(self, x))
    check_model(build(), training=True)
    with pytest.raises(ModelError, match="other numbers in a tree than in a row of its own"):
        check_model(fused_copy(build()), training=True)
    monkeypatch.undo()
    check_model(fused_copy(build()), training=True)


def test_dropout_is_covered_where_it_does_nothing() -> None:
    model = adapted(build(), lora_dropout=0.1).eval()
    assert_same(model, fused_copy(model), **EXACT)


def test_a_cached_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys from a cache: the logits after a prefix read before equal those of the whole sequence at once."""
    model = build()
    fuse(model)
    token = torch.arange(1, 13)[None] % VOCABULARY
    position, causal = torch.arange(12)[None], torch.ones(1, 12, 12, dtype=torch.bool).tril()
    with torch.no_grad():
        whole = masked_logits(build(), token, position, causal, torch.arange(5, 12))
        cache = DynamicCache(config=model.config)
        masked_logits(model, token[:, :5], position[:, :5], causal[:, :5, :5], torch.tensor([4]), cache)
        monkeypatch.setattr(FusedLayer, "apply", None)  # keys from a cache take their own way
        rest = masked_logits(model, token[:, 5:], position[:, 5:], causal[:, 5:], torch.arange(7), cache)
    torch.testing.assert_close(rest, whole, **EXACT)


def test_another_mask_than_the_trees_is_refused() -> None:
    """The receipt holds for fused layers too."""
    model = build()
    fuse(model)
    forward = model.model.forward

    def tampered(**inputs: Any) -> Any:
        return forward(**{**inputs, "attention_mask": inputs["attention_mask"].clone()})

    model.model.forward = tampered
    with pytest.raises(ModelError, match="another attention mask"):
        run_without_gradients(model)
