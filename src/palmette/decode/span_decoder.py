"""The span decoder: the most probable span of a document, or "?", in a few forward passes, with a proof.

The wrapper of the completion is forced, so an answer is one of the document's spans, or "?". The first pass reads a
document with all its questions, each followed by "?". Every later pass adds the likeliest branches of the document's
span trie to the same prefix tree. The probability of a string is that of its tokens and of the token that ends it,
given the opening of the completion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from palmette.data.records import Document, Question, check_document, check_question
from palmette.decode.asking import Asking, Reading, WindowQuestion
from palmette.decode.effort import Effort
from palmette.decode.posterior import Decision, SpanPosterior, WindowScores
from palmette.decode.prediction import Prediction
from palmette.decode.prefix_cache import PrefixCache
from palmette.decode.reasoning import check_place
from palmette.decode.spans import Window, cut_windows
from palmette.decode.trie import option_trie, span_trie
from palmette.errors import DataError, PackingError
from palmette.model.forward import check_positions
from palmette.tasks.extractive_qa import ExtractiveQa, Reasoning
from palmette.tasks.qa_prompt import QaPrompt
from palmette.tree.chat import ChatTemplate

# A window, with the id and the tokens of each question that is asked in it.
AskedWindow = tuple[Reading, Sequence[tuple[str, tuple[int, ...]]]]

# Stands for a text that does not matter. Next to an empty one a template might trim other text.
_ANY = "."


def options_of(question: str) -> str:
    """The id under which the options of a question are scored."""
    return f"options of {question}"


class SpanDecoder:
    """Answers questions with spans of their document, or not at all.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        tokenizer: its tokenizer.
        prompt: the texts around documents and questions that the model was trained with.
        effort: how far to look.
        decision: how the posterior becomes an answer.
        template: the tokenizer's chat template, if it was parsed before.
        reasoning: the reasoning that the model was trained with, none or placeholders.
        reasoning_limit: let the model reason freely for up to so many tokens before its answer. As in `reasoning` if
            None.

    Attributes:
        effort: how far it looks.
        decision: how the posterior becomes an answer.
        asking: what asks questions in windows.

    Raises:
        DataError: rationales were trained and no limit is set for writing them, or the prompt has no place for free
            reasoning.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompt: QaPrompt | None = None,
        *,
        effort: Effort | None = None,
        decision: Decision | None = None,
        template: ChatTemplate | None = None,
        reasoning: Reasoning | None = None,
        reasoning_limit: int | None = None,
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._task = ExtractiveQa(template or ChatTemplate(tokenizer), prompt, reasoning=reasoning)
        if reasoning_limit is not None:
            check_place(self._task)
        elif self._task.reasoning.kind == "rationale":
            raise DataError(
                "this model was trained to write a rationale before its answer, which needs a limit",
                "Set a limit such as --reasoning-limit 60, or use --decoder greedy.",
            )
        self._reasoning_limit = reasoning_limit
        self.effort, self.decision = effort or Effort(), decision or Decision()
        self.asking = Asking(
            model,
            tokenizer,
            self._task,
            self._task.open_completion(_ANY, _ANY),
            self.decision,
            max_passes=self.effort.max_passes,
            tokens_per_pass=self.effort.tokens_per_pass,
            reasoning_limit=reasoning_limit,
        )

    def answer(self, document: str, questions: Sequence[str]) -> list[Prediction]:
        """Answer questions about one document, in their order.

        Raises:
            DataError: the document or a question is empty, or holds half a surrogate pair.
            TemplateError: the chat template cannot keep their text apart from control tokens.
            PackingError: a question is so long that it does not fit into a batch with a window of the document.
            ModelError: the model has fewer positions than a window, a question and an answer need.
        """
        numbered = tuple(Question(str(index), question) for index, question in enumerate(questions))
        given = Document("document", document, numbered)
        check_document(given, "answer")
        for question in numbered:
            check_question(question, given, "answer")
        predictions = dict(self.predict([given]))
        return [predictions[question.id] for question in numbered]

    def predict(self, documents: Iterable[Document]) -> Iterator[tuple[str, Prediction]]:
        """(question id, prediction) for every question, as soon as each is known. Documents are read one by one."""
        for question, posterior in self.posteriors(documents):
            yield question, self.decision.decide(posterior)

    def predict_in_full(self, documents: Iterable[Document]) -> Iterator[tuple[str, Prediction, torch.Tensor]]:
        """(question id, prediction, hidden state [D]) for every question, as soon as each is known.

        All spans that were scored are candidates of the prediction. The hidden state is that of the position that
        predicts the first token of the answer, as the output layer reads it, in the window whose best span is the
        likeliest. It comes from the pass that scores these tokens.
        """
        for question, posterior, hidden_D in self._read(documents):
            yield question, self.decision.decide(posterior, None), hidden_D

    def posteriors(self, documents: Iterable[Document]) -> Iterator[tuple[str, SpanPosterior]]:
        """(question id, posterior) for every question, as soon as each is known."""
        for question, posterior, _ in self._read(documents):
            yield question, posterior

    def read_fields(
        self, documents: Iterable[Document], options: Mapping[str, Sequence[str]], least: Mapping[str, float]
    ) -> Iterator[tuple[str, SpanPosterior]]:
        """(question id, posterior) for every question, and (`options_of(id)`, posterior) where it has options.

        The options are scored as branches of the same trees: each is a completion of its question, whether or not it
        stands in the document. So the posterior of the options says how likely each of them is against the others.

        Args:
            documents: the documents.
            options: the options of a question, by its id. At least one each.
            least: for a question by its id, go on until no span that was not scored can have this probability.
        """
        for question, posterior, _ in self._read(documents, options, least):
            yield question, posterior

    def _read(
        self,
        documents: Iterable[Document],
        options: Mapping[str, Sequence[str]] = MappingProxyType({}),
        least: Mapping[str, float] = MappingProxyType({}),
    ) -> Iterator[tuple[str, SpanPosterior, torch.Tensor]]:
        cache = self.new_cache()
        waiting: dict[str, list[tuple[WindowScores, float, torch.Tensor]]] = {}
        for jobs in self.batches(self._asked(documents, options), least):
            self.asking.run(cache, jobs)
            for job in jobs:
                search, windows = job.answer.search, waiting.setdefault(job.question, [])
                assert job.hidden_D is not None
                windows.append((search.scores(), search.evidence.best, job.hidden_D))
                if len(windows) == job.reading.num_windows:
                    del waiting[job.question]
                    _, _, hidden_D = max(windows, key=lambda window: window[1])
                    yield job.question, SpanPosterior.merge([scores for scores, _, _ in windows]), hidden_D

    def new_cache(self) -> PrefixCache:
        """An empty cache that holds a batch."""
        return PrefixCache(self._model, self.effort.tokens_per_batch)

    def windows(self, text: str) -> list[Window]:
        """The windows of a document."""
        effort, encoder = self.effort, self._task.template.encoder
        return cut_windows(
            text,
            lambda texts: [len(ids) for ids in encoder.contents(texts)],
            max_words=effort.max_words,
            window_tokens=effort.window_tokens,
            overlap_tokens=effort.overlap_tokens,
            inside_words=effort.inside_words,
        )

    def reading(self, document: Document, windows: Sequence[Window], index: int) -> Reading:
        """One of the windows of a document, with its tokens and its spans."""
        window = windows[index]
        tokens = self._task.open_completion(document.text[window.start : window.end], _ANY).document
        trie = span_trie(self._task, document.text, window, self.effort.max_words)
        return Reading(tokens, trie, index, len(windows), document.id)

    def option_window(
        self, reading: Reading, question: str, tokens: tuple[int, ...], options: Sequence[str]
    ) -> AskedWindow:
        """A window in which the options of a question are scored, as branches of the same document.

        Args:
            reading: the window.
            question: the id of the question.
            tokens: the tokens of the question.
            options: the options.
        """
        trie = option_trie(self._task, options)
        return replace(reading, trie=trie, exhaustive=True), [(options_of(question), tokens)]

    def opened(self, questions: Iterable[Question]) -> list[tuple[str, tuple[int, ...]]]:
        """The id and the tokens of each question."""
        return [(one.id, self._task.open_completion(_ANY, one.text).question) for one in questions]

    def _asked(
        self, documents: Iterable[Document], options: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> Iterator[AskedWindow]:
        """Every window of every document with all questions of the document, and again with each that has options."""
        seen: set[str] = set()
        for document in documents:
            opened = self.opened(document.questions)
            for question, _ in opened:
                if question in seen:
                    raise DataError(
                        f"question id {question!r} of document {document.id!r} occurs twice",
                        "Give each an id of its own.",
                    )
                seen.add(question)
            windows = self.windows(document.text) if opened else []
            for index in range(len(windows)):
                reading = self.reading(document, windows, index)
                yield reading, opened
                for question, tokens in opened:
                    if question in options:
                        yield self.option_window(reading, question, tokens, options[question])

    def batches(
        self, asked: Iterable[AskedWindow], least: Mapping[str, float] = MappingProxyType({})
    ) -> Iterator[list[WindowQuestion]]:
        """Jobs whose trees fit into the cache together, the questions of a window next to each other."""
        jobs: list[WindowQuestion] = []
        opened, free = self.asking.opened, self._reasoning_limit or 0
        lead = opened.lead + free + (len(opened.verdict.no) if opened.verdict else 0)
        used, room = 0, self.effort.tokens_per_batch - len(opened.root)
        for reading, questions in asked:
            begun = False
            for question, tokens in questions:
                begun_completion = len(tokens) + lead
                need = begun_completion + len(opened.abstain) + self.asking.reserve(reading)
                alone = len(reading.tokens) + need
                what = f"question {question!r} with a window of document {reading.document!r}"
                if alone > room:
                    raise PackingError(
                        f"{what} may need {alone} tokens, and there is room for {room}",
                        "Shorten the question. In Python, Effort can also have a larger tokens_per_batch.",
                    )
                deepest = len(opened.root) + len(reading.tokens) + begun_completion + reading.trie.depth
                check_positions(self._model, deepest, what)
                if used + (need if begun else alone) > room:
                    yield jobs
                    jobs, used, begun = [], 0, False
                used, begun = used + (need if begun else alone), True
                jobs.append(WindowQuestion.open(opened, question, reading, tokens, least.get(question)))
        if jobs:
            yield jobs
