"""A tokenizer that is trained on texts, and the configuration of a small model that reads its tokens.

The tokenizer is byte-level BPE (Sennrich et al., 2016; Radford et al., 2019), so every text can be written with it. It
has a chat template, so that the model can be fine-tuned on conversations later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette import run
from palmette.errors import DataError

END, TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_BYTES = 256
_HEAD = 32  # size of an attention head


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The size of a model.

    Attributes:
        layers: number of layers.
        width: size of the hidden states, a multiple of 32.
        positions: longest text that it reads, in tokens.

    Raises:
        DataError: the width is not a multiple of 32.
    """

    layers: int = 4
    width: int = 128
    positions: int = 1024

    def __post_init__(self) -> None:
        if self.width % _HEAD:
            raise DataError(
                f"a width of {self.width} is no multiple of {_HEAD}", f"Give {_HEAD * (self.width // _HEAD + 1)}."
            )


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Train a tokenizer.

    Args:
        texts: the texts, which are read once.
        vocabulary: most tokens, with the 256 bytes and 3 control tokens. A small corpus may give fewer.

    Returns:
        A tokenizer of transformers.

    Raises:
        DataError: the vocabulary is too small for the bytes and the control tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [END, TURN, END_OF_TURN]
    if vocabulary <= _BYTES + len(special):
        raise DataError(
            f"a vocabulary of {vocabulary} tokens holds nothing beside the {_BYTES} bytes and {len(special)} control "
            "tokens",
            "Give 512 or more.",
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )
    made.chat_template = _TEMPLATE
    return made


def model_config(tokenizer: Any, size: ModelSize) -> dict[str, Any]:
    """The configuration of a Llama of this size, with tied embeddings and heads of 32."""
    heads = size.width // _HEAD
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": size.width,
        "intermediate_size": round(size.width * 8 / 3 / _HEAD) * _HEAD,
        "num_hidden_layers": size.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": next(groups for groups in (3, 2, 1) if heads % groups == 0),
        "head_dim": _HEAD,
        "max_position_embeddings": size.positions,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.02,
    }


def num_parameters(config: dict[str, Any]) -> int:
    """How many weights a model of such a configuration has."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    of_keys = config["num_key_value_heads"] * config["head_dim"]
    layer = 2 * width * width + 2 * width * of_keys + 3 * width * inner + 2 * width
    return int(config["vocab_size"] * width + config["num_hidden_layers"] * layer + width)


def write_tokenizer(tokenizer: Any, config: dict[str, Any], out: Path) -> None:
    """Write a folder that a recipe can name in model.name with model.init: random.

    Raises:
        RunError: the folder exists, or cannot be written.
    """
    with run.whole_folder(out) as staging:
        tokenizer.save_pretrained(staging)
        run.write_json(staging / "config.json", config)
