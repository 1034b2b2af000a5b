"""Masked language models: loading one, what it thinks of masked positions, and the energy of a text.

The energy of a text is minus its pseudo-log-likelihood, the sum over its tokens of -log p(token | all other tokens),
where the token itself is masked (Salazar et al., 2020, "Masked Language Model Scoring"). It is in nats and takes one
row of the model for every token. Its exponential, averaged over tokens, is the pseudo-perplexity.

B rows, T tokens of a row, P masked positions, V vocabulary.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from palmette.encoders.heads import find_head, keep_head
from palmette.encoders.names import reach_encoder, way_out, without_load_report
from palmette.errors import ModelError
from palmette.model.tokenizer import UNREADABLE, first_line
from palmette.model.weight_files import check_weight_files

ROWS_PER_BATCH = 64


class Conditionals(Protocol):
    """What gives the distribution of a masked token: a masked language model, or a table of probabilities."""

    @property
    def mask(self) -> int:
        """The id of the token that stands for a masked one."""

    def logprob(self, token_BT: torch.Tensor, row_P: torch.Tensor, column_P: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (nats) of every token of the vocabulary at some positions.

        Args:
            token_BT: rows of equal length, in which positions may be masked.
            row_P: the row of each position.
            column_P: its column.

        Returns:
            (P, V), in float64. Each row sums to 1 in probability.
        """


@dataclass(frozen=True)
class MaskedModel:
    """A masked language model with its tokenizer.

    Attributes:
        model: a model with a head for masked tokens, in evaluation mode.
        tokenizer: a fast tokenizer with a mask token.
        name: the name that the user gave.
        folder: the folder or hub id that its weights came from.
        fresh: names of parameters that the weights lack and that were drawn at random, to be trained.
        note: where the head comes from, if it came from the cache.
        rows_per_batch: rows in memory at the same time.
        words: what `blanks.allowed_words` has found, by the sign before the word.
    """

    model: Any
    tokenizer: Any
    name: str
    folder: str
    fresh: tuple[str, ...] = ()
    note: str = ""
    rows_per_batch: int = ROWS_PER_BATCH
    words: dict[str, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def mask(self) -> int:
        """The id of the mask token."""
        return int(self.tokenizer.mask_token_id)

    @property
    def max_tokens(self) -> int:
        """The longest row that the model can read, with the two tokens around the text."""
        positions = getattr(self.model.config, "max_position_embeddings", None) or math.inf
        # RoBERTa numbers its positions from behind its padding token.
        offset = self.tokenizer.pad_token_id + 1 if "roberta" in self.model.config.model_type else 0
        return int(min(positions - offset, self.tokenizer.model_max_length))

    def content(self, text: str) -> list[int]:
        """The tokens of a text. What looks like a special token is text. What has no token is the unknown token."""
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return list(encoded["input_ids"])

    def counted(self, row: Sequence[int]) -> list[int]:
        """The columns of a row that its energy counts: all but those of special tokens, the unknown one among them."""
        special = set(self.tokenizer.all_special_ids)
        return [column for column, token in enumerate(row) if token not in special]

    def row(self, tokens: Sequence[int]) -> list[int]:
        """The tokens of a text between those that the model expects around it, such as [CLS] and [SEP].

        Raises:
            ModelError: the row is longer than the model can read.
        """
        row = [self.tokenizer.cls_token_id, *tokens, self.tokenizer.sep_token_id]
        if len(row) > self.max_tokens:
            raise ModelError(
                f"a text has {len(row)} tokens, and {self.name!r} reads at most {self.max_tokens}",
                "Give a shorter text.",
            )
        return row

    def logprob(self, token_BT: torch.Tensor, row_P: torch.Tensor, column_P: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (P, V) at some positions, as `Conditionals` has them."""
        out = torch.empty((len(row_P), self.model.config.vocab_size), dtype=torch.float64)
        for begin in range(0, len(token_BT), self.rows_per_batch):
            end = min(begin + self.rows_per_batch, len(token_BT))
            (here,) = torch.nonzero((row_P >= begin) & (row_P < end), as_tuple=True)
            inputs = {"input_ids": token_BT[begin:end], "attention_mask": torch.ones_like(token_BT[begin:end])}
            with torch.inference_mode():
                logits_PV = head_logits(self.model, inputs, row_P[here] - begin, column_P[here])
            out[here] = logits_PV.double().log_softmax(-1).cpu()
        return out


def load_masked(name: str, *, seed: int | None = None, dtype: torch.dtype = torch.float32) -> MaskedModel:
    """Load a masked language model.

    Weights come from safetensors only, and no code that comes with a model is run.

    Args:
        name: a folder, a run of `palmette train mlm`, a short name, or a hub id.
        seed: where the weights lack the head for masked tokens, draw one with this seed, to be trained. If None, the
            weights that were trained for this encoder last are taken from the cache, head and encoder.
        dtype: the dtype of all weights.

    Raises:
        ModelError: the model is missing, is no encoder, or lacks weights that the cache does not have.
    """
    folder = reach_encoder(name)
    torch.manual_seed(0 if seed is None else seed)
    try:
        with without_load_report():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model, info = _read(folder, dtype)
    except UNREADABLE as error:
        raise ModelError(f"cannot load the encoder {name!r}: {first_line(error)}", way_out(name)) from error
    _check_tokenizer(tokenizer, name)
    fresh = tuple(sorted(info["missing_keys"]))
    inner = [key for key in fresh if key.startswith(f"{model.base_model_prefix}.")]
    if inner:
        raise ModelError(
            f"the encoder {name!r} lacks {len(inner)} weights, {inner[0]} among them",
            "Give an encoder with all its weights.",
        )
    note = ""
    if fresh and seed is None:
        kept = find_head(folder, getattr(model.config, "_commit_hash", None))
        if kept is None:
            raise ModelError(
                f"{name!r} has no head for masked tokens, only an encoder",
                f"Train one: set model.name: {name} in a recipe of `palmette train mlm`. `palmette recipe mlm` prints "
                "one. The cache keeps it.",
            )
        folder, fresh = str(kept[0]), ()
        (model, _), note = _read(folder, dtype), _note(name, kept[1])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return MaskedModel(model.to(device).eval(), tokenizer, name, folder, fresh, note)


def keep_trained(model: Any, encoder: str, about: Mapping[str, Any]) -> bool:
    """Keep a trained model in the cache, for the name of the encoder that it started from. `keep_head` explains it.

    Args:
        model: the trained masked language model.
        encoder: the folder or hub id that it started from.
        about: `data` (the sources of the texts), `held_out_loss` (nats a masked token, or None) and `run` (the folder).
    """

    def load(folder: Path) -> Any:
        with without_load_report():
            loaded, _ = _read(str(folder), model.dtype)
        loaded.config.name_or_path = model.config.name_or_path
        return loaded

    return keep_head(model, encoder, getattr(model.config, "_commit_hash", None), about, load)


def _read(folder: str, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """A masked language model, and what transformers reports about its weights."""
    check_weight_files(folder)
    model, info = AutoModelForMaskedLM.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
    )
    return model, info


def _note(name: str, about: Mapping[str, Any]) -> str:
    loss = (
        "" if about["held_out_loss"] is None else f", to a held-out loss of {about['held_out_loss']:.2f} nats a token"
    )
    return (
        f"{name} has no head for masked tokens. The one in the cache is used, with the encoder as it was trained with "
        f"it: {about['run']} learned {', '.join(about['data'])}{loss}"
    )


def head_logits(
    model: Any, inputs: dict[str, torch.Tensor], row_P: torch.Tensor, column_P: torch.Tensor
) -> torch.Tensor:
    """Logits (P, V) of a masked language model at some positions. The head is not computed for the others.

    Args:
        model: a model whose head reads the last hidden states of its base model, as BERT's and RoBERTa's do.
        inputs: (B, T) inputs.
        row_P: the row of each position.
        column_P: its column.
    """
    device = model.device
    with _only(model, row_P.to(device), column_P.to(device)):
        logits: torch.Tensor = model(**{name: value.to(device) for name, value in inputs.items()}).logits[0]
    return logits


@contextlib.contextmanager
def _only(model: Any, row_P: torch.Tensor, column_P: torch.Tensor) -> Iterator[None]:
    """Give the head of a model the hidden states of some positions only, as one row."""

    def keep(_module: Any, _inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[row_P, column_P][None]
        return output

    handle = model.base_model.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def energies(model: Conditionals, token_BT: torch.Tensor, columns: Sequence[int]) -> torch.Tensor:
    """The energies (B,) of texts of equal length, in nats and float64.

    Args:
        model: gives the distribution of a masked token.
        token_BT: the texts, without masks.
        columns: the columns that count. Those of the special tokens around a text do not.
    """
    num, column_L = len(token_BT), torch.tensor(list(columns), dtype=torch.long)
    row_P, column_P = torch.arange(num * len(column_L)), column_L.repeat(num)
    masked_PT = token_BT.repeat_interleave(len(column_L), 0)
    truth_P = masked_PT[row_P, column_P]
    masked_PT[row_P, column_P] = model.mask
    logprob_P = model.logprob(masked_PT, row_P, column_P)[row_P, truth_P]
    return -logprob_P.view(num, len(column_L)).sum(-1)


def text_energies(model: MaskedModel, texts: Sequence[str]) -> tuple[list[float], list[int]]:
    """The energy of each text (nats), and how many tokens it counts.

    The exponential of the sum of the first, divided by that of the second, is the pseudo-perplexity of all texts.

    Args:
        model: the masked language model.
        texts: the texts. Each fits into a row.

    Raises:
        ModelError: a text is too long.
    """
    rows = [model.row(model.content(text)) for text in texts]
    columns = [model.counted(row) for row in rows]
    energy = [float(energies(model, torch.tensor([row]), own)) for row, own in zip(rows, columns, strict=True)]
    return energy, [len(own) for own in columns]


def _check_tokenizer(tokenizer: Any, name: str) -> None:
    """Check that a tokenizer is a fast one, with the special tokens that are needed.

    Raises:
        ModelError: it lacks one of them.
    """
    another = "Use an encoder such as minilm, google-bert/bert-base-uncased or FacebookAI/roberta-base."
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"the tokenizer of {name!r} is not backed by the tokenizers library", another)
    for attribute, what in (("mask", "mask"), ("cls", "CLS"), ("sep", "SEP"), ("pad", "padding")):
        if getattr(tokenizer, f"{attribute}_token_id") is None:
            raise ModelError(f"the tokenizer of {name!r} has no {what} token", another)
