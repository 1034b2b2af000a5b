"""Loading models: a hub id, a folder, or a GGUF file, with an adapter or without. Weights are safetensors or GGUF."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from palmette.cache import kept_hash
from palmette.errors import ModelError
from palmette.model.attention import BACKENDS, AttentionChoice
from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.files import ADAPTER_WEIGHTS
from palmette.model.flex import use_flex
from palmette.model.fused import fuse
from palmette.model.pause import load_pause
from palmette.model.quantize import Quantization, is_quantized, quantization_config
from palmette.model.tokenizer import UNREADABLE, first_line, load_tokenizer, weights_folder, weights_way_out
from palmette.model.weight_files import check_weight_files

DType = Literal["auto", "float32", "bfloat16"]

# Palmette shows its own progress.
transformers_logging.disable_progress_bar()


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer.

    Attributes:
        model: the causal language model, with one of our attention backends, in evaluation mode.
        tokenizer: its tokenizer.
        name: the name that the caller gave.
        folder: the folder or hub id that the base weights came from.
        content: a hash of the files that the weights came from, those of an adapter included. None if it is not known.
    """

    model: Any
    tokenizer: Any
    name: str
    folder: str
    content: str | None = None


def fast_dtype(dtype: DType = "auto") -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively (AMX, AVX-512 BF16, recent GPUs), else float32."""
    if dtype != "auto":
        return torch.float32 if dtype == "float32" else torch.bfloat16
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    adapter: Path | None = None,
    revision: str | None = None,
    dtype: DType = "auto",
    attention: AttentionChoice = "auto",
    quantization: Quantization | None = None,
    fused: bool = True,
    trust_remote_code: bool = False,
    overrides: dict[str, Any] | None = None,
    download: Path | None = None,
    prepared: Path | None = None,
    random: bool = False,
) -> LoadedModel:
    """Load a causal language model and its tokenizer.

    Args:
        name: a hub id, a folder, or a GGUF file, as `inference/names.py` located it. The default id is served by the
            installed package if there is one.
        adapter: folder with a peft adapter (safetensors) to put on top, and pause tokens if it has any.
        revision: branch, tag or commit on the hub.
        dtype: "auto" picks what the hardware is fast at.
        attention: backend, "flex", "sdpa" or "eager". "auto" is flex where a GPU and the model allow it, else sdpa.
        quantization: "4bit" or "8bit" keeps the base in that many bits under an adapter. 4 bits need a GPU.
        fused: run each layer of a known family as one operation, on a CPU.
        trust_remote_code: run code that comes with the model.
        overrides: values for the model's configuration, such as {"attention_dropout": 0.0}.
        download: the folder of an earlier download of a model of the hub, to be loaded without asking the hub.
        prepared: a folder with the weights of the base and the adapter merged. The tokenizer, and pause tokens if there
            are any, come from where they always do.
        random: draw the weights of the model's configuration anew, from torch's global generator, and load none.

    Raises:
        ModelError: the model is missing, has no safetensors weights, or has no embedding for a token that text or the
            chat template can contain. Or an override is unknown to it.
    """
    folder = weights_folder(name) if download is None else str(download)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = load_tokenizer(name, folder=folder, **options)
    if quantization:
        options["quantization_config"] = quantization_config(device, fast_dtype(dtype), quantization)
    where = folder if prepared is None else str(prepared)
    load = _random_weights if random else _weights
    model = load(where, name, fast_dtype(dtype), attention, options, overrides or {})
    if download is not None:
        folder = name
        model.config._commit_hash = download.name  # as transformers notes it of a model that it fetched
    model.name_or_path = model.config.name_or_path = folder
    _check_embedding(model, tokenizer, name)
    if adapter is not None and prepared is None:
        model = with_adapter(model, adapter)
    load_pause(model, adapter or Path(folder))
    model = model.to(device).eval()
    if attention in ("auto", "flex"):
        use_flex(model, device, required=attention == "flex")
    if fused:
        fuse(model)
    return LoadedModel(model, tokenizer, name, folder)


def _weights(
    folder: str,
    name: str,
    dtype: torch.dtype,
    attention: AttentionChoice,
    options: dict[str, Any],
    overrides: dict[str, Any],
) -> Any:
    """A model with its weights, from a folder or the hub."""
    try:
        check_weight_files(folder, options.get("revision"))
        return AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=BACKENDS["eager" if attention == "eager" else "sdpa"],
            use_safetensors=True,
            **options,
            **overrides,  # apart, so that none of them takes the place of an option
        )
    except UNREADABLE as error:
        if "Unrecognized configuration class" in str(error):  # T5, BERT, Whisper, ...
            raise ModelError(
                f"the model {name!r} is no decoder-only language model", "Use one such as SmolLM, Llama, Qwen or Gemma."
            ) from error
        capped = attention != "eager" and "scaled_dot_product_attention" in str(error)
        way_out = "Set model.attention: eager, or --attention eager." if capped else weights_way_out(name)
        raise ModelError(f"cannot load the model {name!r}: {first_line(error)}", way_out) from error


def _random_weights(
    folder: str,
    name: str,
    dtype: torch.dtype,
    attention: AttentionChoice,
    options: dict[str, Any],
    overrides: dict[str, Any],
) -> Any:
    """A model of a configuration with new weights, drawn as its family draws them."""
    try:
        config = AutoConfig.from_pretrained(folder, **options, **overrides)
        backend = BACKENDS["eager" if attention == "eager" else "sdpa"]
        # Drawn in float32, so that the dtype does not decide what is drawn.
        return AutoModelForCausalLM.from_config(config, attn_implementation=backend, dtype=torch.float32).to(dtype)
    except UNREADABLE as error:
        way_out = "Give a model with a config.json. `palmette synth tokenizer` writes a small one."
        raise ModelError(
            f"cannot make a model of the configuration of {name!r}: {first_line(error)}", way_out
        ) from error


def _check_embedding(model: Any, tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer with tokens that the model has no embedding for.

    An added token beyond the embedding, such as a lone [PAD], does no harm as long as the chat template does not write
    it: no content is encoded as an added token.

    Raises:
        ModelError: naming the first such token.
    """
    num_rows = model.get_input_embeddings().num_embeddings
    added, template = tokenizer.get_added_vocab(), str(tokenizer.chat_template or "")
    beyond = sorted((token_id, token) for token, token_id in tokenizer.get_vocab().items() if token_id >= num_rows)
    for token_id, token in beyond:
        if token not in added or token in template:
            raise ModelError(
                f"the tokenizer of {name!r} has the token {token!r} with the id {token_id}, "
                f"and the model has embeddings for {num_rows} ids only",
                "Use the tokenizer that belongs to these weights.",
            )


@contextlib.contextmanager
def without_alias_warning() -> Iterator[None]:
    """Hide a warning: peft 0.21 reads a property that transformers 5.23 has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def with_adapter(model: Any, folder: Path) -> Any:
    """Put a trained adapter on a model.

    Args:
        model: the base model, whose modules are wrapped in place.
        folder: the folder of the adapter.

    Raises:
        ModelError: it is missing, damaged, or belongs to another model.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{folder} holds no {ADAPTER_WEIGHTS}", "Give the folder of a finished run.")
    from peft import PeftModel  # takes as long to import as a small model to load

    try:
        with without_alias_warning():
            adapted = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
    except UNREADABLE as error:
        raise ModelError(
            f"cannot load the adapter {folder}: {first_line(error)}", "Give the folder of a finished run of this model."
        ) from error
    for config in adapted.peft_config.values():
        # The folder of the base on this machine. With a hub id, peft would ask the hub about it at every checkpoint.
        config.base_model_name_or_path = model.name_or_path
    return adapted


def add_lora(
    model: Any,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: str | list[str],
    dora: bool = False,
    rank_stabilised: bool = False,
    rank_pattern: Mapping[str, int] | None = None,
    alpha_pattern: Mapping[str, float] | None = None,
) -> Any:
    """Put a new LoRA adapter (Hu et al., 2021) on a model. Only its matrices are trained.

    `config.LoraSection` explains the options.

    Raises:
        ModelError: the targets or a pattern name no layers of the model.
    """
    from peft import LoraConfig, TaskType, get_peft_model
    from peft.tuners.lora import LoraLayer

    patterns: dict[str, dict[str, Any]] = {
        "rank_pattern": dict(rank_pattern or {}),
        "alpha_pattern": dict(alpha_pattern or {}),
    }
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        use_dora=dora,
        use_rslora=rank_stabilised,
        **patterns,
    )
    try:
        with without_alias_warning():
            # It warns of a pattern that matches nothing, which is an error below.
            warnings.filterwarnings("ignore", message=".*pattern keys did not match", category=RuntimeWarning)
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    except (ValueError, re.error) as error:
        raise ModelError(
            f"LoRA cannot be put on {targets!r}: {error}", "Use lora.targets: all-linear, or name layers of the model."
        ) from error
    layers = [name for name, layer in adapted.get_base_model().named_modules() if isinstance(layer, LoraLayer)]
    for option, chosen in patterns.items():
        for key in chosen:
            if not any(re.match(rf"(.*\.)?({key})$", name) for name in layers):
                raise ModelError(
                    f"lora.{option}: no name of an adapted layer ends with {key!r}",
                    f"Name layers such as {layers[0]!r}.",
                )
    return adapted


def merge_lora(loaded: LoadedModel) -> LoadedModel:
    """The model with its adapter added to its weights, which answers faster. Without an adapter, the same model."""
    peft = sys.modules.get("peft")  # without it, nothing has an adapter
    if peft is None or not isinstance(loaded.model, peft.PeftModel) or is_quantized(loaded.model):
        return loaded
    with without_alias_warning():
        return replace(loaded, model=loaded.model.merge_and_unload())


def weights_hash(folder: str) -> str | None:
    """SHA-256 over the safetensors files of a local folder, in the order of their names. None for a hub id.

    It is kept in the user's cache for as long as no file is touched.
    """
    files = sorted(Path(folder).glob("*.safetensors")) if Path(folder).is_dir() else []
    return kept_hash(files, "weights", lambda: _hash_of(files)) if files else None


def _hash_of(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as recipes name it.

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")
