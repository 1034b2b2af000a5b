"""An encoder with a span head (`AutoModelForQuestionAnswering`): loading it, and answering with it.

As in Devlin et al. (2019), "BERT", section 4.3, the head gives two numbers for each token: how well an answer begins
there, and how well it ends there. Everything is computed in float32. Not covered: heads with logits of another shape
(XLNet's beam head), and encoders without a fast tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from palmette.baselines.span_scores import Logits, SpanScores, decide, score_spans
from palmette.baselines.windows import EncodedWindow, Windowing, check_length, check_tokenizer, encode
from palmette.data.records import Document
from palmette.decode.prediction import Prediction
from palmette.encoders.names import pad, reach_encoder, way_out, without_load_report
from palmette.errors import ModelError
from palmette.model.tokenizer import UNREADABLE, first_line
from palmette.model.weight_files import check_weight_files

MAX_ANSWER_TOKENS = 30
DEFAULT_WINDOWING = Windowing()
_READ_AHEAD = 8  # batches of windows that are sorted by length, so that less is padded


@dataclass(frozen=True)
class Encoder:
    """An encoder with a span head, and its tokenizer.

    Attributes:
        model: gives start_logits and end_logits. It is in float32 and in evaluation mode.
        tokenizer: a fast tokenizer.
        name: the name that the user gave.
        folder: the folder or hub id that its weights came from.
        fresh: names of parameters that the weights lack. Before training these are the span head's, drawn at random.
        left_out: names of unused weights, such as those of another head.
    """

    model: Any
    tokenizer: Any
    name: str
    folder: str
    fresh: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def load_encoder(name: str, windowing: Windowing, *, seed: int | None = None) -> Encoder:
    """Load an encoder with its span head.

    Weights come from safetensors only, and no code that comes with a model is run.

    Args:
        name: a folder, a short name, or a hub id.
        windowing: how documents are split. The model must be able to read such windows.
        seed: where the weights lack a span head, draw one with this seed, to be trained. None refuses such weights.

    Raises:
        ModelError: the encoder is missing, is none, or lacks weights.
    """
    folder = reach_encoder(name)
    torch.manual_seed(0 if seed is None else seed)
    try:
        with without_load_report():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            check_tokenizer(tokenizer, name)
            check_weight_files(folder)
            model, info = AutoModelForQuestionAnswering.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
    except UNREADABLE as error:
        raise ModelError(f"cannot load the encoder {name!r}: {first_line(error)}", way_out(name)) from error
    fresh = tuple(sorted(info["missing_keys"]))
    _check_complete(model, fresh, name, head_needed=seed is None)
    check_length(tokenizer, getattr(model.config, "max_position_embeddings", None), windowing, name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left_out = tuple(sorted(info["unexpected_keys"]))
    return Encoder(model.to(device).eval(), tokenizer, name, folder, fresh, left_out)


@dataclass(frozen=True)
class EncoderDecoder:
    """Answers questions with an encoder and its span head.

    Args:
        encoder: the encoder, trained.
        windowing: how documents are split.
        max_answer_tokens: the longest answer.
        threshold: how much better than the best span no answer must score to be given.
        batch_size: windows read at the same time.
        source: the name of the data, for messages.
    """

    encoder: Encoder
    windowing: Windowing = DEFAULT_WINDOWING
    max_answer_tokens: int = MAX_ANSWER_TOKENS
    threshold: float = 0.0
    batch_size: int = 16
    source: str = "the data"

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
        """(question id, prediction) for every question, in the order of the data."""
        for document, question, scores in self.scores(documents):
            yield question, decide(document.text, scores, self.threshold)

    def scores(self, documents: Sequence[Document]) -> Iterator[tuple[Document, str, SpanScores]]:
        """Document, question id and scores of every question, in the order of the data."""
        waiting: list[tuple[Document, str, list[EncodedWindow]]] = []
        num_windows = 0
        for document in documents:
            for question, windows in encode(self.encoder.tokenizer, document, self.windowing, self.source):
                waiting.append((document, question.id, windows))
                num_windows += len(windows)
                if num_windows >= _READ_AHEAD * self.batch_size:
                    yield from self._score(waiting)
                    waiting, num_windows = [], 0
        yield from self._score(waiting)

    def _score(
        self, waiting: Sequence[tuple[Document, str, list[EncodedWindow]]]
    ) -> Iterator[tuple[Document, str, SpanScores]]:
        flat = [window for _, _, windows in waiting for window in windows]
        logits = iter(self._read(flat))
        for document, question, windows in waiting:
            read = [(window, *next(logits)) for window in windows]
            yield document, question, score_spans(document.text, read, max_answer_tokens=self.max_answer_tokens)

    def _read(self, windows: Sequence[EncodedWindow]) -> list[tuple[Logits, Logits]]:
        """Start and end logits of every window, each as long as its window."""
        order = sorted(range(len(windows)), key=lambda index: len(windows[index].places))
        logits: dict[int, tuple[Logits, Logits]] = {}
        for begin in range(0, len(order), self.batch_size):
            batch = order[begin : begin + self.batch_size]
            inputs = pad([windows[index].inputs for index in batch], self.encoder.tokenizer)
            with torch.inference_mode():
                out = self.encoder.model(
                    **{name: value.to(self.encoder.model.device) for name, value in inputs.items()}
                )
            both = (out.start_logits.double().cpu().numpy(), out.end_logits.double().cpu().numpy())
            for row, index in enumerate(batch):
                length = len(windows[index].places)
                logits[index] = (both[0][row, :length], both[1][row, :length])
        return [logits[index] for index in range(len(windows))]


def _check_complete(model: Any, fresh: Sequence[str], name: str, *, head_needed: bool) -> None:
    """Check that the weights lack at most the head, and that only before training."""
    inner = [key for key in fresh if key.startswith(f"{model.base_model_prefix}.")]
    if inner:
        raise ModelError(
            f"the encoder {name!r} lacks {len(inner)} weights, {inner[0]} among them",
            "Give an encoder with all its weights.",
        )
    if fresh and head_needed:
        raise ModelError(f"{name!r} has no span head, only an encoder", f"Train one: --encoder {name} --train DATA")
