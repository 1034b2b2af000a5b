"""What replies to messages for a model: the model itself, or a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from palmette.data.records import Document, Question
from palmette.endpoint.client import Client
from palmette.endpoint.decoder import EndpointDecoder
from palmette.endpoint.settings import Endpoint
from palmette.inference.answerer import load_answerer
from palmette.inference.conversation import Conversation, Generation
from palmette.tasks.qa_prompt import DEFAULT_PROMPT, load_prompt


@dataclass(frozen=True, slots=True)
class Asked:
    """What models are asked.

    Attributes:
        id: its id.
        turns: the user's messages.
        category: its category, or "".
        temperature: how freely replies are drawn.
        document: the text from which the answer to the one message is to be copied. "" where replies are free.
    """

    id: str
    turns: tuple[str, ...]
    category: str = ""
    temperature: float = 0.0
    document: str = ""


# Writes the replies to what is asked, one to each message. An answer from a document is "" where it holds none.
Replier = Callable[[Asked], list[str]]
Said = Sequence[tuple[str, str]]  # messages and replies so far


class EndpointReplier:
    """A model behind an endpoint. Parameters of the endpoint go before the arguments. Threads may share it.

    Args:
        endpoint: the server and the model.
        max_new_tokens: the longest reply, in tokens.
        seed: seed of replies that are drawn.

    Raises:
        EndpointError: the URL, a parameter or the key's variable is not valid.
    """

    def __init__(self, endpoint: Endpoint, max_new_tokens: int, seed: int = 0) -> None:
        given = {"temperature": 0.0, "max_tokens": max_new_tokens, "seed": seed, **endpoint.parameters}
        self._own, self._client = endpoint.parameters, Client(replace(endpoint, parameters=given))
        self._lock = threading.Lock()

    @property
    def cost(self) -> float | None:
        """What was paid so far. None without prices."""
        return self._client.usage.cost(self._client.endpoint)

    def __call__(self, asked: Asked) -> list[str]:
        """The replies to what is asked."""
        if asked.document:
            return [self._copied(asked)]
        said = list[tuple[str, str]]()
        for turn in asked.turns:
            said.append((turn, self.reply(said, turn, asked.temperature)))
        return [reply for _, reply in said]

    def reply(self, said: Said, message: str, temperature: float) -> str:
        """The reply to a message.

        Args:
            said: messages and replies so far.
            message: the message.
            temperature: how freely it is drawn.

        Raises:
            RequestError: the server refuses the request, or did not answer it in all attempts.
            EndpointError: the server cannot be used.
        """
        turns = [(role, text) for one in said for role, text in zip(("user", "assistant"), one, strict=True)]
        messages = [{"role": role, "content": text} for role, text in (*turns, ("user", message))]
        parameters = {} if "temperature" in self._own else {"temperature": temperature}
        with self._lock:  # a client runs one job at a time
            return self._client.complete(messages, parameters).text

    def _copied(self, asked: Asked) -> str:
        decoder = EndpointDecoder(self._client, load_prompt(DEFAULT_PROMPT), loose=True)
        document = Document(asked.id, asked.document, (Question(asked.id, asked.turns[0]),))
        with self._lock:
            ((_, prediction),) = decoder.predict([document])
        return prediction.text


class LocalReplier:
    """A model of this machine. Threads may share it.

    Answers from a document are those of the span decoder: copied, or none.

    Args:
        model: its name.
        max_new_tokens: the longest reply, in tokens.
        seed: seed of replies that are drawn.

    Raises:
        ModelError: the model cannot be used.
        RunError: the run is not finished.
    """

    def __init__(self, model: str, max_new_tokens: int, seed: int = 0) -> None:
        self._answerer = load_answerer(model)
        self._max_new_tokens, self._seed = max_new_tokens, seed
        self._talk: Conversation | None = None
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> list[str]:
        """The replies to what is asked."""
        with self._lock:
            if asked.document:
                return [one.text for one in self._answerer.answer(asked.document, asked.turns)]
            talk = self._conversation(asked.temperature)
            return [talk.reply(turn).text for turn in asked.turns]

    def reply(self, said: Said, message: str, temperature: float) -> str:
        """The reply to a message. Arguments are those of `EndpointReplier.reply`.

        Raises:
            DataError: the message is empty, or cannot be encoded.
            ModelError: the conversation is longer than the model reads.
        """
        with self._lock:
            if self._talk is None:
                self._talk = self._conversation(temperature)
            self._talk.go_on(said)
            return self._talk.reply(message).text

    def _conversation(self, temperature: float) -> Conversation:
        generation = Generation(temperature=temperature, max_new_tokens=self._max_new_tokens, seed=self._seed)
        loaded = self._answerer.loaded
        return Conversation(loaded.model, loaded.tokenizer, generation=generation)


def local_replier(model: str, max_new_tokens: int, seed: int = 0) -> Replier:
    """What replies for a model, loaded by its name. Arguments and errors are those of `LocalReplier`."""
    return LocalReplier(model, max_new_tokens, seed)
