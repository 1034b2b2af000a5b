"""What writes texts for training data: a local model through its chat template, or a model behind an endpoint."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from palmette.data.text import without_thoughts
from palmette.decode.reasoning import sequence_ends
from palmette.endpoint.client import Client
from palmette.endpoint.errors import RequestError
from palmette.errors import DataError, TemplateError
from palmette.inference.answerer import load_answerer
from palmette.inference.licence import base_licence
from palmette.inference.names import ModelName, resolve_model
from palmette.model.loading import LoadedModel, dtype_name, weights_hash
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.sampling import Sampling
from palmette.tree.chat import ChatTemplate, Message, Piece


@dataclass(frozen=True, slots=True)
class Request:
    """What a writer is asked.

    Attributes:
        turns: role ("user" or "assistant") and text of each turn. The last one is the user's.
        key: a number of 0 or more. With the seed it determines what is drawn.
    """

    turns: tuple[tuple[str, str], ...]
    key: int


@dataclass(frozen=True, slots=True)
class Written:
    """What a writer has written.

    Attributes:
        text: the text, or why there is none.
        finish: "end" if the writer ended it, "length" if it was cut, "failed" if there is none, and at an endpoint
            whatever else the server says.
        tokens: how many tokens were written. None if the server does not count them.
        read: how many tokens the request has. None if the server does not count them.
    """

    text: str
    finish: str
    tokens: int | None
    read: int | None = None

    @property
    def said(self) -> str:
        """The text without what a model that thinks first has thought."""
        return without_thoughts(self.text)


@dataclass(frozen=True, slots=True)
class Price:
    """What tokens cost, in any currency.

    Attributes:
        read, written: the price of a million tokens of requests, and of a million written ones.
    """

    read: float
    written: float

    def of(self, read: int, written: int) -> float:
        """The cost of so many tokens.

        >>> Price(2.0, 10.0).of(500_000, 100_000)
        2.0
        """
        return (read * self.read + written * self.written) / 1e6


class Writer(Protocol):
    """Anything that writes texts on request."""

    @property
    def identity(self) -> dict[str, Any]:
        """What its texts depend on, for the report and to continue a job."""

    @property
    def price(self) -> Price | None:
        """What its tokens cost. None if that is not known."""

    @property
    def most_tokens(self) -> int | None:
        """The most tokens that it writes for a request. None if that is not known."""

    @property
    def licence(self) -> str | None:
        """The licence that its model states. None if that is not known."""

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Written]]:
        """The index of each request with what was written, in any order.

        Raises:
            PalmetteError: the writer cannot be used.
        """


class LocalWriter:
    """A model in this process. Requests that begin alike, with the same document, share what was read of it.

    Args:
        loaded: the model, with one of our attention backends, and its tokenizer.
        sampling: how texts are drawn.
        identity: see `Writer`.
        licence: the licence that the model states.
        tokens_per_batch: the most tokens in memory at the same time.

    Raises:
        TemplateError: the tokenizer has no chat template.
    """

    price: Price | None = None

    def __init__(
        self,
        loaded: LoadedModel,
        sampling: Sampling,
        identity: dict[str, Any],
        *,
        licence: str | None = None,
        tokens_per_batch: int = 8192,
    ) -> None:
        self._loaded, self._sampling = loaded, sampling
        self.identity, self.licence, self._most = identity, licence, tokens_per_batch
        self._template = ChatTemplate(loaded.tokenizer)

    @property
    def most_tokens(self) -> int | None:
        """See `Writer`."""
        return self._sampling.max_new_tokens

    def imagine(self, keys: Sequence[int], most_tokens: int) -> list[Written]:
        """What the model writes where the template lets the user speak, one text for each key.

        Every text is drawn from the model's own distribution, whatever the sampling of its replies is.

        Args:
            keys: a number for each text, which determines it with the seed.
            most_tokens: the most tokens of a text.

        Raises:
            TemplateError: the template has no place for a user.
        """
        prefix, end, mark = self._template.open_user()
        ends = {*sequence_ends(self._loaded.model), *([] if end is None else [end])}
        sampling = Sampling(max_new_tokens=most_tokens, stop=(mark,) if mark else (), seed=self._sampling.seed)
        sampler = Sampler(self._loaded.model, self._loaded.tokenizer, end_tokens=ends, tokens_per_batch=self._most)
        found = sampler.sample([prefix] * len(keys), 1, sampling, keys=keys)
        return [
            Written(one.text, "length" if one.finish == "length" else "end", len(one.tokens), len(prefix))
            for (one,) in found
        ]

    def takes(self, turns: tuple[tuple[str, str], ...]) -> bool:
        """Whether the chat template can hold these turns."""
        try:
            self._template.open_reply(_messages(turns))
        except TemplateError:
            return False
        return True

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Written]]:
        """See `Writer`.

        Raises:
            ModelError: a request is longer than the model reads.
            TemplateError: the chat template cannot hold a request.
        """
        if not requests:
            return
        opened = [self._template.open_reply(_messages(one.turns)) for one in requests]
        ends = {opened[0][1], *sequence_ends(self._loaded.model)}
        sampler = Sampler(self._loaded.model, self._loaded.tokenizer, end_tokens=ends, tokens_per_batch=self._most)
        prompts, keys = [tokens for tokens, _ in opened], [one.key for one in requests]
        for index, (rollout,) in enumerate(sampler.sample(prompts, 1, self._sampling, keys=keys)):
            yield index, Written(rollout.text, rollout.finish, len(rollout.tokens), len(prompts[index]))


def _messages(turns: Iterable[tuple[str, str]]) -> list[Message]:
    return [Message(role, (Piece(text),)) for role, text in turns]


class EndpointWriter:
    """A model behind an endpoint.

    Args:
        client: asks it. Its cache keeps what was written.
    """

    licence: str | None = None

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def identity(self) -> dict[str, Any]:
        """See `Writer`. Another model behind the same URL and name is not noticed."""
        about = self._client.about()
        return {key: about[key] for key in ("endpoint", "model", "parameters")}

    @property
    def price(self) -> Price | None:
        """See `Writer`."""
        read, written = self._client.endpoint.price_in, self._client.endpoint.price_out
        return None if read is None and written is None else Price(read or 0.0, written or 0.0)

    @property
    def most_tokens(self) -> int | None:
        """See `Writer`."""
        most = self._client.endpoint.parameters.get("max_tokens")
        return most if isinstance(most, int) else None

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Written]]:
        """See `Writer`. Requests that the server refuses are given as failed.

        Raises:
            EndpointError: the server cannot be used.
        """
        messages = [[{"role": role, "content": text} for role, text in one.turns] for one in requests]
        for index, found in self._client.complete_all(messages):
            if isinstance(found, RequestError):
                yield index, Written(found.problem, "failed", None)
            elif found.refusal.strip():
                yield index, Written(found.refusal, "refused", found.completion_tokens, found.prompt_tokens)
            else:
                finish = "end" if found.finish_reason in ("stop", "") else found.finish_reason
                yield index, Written(found.text, finish, found.completion_tokens, found.prompt_tokens)


def request_of(turns: tuple[tuple[str, str], ...]) -> Request:
    """A request whose key follows from its turns."""
    return Request(turns, zlib.crc32(json.dumps(turns).encode()))


def written_by(writer: Writer, requests: Sequence[Request]) -> list[Written]:
    """What a writer writes, in the order of the requests.

    Raises:
        PalmetteError: the writer cannot be used.
    """
    found = dict(writer.write(requests))
    return [found[index] for index in range(len(requests))]


def tokens_of(texts: Iterable[Written]) -> dict[str, int]:
    """The tokens that were read and written for texts, as a line of a work file holds them."""
    texts = list(texts)
    return {"tokens": sum(one.tokens or 0 for one in texts), "tokens_read": sum(one.read or 0 for one in texts)}


def load_writer(name: ModelName, parameters: Mapping[str, Any], seed: int = 0) -> LocalWriter:
    """Load a model as a writer.

    Args:
        name: a run folder, a model folder, a GGUF file, or a hub id.
        parameters: how texts are drawn: `max_tokens` (64 without it), `temperature` (0) and `top_p` (1). A server
            takes the same.
        seed: random seed.

    Raises:
        DataError: there is another parameter.
        ModelError: the model is missing, or cannot honour the attention mask of a tree.
        RunError: the run is not finished.
        TemplateError: it has no chat template.
    """
    unknown = sorted(parameters.keys() - {"max_tokens", "temperature", "top_p"})
    if unknown:
        raise DataError(f"a local writer has no parameter {unknown[0]!r}", "Leave it out, or give an endpoint.")
    sampling = Sampling(
        float(parameters.get("temperature", 0.0)),
        float(parameters.get("top_p", 1.0)),
        int(parameters.get("max_tokens", 64)),
        seed=seed,
    )
    answerer = load_answerer(name, calibrated=False)
    loaded = answerer.loaded
    identity = {
        "model": str(name),
        "weights_sha256": weights_hash(loaded.folder),
        "adapter_sha256": answerer.weights,
        "dtype": dtype_name(loaded.model.dtype),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_new_tokens": sampling.max_new_tokens,
        "seed": sampling.seed,
    }
    return LocalWriter(loaded, sampling, identity, licence=base_licence(resolve_model(name).base))
