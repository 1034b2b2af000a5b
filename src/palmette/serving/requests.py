"""The bodies of requests, and what is refused or ignored of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from palmette.inference.conversation import Generation
from palmette.serving.errors import ApiError
from palmette.tree.chat import Message, Piece

DEFAULT_TOKENS = 1024  # of a reply, if the client names no limit
MAX_QUESTIONS = 1000  # of one request
MAX_OPTIONS = 1000  # of all choices of one request
_ROLES = {"developer": "system"}
_NO_TOOLS = "This server calls no tools. Leave it out."
# Fields that change the meaning of a reply and cannot be honoured: which of their values are harmless, and a way out.
REFUSED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n": (lambda value: value in (None, 1), "Send the request as often as you want choices."),
    "best_of": (lambda value: value in (None, 1), "Leave it out."),
    "tools": (lambda value: not value, _NO_TOOLS),
    "functions": (lambda value: not value, _NO_TOOLS),
    "tool_choice": (lambda value: value in (None, "none", "auto"), _NO_TOOLS),
    "function_call": (lambda value: value in (None, "none", "auto"), _NO_TOOLS),
    "presence_penalty": (lambda value: not value, "Leave it out."),
    "frequency_penalty": (lambda value: not value, "Leave it out."),
    "logit_bias": (lambda value: not value, "Leave it out."),
    "modalities": (lambda value: value in (None, ["text"]), "This server writes text only."),
    "audio": (lambda value: not value, "This server writes text only."),
    "logprobs": (lambda value: not value, "Ask /v1/chat/completions for them."),
    "echo": (lambda value: not value, "Leave it out."),
    "suffix": (lambda value: not value, "Leave it out."),
}


class Body(BaseModel):
    """A body of JSON. Names that nobody knows are ignored, and a header of the reply lists them."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class StreamOptions(Body):
    """How a reply is streamed."""

    include_usage: Annotated[bool, Field(description="End with a chunk that holds the numbers of tokens.")] = False


class Sampling(Body):
    """What requests for text share."""

    model: Annotated[str, Field(description="The name of a model, as /v1/models lists it.", max_length=200)]
    max_tokens: Annotated[
        int | None, Field(ge=1, description=f"Longest reply, in tokens. By default {DEFAULT_TOKENS:,}.")
    ] = None
    temperature: Annotated[
        float | None,
        Field(ge=0, le=2, description="How freely replies vary. 0 always takes the likeliest token. By default 1."),
    ] = None
    top_p: Annotated[
        float | None, Field(gt=0, le=1, description="Draw from the likeliest tokens with this total probability.")
    ] = None
    stop: Annotated[str | list[str] | None, Field(description="Up to 16 strings that end a reply.")] = None
    seed: Annotated[int | None, Field(description="Random seed. A new one for each request by default.")] = None
    stream: Annotated[bool | None, Field(description="Send the reply in pieces, as server-sent events.")] = None
    stream_options: Annotated[StreamOptions | None, Field(description="How it is streamed.")] = None

    def generation(self, limit: int | None) -> Generation:
        """How the reply is drawn. OpenAI's defaults are 1 for both numbers."""
        seed = secrets.randbits(32) if self.seed is None else self.seed % 2**63
        temperature = 1.0 if self.temperature is None else self.temperature
        top_p = 1.0 if self.top_p is None else self.top_p
        return Generation(temperature, top_p, DEFAULT_TOKENS if limit is None else limit, seed)

    def stops(self) -> tuple[str, ...]:
        """The strings that end the reply.

        Raises:
            ApiError: they are too many.
        """
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(given) > 16:
            raise invalid(f"there are {len(given)} stop strings", "Give 16 at most.", "stop")
        return tuple(stop for stop in given if stop)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatMessage(Body):
    """A message of a conversation."""

    role: Annotated[str, Field(description='"system", "developer", "user" or "assistant".')]
    content: Annotated[str | list[dict[str, Any]] | None, Field(description="Its text, or parts of type text.")] = None

    def turn(self, place: int) -> tuple[str, str]:
        """Its role and its text.

        Raises:
            ApiError: it has another role, no text, or a part that is not text.
        """
        where = f"messages[{place}]"
        role = _ROLES.get(self.role, self.role)
        if role not in ("system", "user", "assistant"):
            raise invalid(f"{where} has the role {self.role!r}", "Use system, user or assistant.", where)
        parts = [{"type": "text", "text": self.content}] if isinstance(self.content, str) else self.content
        if not parts:
            raise invalid(f"{where} has no content", "Write its text.", where)
        for part in parts:
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise invalid(f"{where} holds a part of type {part.get('type')!r}", "Send text only.", where)
        return role, "".join(part["text"] for part in parts)


class ChatRequest(Sampling):
    """A conversation, to which the model replies."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2000, description="The conversation so far.")]
    max_completion_tokens: Annotated[int | None, Field(ge=1, description="The newer name of max_tokens.")] = None
    logprobs: Annotated[bool | None, Field(description="Give the log-probability of each token.")] = None
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=20, description="How many of the likeliest tokens are given beside each.")
    ] = None
    response_format: Annotated[
        dict[str, Any] | None,
        Field(description='{"type": "text"}. Only with the model\'s own prompt also {"type": "json_object"}.'),
    ] = None

    def turns(self) -> list[tuple[str, str]]:
        """The roles and texts of the messages.

        Raises:
            ApiError: a message has another role, no text, or a part that is not text.
        """
        return [message.turn(place) for place, message in enumerate(self.messages)]

    @property
    def limit(self) -> int | None:
        """The most tokens of the reply, if the client named a number."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_likeliest(self) -> int | None:
        """How many of the likeliest tokens are given beside each. None if no log-probabilities are."""
        return self.top_logprobs or 0 if self.logprobs else None


class CompletionRequest(Sampling):
    """A text that the model continues, without a chat template."""

    prompt: Annotated[str | list[Any], Field(description="The text, or a list that holds one text.")]

    def text(self) -> str:
        """The prompt.

        Raises:
            ApiError: it is not one text.
        """
        given = self.prompt if isinstance(self.prompt, list) else [self.prompt]
        if len(given) != 1 or not isinstance(given[0], str):
            raise invalid("the prompt is not one text", "Send a request for each prompt, as text.", "prompt")
        return given[0]


class DocumentRequest(Body):
    """A document to keep."""

    text: Annotated[str, Field(min_length=1, description="The text of the document.")]


class AboutDocument(Body):
    """What requests about a document share."""

    model: Annotated[
        str | None, Field(description="The name of a model. It may be left out if there is one.", max_length=200)
    ] = None
    document: Annotated[str | None, Field(description="The text of the document.")] = None
    document_id: Annotated[
        str | None, Field(description="In its place, the id that /v1/documents gave it.", max_length=100)
    ] = None


class AnswersRequest(AboutDocument):
    """Questions about a document."""

    questions: Annotated[
        list[str], Field(min_length=1, max_length=MAX_QUESTIONS, description="The questions, answered in their order.")
    ]
    read_all: Annotated[
        bool,
        Field(description="Read all of a long document, and not just the parts nearest to each question."),
    ] = False


class ExtractRequest(AboutDocument):
    """A schema, or questions, for a document."""

    schema_: Annotated[
        dict[str, Any] | None,
        Field(
            alias="schema",
            description="The fields to read, as `palmette extract` takes them from a file: "
            '{"fields": {"total": {"question": "What is the total?", "type": "amount"}}}, or a JSON Schema.',
        ),
    ] = None
    questions: Annotated[
        list[str] | None,
        Field(min_length=1, max_length=MAX_QUESTIONS, description="In its place, questions, as of /v1/answers."),
    ] = None
    read_all: Annotated[
        bool | None,
        Field(
            description="Read all of a long document, and not just the parts nearest to each question. By default only "
            "with a schema."
        ),
    ] = None


def invalid(problem: str, way_out: str, param: str) -> ApiError:
    """A refusal of a field."""
    return ApiError(HTTPStatus.BAD_REQUEST, problem, way_out, param=param, code="invalid_value")


def ignored(body: BaseModel) -> list[str]:
    """The names in a body, and in the messages in it, that nobody knows.

    Raises:
        ApiError: one of them asks for something that cannot be done.
    """
    extra: Mapping[str, Any] = body.model_extra or {}
    for name, value in extra.items():
        if name in REFUSED and not REFUSED[name][0](value):
            raise ApiError(
                HTTPStatus.BAD_REQUEST,
                f"{name} is {_shortened(value)}, which this server cannot do",
                REFUSED[name][1],
                param=name,
                code="unsupported_value",
            )
    return sorted(name for name in extra if name not in REFUSED)


def messages_of(turns: list[tuple[str, str]]) -> tuple[Message, ...]:
    """Turns as messages for a chat template."""
    return tuple(Message(role, (Piece(text),)) for role, text in turns)


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
