"""A decoder that asks a chat model behind an endpoint.

It sends our own prompt as chat messages, and it reads completions like those of our own models.

Documents and questions are sent as text in JSON. A document may contain `<|im_end|>`, and whether that ends the turn
depends on the server. The rule that text is always read as text cannot be enforced here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from palmette.data.records import Document, Question
from palmette.decode.prediction import Prediction, prediction_of
from palmette.endpoint.client import Client
from palmette.endpoint.completion import Completion
from palmette.endpoint.errors import EndpointError, RequestError
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.qa_prompt import ParsedAnswer, QaPrompt

NO_COMPLETION = "(no reply)"


class EndpointDecoder:
    """Answers questions by asking a server.

    It sends one request for each question. If the prompt has two turns, a second request follows a "yes".

    An empty or missing completion becomes the answer `NO_COMPLETION`, which is always wrong. An empty answer would
    count as a refusal.

    Args:
        client: the client of the server.
        prompt: the wording around documents and questions.
        loose: whether to read an answer out of broken JSON. Such a completion still counts as invalid.
        on_failure: what happens to questions that the server did not answer. With "error", an error names the first of
            them once all others have been asked. With "broken", they count as broken completions, and `failures` holds
            them.
    """

    def __init__(
        self,
        client: Client,
        prompt: QaPrompt,
        *,
        loose: bool = False,
        on_failure: Literal["error", "broken"] = "error",
    ) -> None:
        self._client, self._prompt, self._loose, self._on_failure = client, prompt, loose, on_failure
        self._read = prompt.read_loosely if loose else prompt.read
        self.failures: dict[str, RequestError] = {}

    def about(self) -> dict[str, Any]:
        """What the answers depend on, and the questions that have none, for the record of an evaluation."""
        return {
            **self._client.about(),
            "decoder": "endpoint",
            "loose": self._loose,
            "prompt_sha256": self._prompt.sha256,
            "failures": {question: error.problem for question, error in self.failures.items()},
        }

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
        """Yield the id and the prediction of every question, in the order in which they are answered.

        Raises:
            EndpointError: the server cannot be used, or did not answer a question.
        """
        asked = [(document, question) for document in documents for question in document.questions]
        requests = [qa_messages(self._prompt, document, question) for document, question in asked]
        self.failures = {}
        first_turns: dict[int, str] = {}
        for index, result in self._client.complete_all(requests):
            text = _text(result)
            if text and self._prompt.verdict(text):
                first_turns[index] = text
                continue
            yield from self._predicted(asked[index], result)
        second = [
            [
                *requests[index],
                {"role": "assistant", "content": text},
                {"role": "user", "content": self._prompt.second_turn},
            ]
            for index, text in first_turns.items()
        ]
        order = list(first_turns.items())
        for number, result in self._client.complete_all(second):
            index, text = order[number]
            yield from self._predicted(asked[index], result, text)
        if self.failures and self._on_failure == "error":
            first, error = next(iter(self.failures.items()))
            raise EndpointError(
                f"{len(self.failures)} of {len(asked)} questions got no answer, {first!r} among them: {error.problem}",
                f"{error.way_out} Or count them as broken completions: --allow-failures.",
            )

    def _predicted(
        self, asked: tuple[Document, Question], result: Completion | RequestError, first_turn: str = ""
    ) -> Iterator[tuple[str, Prediction]]:
        """The prediction from a completion and from its first turn, if there was one.

        A failure gives no prediction unless failures count as broken completions.
        """
        document, question = asked
        if isinstance(result, RequestError):
            self.failures[question.id] = result
            if self._on_failure == "broken":
                yield question.id, prediction_of(ParsedAnswer(NO_COMPLETION, False), "", document)
            return
        text = _text(result)
        raw = f"{first_turn}\n{text}" if first_turn and text else text
        yield question.id, prediction_of(self._read(raw) if raw else ParsedAnswer(NO_COMPLETION, False), raw, document)


def _text(result: Completion | RequestError) -> str:
    """The text or the refusal that a server sent. "" if it sent neither."""
    return "" if isinstance(result, RequestError) else result.text.strip() or result.refusal.strip()
