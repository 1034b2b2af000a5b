"""What writes texts for training data: a local model through its chat template, or a model behind an endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from palmette.data.text import without_thoughts
from palmette.decode.reasoning import sequence_ends
from palmette.endpoint.client import Client
from palmette.endpoint.errors import RequestError
from palmette.errors import DataError
from palmette.inference.answerer import load_answerer
from palmette.inference.names import ModelName
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
    """

    text: str
    finish: str
    tokens: int | None

    @property
    def said(self) -> str:
        """The text without what a model that thinks first has thought."""
        return without_thoughts(self.text)


class Writer(Protocol):
    """Anything that writes texts on request."""

    @property
    def identity(self) -> dict[str, Any]:
        """What its texts depend on, for the report and to continue a job."""

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
        tokens_per_batch: the most tokens in memory at the same time.

    Raises:
        TemplateError: the tokenizer has no chat template.
    """

    def __init__(
        self, loaded: LoadedModel, sampling: Sampling, identity: dict[str, Any], tokens_per_batch: int = 8192
    ) -> None:
        self._loaded, self._sampling = loaded, sampling
        self.identity, self._most = identity, tokens_per_batch
        self._template = ChatTemplate(loaded.tokenizer)

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Written]]:
        """See `Writer`.

        Raises:
            ModelError: a request is longer than the model reads.
            TemplateError: the chat template cannot hold a request.
        """
        if not requests:
            return
        opened = [
            self._template.open_reply([Message(role, (Piece(text),)) for role, text in one.turns]) for one in requests
        ]
        ends = {opened[0][1], *sequence_ends(self._loaded.model)}
        sampler = Sampler(self._loaded.model, self._loaded.tokenizer, end_tokens=ends, tokens_per_batch=self._most)
        prompts, keys = [tokens for tokens, _ in opened], [one.key for one in requests]
        for index, (rollout,) in enumerate(sampler.sample(prompts, 1, self._sampling, keys=keys)):
            yield index, Written(rollout.text, rollout.finish, len(rollout.tokens))


class EndpointWriter:
    """A model behind an endpoint.

    Args:
        client: asks it. Its cache keeps what was written.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def identity(self) -> dict[str, Any]:
        """See `Writer`. Another model behind the same URL and name is not noticed."""
        about = self._client.about()
        return {key: about[key] for key in ("endpoint", "model", "parameters")}

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
                yield index, Written(found.refusal, "refused", found.completion_tokens)
            else:
                finish = "end" if found.finish_reason in ("stop", "") else found.finish_reason
                yield index, Written(found.text, finish, found.completion_tokens)


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
    return LocalWriter(loaded, sampling, identity)
