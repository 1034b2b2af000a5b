"""A decoder that asks a chat model behind an endpoint: the words of our own prompt as chat messages, the reply read as our own are.

Documents and questions go out as text in JSON. Whether a document that holds `<|im_end|>` could end the turn is the server's affair:
law 4, text is text, is not ours to hold there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from palmette.data.records import Document, Question
from palmette.decode.generation import prediction_of
from palmette.decode.prediction import Prediction
from palmette.endpoint.cache import Completion
from palmette.endpoint.client import Client
from palmette.endpoint.transport import EndpointError, RequestError
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.qa_prompt import ParsedAnswer, QaPrompt

NO_REPLY = "(no reply)"


class EndpointDecoder:
    """Answers by asking a server, a request for each question; where the prompt has two turns, a second one after a "yes".

    An empty reply, or none, is the answer `NO_REPLY`, which is wrong everywhere: as an empty answer it would be taken for a refusal.

    Args:
        client: what asks it.
        prompt: the words around documents and questions.
        loose: whether to read an answer out of broken JSON; such a reply still counts as not valid.
        on_failure: what becomes of questions that the server would not answer. "error": when all others have been asked, an error
            names the first of them. "broken": they count as broken replies, and `failures` holds them.
    """

    def __init__(
        self,
        client: Client,
        prompt: QaPrompt,
        *,
        loose: bool = False,
        on_failure: Literal["error", "broken"] = "error",
    ) -> None:
        self._client, self._prompt, self._on_failure = client, prompt, on_failure
        self._read = prompt.read_loosely if loose else prompt.read
        self.failures: dict[str, RequestError] = {}

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
        """(question id, prediction) for every question, as the replies come in.

        Raises:
            EndpointError: the server cannot be used, or would not answer a question.
        """
        asked = [(document, question) for document in documents for question in document.questions]
        requests = [qa_messages(self._prompt, document, question) for document, question in asked]
        self.failures = {}
        going_on: dict[int, str] = {}
        for index, result in self._client.complete_all(requests):
            raw = _text(result)
            if raw and self._prompt.verdict(raw):
                going_on[index] = raw
                continue
            yield from self._predicted(asked[index], result)
        second = [
            [
                *requests[index],
                {"role": "assistant", "content": said},
                {"role": "user", "content": self._prompt.second_turn},
            ]
            for index, said in going_on.items()
        ]
        begun = list(going_on.items())
        for number, result in self._client.complete_all(second) if second else ():
            index, said = begun[number]
            yield from self._predicted(asked[index], result, said)
        if self.failures and self._on_failure == "error":
            first, error = next(iter(self.failures.items()))
            raise EndpointError(
                f"{len(self.failures)} of {len(asked)} questions got no answer, {first!r} among them: {error.problem}",
                f"{error.way_out} Or count them as broken replies: --allow-failures.",
            )

    def _predicted(
        self, asked: tuple[Document, Question], result: Completion | RequestError, before: str = ""
    ) -> Iterator[tuple[str, Prediction]]:
        """The prediction of a reply, after the one `before` it; of a failure only where it counts as a broken reply."""
        document, question = asked
        if isinstance(result, RequestError):
            self.failures[question.id] = result
            if self._on_failure == "broken":
                yield question.id, prediction_of(ParsedAnswer(NO_REPLY, False), "", document)
            return
        said = _text(result)
        raw = f"{before}\n{said}" if before and said else said
        yield question.id, prediction_of(self._read(raw) if raw else ParsedAnswer(NO_REPLY, False), raw, document)


def _text(result: Completion | RequestError) -> str:
    """What a server replied, or why it would not; "" if it said nothing."""
    return "" if isinstance(result, RequestError) else result.text.strip() or result.refusal.strip()
