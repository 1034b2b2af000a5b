"""The memory of a model by arithmetic: counts against real models, activations against what autograd keeps."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    FalconConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    RwkvConfig,
)

from palmette.errors import ModelError
from palmette.inference.names import resolve_model
from palmette.model import outline as outlines
from palmette.model.forward import score_tokens
from palmette.model.gguf_header import GgufLayout
from palmette.model.loading import add_lora
from palmette.model.outline import outline_of_config, outline_of_gguf
from palmette.studies.models.facts import disk_bytes, licence_of
from palmette.studies.planning.memory import PlannedWork, longest_context, memory_need
from palmette.studies.planning.source import outline_of_source
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment
from tests.support.command import palmette
from tests.support.gguf import write_gguf
from tests.support.hub import KNOWN, downloaded, fake_hub, use_hub
from tests.support.models import SMALL, VOCABULARY, on_path, tiny_llama

LLAMA_3_8B = LlamaConfig(
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    vocab_size=128256,
    max_position_embeddings=8192,
    tie_word_embeddings=False,
)


def test_llama_3_8b_in_4_bits_with_its_published_sizes() -> None:
    """Linear layers 32 * (2 * 4096 * (4096 + 1024) + 3 * 4096 * 14336) = 6.98 billion weights, of 4.127 bits: 3.60 GB.
    Embedding and output layer 2 * 128256 * 4096 * 2 bytes = 2.10 GB. An adapter of rank 16: each layer has 2 * 4096 + 2
    * 5120 in and out of query, output, key and value, and 3 * (4096 + 14336) of the MLP, times 32 * 16 = 41.9 million.
    Inputs of the layers 8192 * 4096 * 32 * 2 bytes = 2.15 GB.
    """
    outline = outline_of_config(LLAMA_3_8B)
    assert outline.num_parameters == 8_030_261_248  # as published
    assert outline.linear_parameters == 6_979_321_856
    assert outline.parameters["output layer"] == outline.parameters["embedding"] == 128256 * 4096
    need = memory_need(outline, PlannedWork("qlora", "gpu", 8192, checkpointing=True))
    assert need.parts["weights"] == pytest.approx(3.60e9 + 2.10e9, rel=0.01)
    assert need.parts["adapter"] / 2 == 41_943_040
    assert 2.15e9 + 1.4e9 < need.parts["activations"] < 2.15e9 + 2.6e9  # one layer is computed again
    # 300 rows of logits and their gradient, against 8192 rows
    assert (
        need.parts["logits"]
        < 0.25e9
        < memory_need(outline, PlannedWork("qlora", "gpu", 8192, checkpointing=True, learned=8192)).parts["logits"] / 10
    )


def test_all_weights_take_eighteen_bytes_each() -> None:
    """bfloat16 weights 2, masters 4, moments 8, gradients in float32 4."""
    outline = outline_of_config(LLAMA_3_8B)
    parts = memory_need(outline, PlannedWork("full", "gpu", 64, checkpointing=True)).parts
    state = sum(parts[name] for name in ("weights", "optimizer", "gradients", "adapter"))
    assert state == 18 * outline.num_parameters


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_counts_are_those_of_a_real_model(family: str) -> None:
    from transformers import AutoModelForCausalLM

    config: Any = {
        "llama": LlamaConfig(**SMALL, tie_word_embeddings=True),
        "qwen3": Qwen3Config(**SMALL, tie_word_embeddings=False),
        "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4),
    }[family]
    outline, model = outline_of_config(config), AutoModelForCausalLM.from_config(config)
    assert outline.num_parameters == sum(one.numel() for one in model.parameters())
    assert outline.tied is (family != "qwen3")
    if family != "gpt2":
        adapted = add_lora(model, rank=3, alpha=1.0, dropout=0.0, targets="all-linear")
        trained = sum(one.numel() for one in adapted.parameters() if one.requires_grad)
        assert trained == 3 * outline.linear_width


@pytest.mark.parametrize(
    ("form", "key_heads"),
    [
        ({"multi_query": True}, 1),
        ({"multi_query": False}, 4),
        ({"new_decoder_architecture": True, "num_kv_heads": 2}, 2),
    ],
)
def test_key_heads_of_falcon_are_those_of_its_layers(form: dict[str, Any], key_heads: int) -> None:
    """Its layer has one matrix for queries, keys and values: (4 + 2 * key heads) heads of 8."""
    from transformers import AutoModelForCausalLM

    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = FalconConfig(**sizes, ffn_hidden_size=80, **form)
    layer = AutoModelForCausalLM.from_config(config).transformer.h[0]
    outline = outline_of_config(config)
    assert layer.self_attention.query_key_value.weight.shape[0] == (4 + 2 * key_heads) * 8
    assert (outline.num_heads, outline.num_key_heads, outline.head_size) == (4, key_heads, 8)
    assert outline.intermediate_size == layer.mlp.dense_h_to_4h.weight.shape[0] == 80
    assert outline.cached_values == 2 * 2 * key_heads * 8


def test_the_mlp_of_opt_is_counted() -> None:
    """Two layers of 80 * 32 weights each, with 80 + 32 biases."""
    from transformers import AutoModelForCausalLM

    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = OPTConfig(**sizes, ffn_dim=80, word_embed_proj_dim=32)
    layers = AutoModelForCausalLM.from_config(config).model.decoder.layers
    counted = sum(one.numel() for layer in layers for part in (layer.fc1, layer.fc2) for one in part.parameters())
    outline = outline_of_config(config)
    assert outline.parameters["MLP"] == counted == 2 * (2 * 80 * 32 + 80 + 32)
    assert outline.intermediate_size == 80


@pytest.mark.parametrize("kind", [MambaConfig, RwkvConfig])
def test_a_family_without_attention_is_refused(kind: Any) -> None:
    config = kind(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2)
    with pytest.raises(ModelError, match=rf"the family '{config.model_type}' states no number of attention heads"):
        outline_of_config(config)


KEYS = {"embedding_length": 32, "attention.head_count": 4, "block_count": 2, "feed_forward_length": 80}
TABLE = {"token_embd.weight": (32, 64)}


@pytest.mark.parametrize(
    ("keys", "shapes", "problem"),
    [
        ({"attention.head_count": 0}, TABLE, r"states attention.head_count = 0, not a whole number from 1 on"),
        ({"attention.head_count_kv": []}, TABLE, r"states attention.head_count_kv = \[\], not"),
        ({"embedding_length": "wide"}, TABLE, r"states embedding_length = 'wide', not"),
        ({"feed_forward_length": None}, TABLE, r"states feed_forward_length = None, not"),
        ({"context_length": 2.5}, TABLE, r"states context_length = 2.5, not"),
        ({}, {"token_embd.weight": ()}, r"token_embd.weight of a.gguf has the shape \[\]"),
        ({}, {}, r"does not state token_embd.weight"),
    ],
)
def test_a_gguf_header_that_makes_no_sense(
    keys: dict[str, Any], shapes: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = GgufLayout("llama", {**KEYS, **keys}, {}, shapes, dict.fromkeys(shapes, "F32"))
    monkeypatch.setattr(outlines, "read_layout", lambda _: layout)
    with pytest.raises(ModelError, match=problem):
        outline_of_gguf(Path("a.gguf"))


def test_a_gguf_header_says_what_the_configuration_says(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_llama(torch.float32, vocab_size=len(tokenizer), tie_word_embeddings=False)
    file = write_gguf(tmp_path / "tiny.gguf", model, tokenizer, architecture="llama")
    found, wanted = outline_of_gguf(file), outline_of_config(model.config)
    for name in ("num_layers", "hidden_size", "intermediate_size", "num_heads", "num_key_heads", "head_size"):
        assert getattr(found, name) == getattr(wanted, name)
    assert (found.family, found.vocabulary, found.tied) == ("llama", len(tokenizer), False)
    assert dict(found.parameters) == dict(wanted.parameters)
    assert (found.linear_parameters, found.linear_width) == (wanted.linear_parameters, wanted.linear_width)
    assert (found.stored_dtype, found.num_positions) == ("F32", 4096)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 40)])
def test_a_file_that_is_no_gguf_file(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read as a GGUF model"):
        outline_of_gguf(file)


def test_a_fetched_model_of_the_hub_has_a_size_and_a_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub answers, so nothing is an earlier download. The files are those of the snapshot of the revision."""
    with fake_hub() as hub:
        use_hub(monkeypatch, hub.server_port, tmp_path)
        snapshot = downloaded(tmp_path, KNOWN)
        LlamaConfig(**SMALL).save_pretrained(snapshot)
        source = resolve_model(KNOWN)
        assert outline_of_source(source).stored_bytes is None
        (snapshot / "model-00001-of-00002.safetensors").write_bytes(b"x" * 700)
        (snapshot / "model-00002-of-00002.safetensors").write_bytes(b"x" * 50)
        (snapshot / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
        outline = outline_of_source(source)
        assert (outline.stored_bytes, disk_bytes(source, outline)) == (750, 750)
        assert licence_of(source) == "apache-2.0"
        (snapshot / "README.md").unlink()
        assert licence_of(source) == "not stated"


def kept_bytes(model: Any, num_tokens: int) -> int:
    """Bytes that autograd keeps for the backward pass, parameters left out, each storage once."""
    own = {one.untyped_storage().data_ptr() for one in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tensor.is_floating_point():
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    token = tuple(i % VOCABULARY for i in range(num_tokens))
    tree = PrefixTree(Node((Segment(token[:-2]), Segment(token[-2:], learn=1.0))))
    batch = PackedBatch.from_trees([[tree]])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = score_tokens(model, batch)
        scores.logprob_P.sum()
    return sum(kept.values())


@pytest.mark.parametrize("path", ["fused", "sdpa"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_activations_are_what_autograd_keeps(path: str, method: str) -> None:
    """Two sizes are compared, and their difference taken, so that what does not grow with the context drops out."""
    sizes = {"hidden_size": 96, "intermediate_size": 288, "head_dim": 24, "num_hidden_layers": 4}
    model = on_path(path, torch.float32).train()
    changed: Any = tiny_llama(torch.float32, model.config._attn_implementation, **sizes)
    if path == "fused":
        from palmette.model.fused import fuse

        fuse(changed)
    outline = outline_of_config(changed.config)
    if path == "sdpa":  # a family without fused layers
        outline = outline.__class__(**{**outline.__dict__, "family": "qwen3"})
    trained = add_lora(changed, rank=4, alpha=1.0, dropout=0.0, targets="all-linear") if method == "lora" else changed
    measured = kept_bytes(trained, 900) - kept_bytes(trained, 300)

    def planned(context: int) -> int:
        parts = memory_need(outline, PlannedWork(method, "cpu", context, rank=4, value_bytes=4)).parts  # type: ignore[arg-type]
        # what autograd does not keep: the mask, and what goes back through one layer
        passing = 2 * context * context + context * 4 * (3 * 288 + 2 * 96)
        return parts["activations"] + parts["attention weights"] - passing

    assert planned(900) - planned(300) == pytest.approx(measured, rel=0.15)


def test_the_longest_context_fits_and_the_next_does_not() -> None:
    outline, job = outline_of_config(LLAMA_3_8B), PlannedWork("qlora", "gpu", 1, checkpointing=True)
    for room in (8 * 2**30, 10 * 2**30):
        found = longest_context(outline, job, room)
        assert 0 < found < 8192
        around = [
            memory_need(outline, PlannedWork("qlora", "gpu", found + more, checkpointing=True)).total
            for more in (0, 64)
        ]
        assert around[0] <= room < around[1]
    assert longest_context(outline, job, 2**30) == 0
    assert longest_context(outline, job, 2**40) == 8192


def test_the_command(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert palmette(monkeypatch, "plan", tiny_folder, "--context", "256") == 0
    shown = capsys.readouterr().out
    assert "QLoRA" in shown.partition("On a CPU")[0]
    assert "QLoRA" not in shown.partition("On a CPU")[2]  # 4 bits are refused there
    assert palmette(monkeypatch, "plan", tiny_folder, "--json", "--device", "cpu") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["plans"][0]["ways"][0]["longest_context"]["8"] == 4096  # the model's positions
    assert palmette(monkeypatch, "plan", tiny_folder, "--context", "5000") == 2
    assert "a context of 5,000 tokens is longer than the model's 4,096 positions" in capsys.readouterr().err
