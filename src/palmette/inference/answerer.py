"""Answerers: a model loaded by its name, with its prompt, its calibration and its decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from palmette.config.recipes import Recipe
from palmette.data.records import Document, Question, check_document, check_question
from palmette.decode.effort import Effort
from palmette.decode.generation import GenerationDecoder
from palmette.decode.greedy import GreedyDecoder
from palmette.decode.posterior import Decision
from palmette.decode.prediction import Decoder, Prediction
from palmette.decode.span_decoder import SpanDecoder
from palmette.errors import DataError, RunError
from palmette.inference.base import load_merged
from palmette.inference.calibration import Calibration, calibration_of
from palmette.inference.fingerprint import base_fingerprint, fingerprint_hash
from palmette.inference.names import ModelName, ModelSource, locate, resolve_answerer
from palmette.inference.task import recipe_task
from palmette.model.attention import AttentionChoice
from palmette.model.checks import check_model
from palmette.model.files import PAUSE_WEIGHTS
from palmette.model.loading import LoadedModel, dtype_name, weights_hash
from palmette.model.pause import pause_of
from palmette.startup import quick_imports
from palmette.tasks.extractive_qa import ExtractiveQa

if TYPE_CHECKING:
    from palmette.inference.session import Bar, Session

DecoderName = Literal["span", "greedy", "beam"]
NUM_BEAMS = 10


@dataclass(frozen=True)
class Answerer:
    """A model that is ready to answer questions about documents.

    `palmette.load` makes one. Every answer is copied verbatim from the document, with its position and a probability,
    or it is refused.

    Attributes:
        loaded: the model, with its adapter merged into it, and its tokenizer.
        task: what builds its prompts.
        weights: the hash of what was trained, the adapter or the full model. None for a model that no run made.
        calibration: the calibration that is in use, if there is one.
        source: what its name stands for. None for a model that was not loaded by name.
        base: the hash of the fingerprint of the base model, for a run with an adapter.
    """

    loaded: LoadedModel
    task: ExtractiveQa
    weights: str | None = None
    calibration: Calibration | None = None
    source: ModelSource | None = None
    base: str | None = None

    def answer(
        self,
        text: str,
        questions: Sequence[str],
        *,
        max_words: int | None = None,
        inside_words: bool | None = None,
    ) -> tuple[Prediction, ...]:
        """Answer questions about a document.

        Args:
            text: the text of the document.
            questions: the questions.
            max_words: the longest answer, in words and punctuation marks. As calibrated, or 30, if None.
            inside_words: whether answers may end inside a word, as in compounds. As calibrated, or not, if None.

        Returns:
            A prediction for each question, in the order of the questions.

        Raises:
            DataError: the document or a question is empty, or is not valid Unicode.
            RunError: the model was calibrated for another `max_words` or `inside_words`.
            ValueError: `max_words` is below 1.
        """
        document = asked_document(text, questions, "text")
        predictions = dict(self.span_decoder(self.effort(max_words, inside_words)).predict([document]))
        return tuple(predictions[question.id] for question in document.questions)

    def open_document(
        self,
        text: str,
        *,
        name: str = "text",
        read_all: bool = False,
        effort: Effort | None = None,
        progress: Bar | None = None,
    ) -> Session:
        """Open a document for questions, which `ask` of the session answers.

        What was read of the document is kept, so the next question costs what a question costs. Of a long document
        only the parts are read that are nearest to a question by their words, unless `read_all` is set.

        Args:
            text: the text of the document.
            name: what messages call the document.
            read_all: whether every part of the document is read for every question.
            effort: how far the decoder looks. As calibrated if None.
            progress: makes a progress bar, such as `palmette.progress.progress`. No bar if None.

        Raises:
            DataError: the document is empty, or is not valid Unicode.
            RunError: the model was calibrated for another effort.
        """
        from palmette.inference.session import Session

        document = asked_document(text, (), name)
        return Session(self, document, read_all=read_all, effort=effort, bar=progress)

    @property
    def decision(self) -> Decision:
        """How probabilities become answers: as calibrated, or the most probable outcome."""
        return self.calibration.decision if self.calibration else Decision()

    def decoder(
        self,
        name: DecoderName = "span",
        *,
        effort: Effort | None = None,
        batch_size: int = 16,
        loose: bool = False,
        reasoning_limit: int | None = None,
    ) -> Decoder:
        """A decoder by its name.

        Args:
            name: "span", or "greedy" or "beam" for plain generation.
            effort: how far the span decoder looks.
            batch_size: how many prompts beam search takes at a time.
            loose: whether plain generation reads an answer out of broken JSON.
            reasoning_limit: let the model reason freely for up to so many tokens before it answers. As it was trained
                if None.

        Raises:
            DataError: there is no place for free reasoning in the prompt.
            RunError: the model was calibrated for another effort or reasoning limit.
        """
        if name == "span":
            return self.span_decoder(effort, reasoning_limit=reasoning_limit)
        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        options: dict[str, Any] = {"loose": loose, "reasoning_limit": reasoning_limit}
        if name == "greedy":
            return GreedyDecoder(model, tokenizer, self.task, **options)
        return GenerationDecoder(model, tokenizer, self.task, num_beams=NUM_BEAMS, batch_size=batch_size, **options)

    def span_decoder(
        self, effort: Effort | None = None, decision: Decision | None = None, reasoning_limit: int | None = None
    ) -> SpanDecoder:
        """A span decoder, whose `predict(documents)` gives (question id, prediction) for every question.

        Args:
            effort: how far it looks. Up to `effort()` if None.
            decision: how probabilities become answers. As calibrated if None.
            reasoning_limit: let the model reason freely for up to so many tokens before it answers. As it was trained
                if None.

        Raises:
            DataError: there is no place for free reasoning in the prompt.
            RunError: the model was calibrated for another effort or reasoning limit.
        """
        effort = effort or self.effort()
        if self.calibration and decision is None:
            self.calibration.check_fits({**self.fitted_for(effort), "reasoning_limit": reasoning_limit})
        return SpanDecoder(
            self.loaded.model,
            self.loaded.tokenizer,
            self.task.prompt,
            effort=effort,
            decision=decision or self.decision,
            template=self.task.template,
            reasoning=self.task.reasoning,
            reasoning_limit=reasoning_limit,
        )

    def effort(self, max_words: int | None = None, inside_words: bool | None = None) -> Effort:
        """How far the span decoder looks.

        Args:
            max_words: the longest answer, in words. As calibrated, or 30, if None.
            inside_words: whether answers may end inside a word. As calibrated, or not, if None.

        Raises:
            ValueError: `max_words` is below 1.
        """
        fitted = self.calibration.fitted_for if self.calibration else {}
        return Effort(
            max_words=fitted.get("max_words", Effort().max_words) if max_words is None else max_words,
            inside_words=bool(fitted.get("inside_words")) if inside_words is None else inside_words,
        )

    def fitted_for(self, effort: Effort) -> dict[str, Any]:
        """What a calibration holds for, besides the kind of documents."""
        return {
            "weights": self.weights,
            "prompt_sha256": self.task.prompt.sha256,
            "reasoning": asdict(self.task.reasoning),
            "dtype": dtype_name(self.loaded.model.dtype),
            "max_words": effort.max_words,
            **({"base": self.base} if self.base is not None else {}),
            **({"inside_words": True} if effort.inside_words else {}),
        }


def asked_document(text: str, questions: Sequence[str], name: str) -> Document:
    """A document with questions, checked. The ids of the questions are their positions, counted from 1.

    Args:
        text: the text of the document.
        questions: the questions.
        name: what messages call the document.

    Raises:
        DataError: the document or a question is empty, or is not valid Unicode.
    """
    if isinstance(questions, str):
        raise DataError(f"the questions are one text, {questions[:40]!r}", "Give a list of questions.")
    numbered = tuple(Question(str(index), question) for index, question in enumerate(questions, start=1))
    document = Document(name, text, numbered)
    check_document(document, name)
    for question in document.questions:
        check_question(question, document, name)
    return document


def load_answerer(
    name: ModelName,
    *,
    attention: AttentionChoice | None = None,
    calibrated: bool = True,
    cost_wrong: float | None = None,
) -> Answerer:
    """Load a model that answers questions.

    Args:
        name: a run folder, a model folder, a GGUF file, or a hub id.
        attention: the attention backend, "auto", "flex", "sdpa" or "eager". The run's own, or "auto", if None.
        calibrated: whether to use the run's calibration, if it has one.
        cost_wrong: what a wrong answer costs, if refusing a question that has an answer costs 1. The higher it is, the
            more questions are refused. As calibrated if None.

    Raises:
        RunError: the run is not finished, is a reward model, has a calibration that cannot be read, or none that suits
            the cost.
        ModelError: the model is missing, is a run whose base model has changed, or cannot honour the attention mask
            of a tree.
    """
    with quick_imports():  # loading a model imports its class, and makes as little garbage as an import
        return open_answerer(resolve_answerer(name), attention=attention, calibrated=calibrated, cost_wrong=cost_wrong)


def open_answerer(
    source: ModelSource,
    *,
    attention: AttentionChoice | None = None,
    calibrated: bool = True,
    cost_wrong: float | None = None,
) -> Answerer:
    """Load a model whose name `resolve_answerer` has checked. Arguments and errors are those of `load_answerer`."""
    calibration = _calibration(source, calibrated=calibrated, cost_wrong=cost_wrong)
    return answerer_with(load_merged(source, attention=attention), source, calibration)


def answerer_with(loaded: LoadedModel, source: ModelSource, calibration: Calibration | None = None) -> Answerer:
    """An answerer of a model that was loaded for it.

    Args:
        loaded: the model, with its adapter merged.
        source: what its name stands for.
        calibration: how it decides. By the most probable outcome if None.

    Raises:
        RunError: the run lacks a file.
        ModelError: the model cannot honour the attention mask of a tree.
    """
    check_model(loaded.model, training=False, weights=loaded.content)
    task = recipe_task(source.recipe or Recipe(output=""), loaded.tokenizer)
    trained = source.trained
    if trained is None:
        return Answerer(loaded, task, source=source)
    rows = pause_of(loaded.model)
    if (0 if rows is None else len(rows)) < len(set(task.reasoning.pause_tokens)):
        raise RunError(f"{trained} holds no {PAUSE_WEIGHTS} for its pause tokens", "Copy the whole folder of the run.")
    base = None
    if source.adapter is not None:
        commit = getattr(loaded.model.config, "_commit_hash", None) or source.section.revision
        base = fingerprint_hash(base_fingerprint(locate(source.section.name), commit))
    return Answerer(loaded, task, weights_hash(str(trained)), calibration, source, base)


def _calibration(source: ModelSource, *, calibrated: bool, cost_wrong: float | None) -> Calibration | None:
    """The calibration to decide by, for a cost. Errors are those of `load_answerer`."""
    found = calibration_of(source.trained) if calibrated else None
    if cost_wrong is None:
        return found
    if found is None:
        raise RunError(
            f"a cost of {cost_wrong:g} for a wrong answer was given, and no calibration of {source.name} is in use",
            "Leave the cost out, or calibrate with palmette calibrate.",
        )
    return found.at_cost(cost_wrong)
