"""The routes of the API."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

from palmette.data.records import Document
from palmette.decode.prediction import Prediction
from palmette.errors import PalmetteError
from palmette.inference.job import answer_record
from palmette.inference.asking import check_text
from palmette.serving.documents import Documents, document_of
from palmette.serving.errors import ApiError
from palmette.serving.jobs import AnswerJob, Completion, WriteJob
from palmette.serving.metrics import Metrics
from palmette.serving.model_thread import ModelThread, ServedModel
from palmette.serving.observed import note, note_failure
from palmette.serving.own_prompt import own_completion, own_question
from palmette.serving.replies import DONE, Reply, event
from palmette.serving.requests import (
    Answers,
    AnswersRequest,
    ChatRequest,
    CompletionRequest,
    DocumentRequest,
    KeptDocument,
    Sampling,
    ignored,
    invalid,
    messages_of,
)
from palmette.serving.waiting import LOADING_SECONDS, Streamed, check_ready, outcome

IGNORED = "X-Palmette-Ignored"  # lists the fields of a request that were not looked at
# Of a request with the model's own prompt, whose answer is not drawn.
_DRAWN = ("temperature", "top_p", "seed", "stop", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Served:
    """What the routes work with.

    Attributes:
        thread: the models.
        documents: the documents that clients have sent.
        metrics: counts what happens.
        started: when the server started, in seconds since 1970.
    """

    thread: ModelThread
    documents: Documents
    metrics: Metrics
    started: int

    def model(self, name: str | None) -> tuple[str, ServedModel]:
        """A model by its name. It may be left out if there is one.

        Raises:
            ApiError: the models are not loaded, or there is no such model.
        """
        check_ready(self.thread)
        models = self.thread.models
        if name is None and len(models) == 1:
            name = next(iter(models))
        if name is None or name not in models:
            problem = "the request names no model" if name is None else f"there is no model {name[:80]!r}"
            way_out = f"Served are: {', '.join(models)}."
            raise ApiError(HTTPStatus.NOT_FOUND, problem, way_out, param="model", code="model_not_found")
        return name, models[name]


def routes(served: Served) -> APIRouter:
    """The routes of the API."""
    router = APIRouter()

    @router.get("/health", summary="Whether the server can answer")
    def health() -> Response:
        """200 once the models are loaded, and 503 before. It needs no key."""
        ready = served.thread.state == "ready"
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        headers = {} if ready else {"Retry-After": LOADING_SECONDS}
        return JSONResponse({"status": "ok" if ready else "loading"}, status_code=status, headers=headers)

    @router.get("/metrics", summary="Counters for Prometheus")
    def metrics() -> Response:
        """Counters in the text format of Prometheus."""
        return PlainTextResponse(served.metrics.render(), media_type="text/plain; version=0.0.4")

    @router.get("/v1/models", summary="The models")
    def models() -> dict[str, Any]:
        """The models, in the form of OpenAI's API."""
        check_ready(served.thread)
        return {"object": "list", "data": [_described(served, *one) for one in served.thread.models.items()]}

    @router.get("/v1/models/{name}", summary="A model")
    def model(name: str) -> dict[str, Any]:
        """One of them."""
        return _described(served, *served.model(name))

    @router.post("/v1/documents", response_model=KeptDocument, summary="Keep a document")
    def keep(body: DocumentRequest) -> Response:
        """Keep a document in memory, so that questions need not send it again."""
        names = ignored(body)
        check_text(body.text, "text")
        document = served.documents.add(body.text)
        return _json(_kept(document), names)

    @router.get("/v1/documents/{id}", response_model=KeptDocument, summary="Whether a document is kept")
    def find(id: str) -> dict[str, Any]:  # noqa: A002  # the name in the path
        """What is known of a document. 404 if it is not kept."""
        return _kept(_document(served, None, id))

    @router.delete("/v1/documents/{id}", summary="Forget a document")
    def forget(id: str) -> dict[str, Any]:  # noqa: A002  # the name in the path
        """Forget a document. What was read of it stays until other documents take its place."""
        if not served.documents.remove(id):
            raise _no_document(id)
        return {"id": id, "object": "document", "deleted": True}

    @router.post("/v1/answers", response_model=Answers, summary="Answer questions about a document")
    async def answers(body: AnswersRequest, request: Request) -> Response:
        """Answer questions about a document, with places and probabilities, as `palmette predict` does."""
        names = ignored(body)
        name, _ = served.model(body.model)
        document = _document(served, body.document, body.document_id)
        note(request.scope, model=name, questions=len(body.questions), characters=len(document.text))
        job = AnswerJob(name, document, tuple(body.questions), body.read_all)
        predictions = await outcome(served.thread, job, request)
        records = [_answer(*one) for one in zip(body.questions, predictions, strict=True)]
        head = {"id": f"answers-{secrets.token_hex(12)}", "object": "answers", "created": int(time.time())}
        return _json({**head, "model": name, "document_id": document.id, "answers": records}, names)

    @router.post("/v1/chat/completions", summary="Reply to a conversation")
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Reply to a conversation, in the form of OpenAI's API.

        A conversation that is the model's own prompt, with a document and a question, gets the exact answer in the
        format that the prompt asks for. The reply then has the field `palmette` with its place and its probabilities.
        Any other conversation gets free text.
        """
        names = ignored(body) + [name for message in body.messages for name in ignored(message)]
        name, model = served.model(body.model)
        turns = body.turns()
        asked = own_question(model.answerer.task.prompt, turns)
        if asked is not None:
            return await _own(served, name, model, body, asked, request, names)
        form = (body.response_format or {}).get("type", "text")
        if form != "text":
            raise invalid(
                f"response_format is {form!r}, and free text is bound to no format",
                "Leave it out, or send the model's own prompt.",
                "response_format",
            )
        generation, prompt = body.generation(body.limit), messages_of(turns)
        job = WriteJob(name, prompt, generation, body.stops(), body.num_likeliest)
        return await _written(served, job, body, "chat", request, names)

    @router.post("/v1/completions", summary="Continue a text")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continue a text as it is, without a chat template, in the form of OpenAI's API."""
        names = ignored(body)
        name, _ = served.model(body.model)
        job = WriteJob(name, body.text(), body.generation(body.max_tokens), body.stops())
        return await _written(served, job, body, "text", request, names)

    return router


async def _own(
    served: Served,
    name: str,
    model: ServedModel,
    body: ChatRequest,
    asked: tuple[str, str],
    request: Request,
    names: list[str],
) -> Response:
    """The reply to a model's own prompt."""
    if body.logprobs:
        raise invalid("logprobs are of free text", "Read the probability of the answer in `palmette`.", "logprobs")
    if (body.response_format or {}).get("type", "text") not in ("text", "json_object"):
        raise invalid("the model's own prompt has a format of its own", "Leave out response_format.", "response_format")
    names = names + [one for one in _DRAWN if getattr(body, one) is not None]
    text, question = asked
    document = document_of(text)
    note(request.scope, model=name, questions=1, characters=len(text))

    def made(predictions: Any) -> tuple[Completion, Prediction]:
        return own_completion(model.answerer.task, document, question, predictions[0]), predictions[0]

    job = AnswerJob(name, document, (question,), read_all=True, made=made)
    completion, prediction = await outcome(served.thread, job, request)
    _count(served, request, completion)
    reply = Reply(name, "chat", {"palmette": _answer(question, prediction)})
    if not body.stream:
        return _json(reply.whole(completion), names)
    events = reply.first() + reply.piece(completion.text, ()) + reply.last(completion, with_usage=body.wants_usage)
    return Response(events, media_type="text/event-stream", headers=_ignored_header(names))


async def _written(
    served: Served,
    job: WriteJob,
    body: Sampling,
    kind: Literal["chat", "text"],
    request: Request,
    names: list[str],
) -> Response:
    """The reply of free text, whole or in pieces."""
    note(request.scope, model=job.model, stream=bool(body.stream))
    reply, with_logprobs = Reply(job.model, kind), job.num_likeliest is not None
    if not body.stream:
        completion = await outcome(served.thread, job, request)
        _count(served, request, completion)
        return _json(reply.whole(completion, with_logprobs=with_logprobs), names)
    streamed = Streamed(job)
    await streamed.begin(served.thread, request)

    async def events() -> AsyncIterator[bytes]:
        yield reply.first()
        async for text, scored in streamed.pieces():
            yield reply.piece(text, scored, with_logprobs=with_logprobs)
        try:
            completion = streamed.completion()
        except Exception as error:
            if not isinstance(error, PalmetteError):
                note_failure(request.scope, error)
            yield event(failure(error).body()) + DONE
            return
        _count(served, request, completion)
        yield reply.last(completion, with_usage=body.wants_usage)

    return StreamingResponse(events(), media_type="text/event-stream", headers=_ignored_header(names))


def failure(error: Exception) -> ApiError:
    """An error as a refusal. One that is no mistake of the client says nothing of what happened inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PalmetteError):
        return ApiError(HTTPStatus.BAD_REQUEST, error.problem, error.way_out)
    return ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed", "Its log has the reason, under the id of the request."
    )


def _count(served: Served, request: Request, completion: Completion) -> None:
    served.metrics.count("prompt_tokens_total", completion.num_prompt_tokens)
    served.metrics.count("completion_tokens_total", completion.num_tokens)
    tokens = {"prompt_tokens": completion.num_prompt_tokens, "completion_tokens": completion.num_tokens}
    note(request.scope, **tokens)


def _document(served: Served, text: str | None, id_: str | None) -> Document:
    """The document of a request."""
    if (text is None) == (id_ is None):
        raise invalid("a request has either document or document_id", "Give one of them.", "document")
    if text is not None:
        check_text(text, "document")
        return document_of(text)
    assert id_ is not None
    found = served.documents.find(id_)
    if found is None:
        raise _no_document(id_)
    return found


def _no_document(id_: str) -> ApiError:
    problem = f"no document {id_[:100]!r} is kept"
    way_out = "Send it to /v1/documents. Newer documents may have taken its place."
    return ApiError(HTTPStatus.NOT_FOUND, problem, way_out, param="document_id", code="document_not_found")


def _kept(document: Document) -> dict[str, Any]:
    return {"id": document.id, "object": "document", "characters": len(document.text)}


def _answer(question: str, prediction: Prediction) -> dict[str, Any]:
    read = {"num_windows": prediction.num_windows, "num_read": prediction.num_read}
    return {"question": question, **answer_record(prediction), **read, "unread": round(prediction.unread, 6)}


def _described(served: Served, name: str, model: ServedModel) -> dict[str, Any]:
    answerer = model.answerer
    about = {
        "weights": answerer.weights,
        "prompt_sha256": answerer.task.prompt.sha256,
        "calibrated": answerer.calibration is not None,
    }
    return {"id": name, "object": "model", "created": served.started, "owned_by": "palmette", "palmette": about}


def _json(value: dict[str, Any] | BaseModel, names: list[str]) -> JSONResponse:
    return JSONResponse(value, headers=_ignored_header(names))


def _ignored_header(names: list[str]) -> dict[str, str]:
    """The header that lists ignored fields, if there are any. Names that no header holds are left out."""
    shown = [name for name in dict.fromkeys(names) if name.isascii() and name.isprintable() and "," not in name]
    return {IGNORED: ", ".join(shown)[:1000]} if shown else {}
