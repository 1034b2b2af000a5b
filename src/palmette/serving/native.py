"""Routes of our own: the state of the server, documents, answers and fields."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse, PlainTextResponse

from palmette.errors import DataError
from palmette.extraction.schema import read_schema
from palmette.inference.asking import check_text
from palmette.serving.documents import Kept
from palmette.serving.errors import ApiError
from palmette.serving.jobs import AnswerJob
from palmette.serving.observed import note
from palmette.serving.records import answer_of, field_replies
from palmette.serving.requests import (
    MAX_OPTIONS,
    MAX_QUESTIONS,
    AboutDocument,
    AnswersRequest,
    DocumentRequest,
    ExtractRequest,
    ignored,
    invalid,
)
from palmette.serving.results import Answers, Extraction, KeptDocument, kept_reply
from palmette.serving.served import Served, json_reply
from palmette.serving.uploads import FILE_TYPES, Uploads, content_type
from palmette.serving.waiting import LOADING_SECONDS, outcome

DOCUMENTS = "/v1/documents"


def state_routes(served: Served) -> APIRouter:
    """Whether the server can answer, and what it has done."""
    router = APIRouter()

    @router.get("/health", summary="Whether the server can answer")
    async def health() -> Response:
        """200 once the models are loaded, and 503 before. It needs no key."""
        ready = served.thread.state == "ready"
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        headers = {} if ready else {"Retry-After": LOADING_SECONDS}
        return JSONResponse({"status": "ok" if ready else "loading"}, status_code=status, headers=headers)

    @router.get("/metrics", summary="Counters for Prometheus")
    async def metrics() -> Response:
        """Counters in the text format of Prometheus."""
        return PlainTextResponse(served.metrics.render(), media_type="text/plain; version=0.0.4")

    return router


def document_routes(served: Served) -> APIRouter:
    """Documents that are kept."""
    router, uploads = APIRouter(), Uploads()

    class DocumentRoute(APIRoute):
        """Takes a document as JSON, or as a file."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """What handles a request."""
            plain = super().get_route_handler()

            async def handle(request: Request) -> Response:
                if content_type(request) not in FILE_TYPES:
                    return await plain(request)
                return json_reply(kept_reply(served.documents.add(Kept.file(await uploads.read(request)))), [])

            return handle

    async def keep(body: DocumentRequest) -> Response:
        """Keep a document in memory, so that questions need not send it again.

        In place of JSON, the body may be a file: PDF, Word (.docx), HTML, Markdown, Excel (.xlsx) or CSV, with its type
        in the header `Content-Type`. With application/octet-stream its kind is recognised by content, and Markdown and
        CSV by the end of its name. `?name=FILE` names it. Answers then have the line, and the page in a PDF.
        """
        names = ignored(body)
        check_text(body.text, "text")
        return json_reply(kept_reply(served.documents.add(Kept.text(body.text))), names)

    binary = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in FILE_TYPES}
    router.add_api_route(
        DOCUMENTS,
        keep,
        methods=["POST"],
        response_model=KeptDocument,
        summary="Keep a document",
        openapi_extra={"requestBody": {"content": binary}},
        route_class_override=DocumentRoute,
    )

    @router.get(f"{DOCUMENTS}/{{id}}", response_model=KeptDocument, summary="Whether a document is kept")
    async def find(id: str) -> dict[str, Any]:  # noqa: A002  # the name in the path
        """What is known of a document. 404 if it is not kept."""
        return kept_reply(_kept(served, None, id))

    @router.delete(f"{DOCUMENTS}/{{id}}", summary="Forget a document")
    async def forget(id: str) -> dict[str, Any]:  # noqa: A002  # the name in the path
        """Forget a document. What was read of it stays until other documents take its place."""
        if not served.documents.remove(id):
            raise _no_document(id)
        return {"id": id, "object": "document", "deleted": True}

    return router


def reading_routes(served: Served) -> APIRouter:
    """What is read out of documents: answers and fields."""
    router = APIRouter()

    @router.post("/v1/answers", response_model=Answers, summary="Answer questions about a document")
    async def answers(body: AnswersRequest, request: Request) -> Response:
        """Answer questions about a document, with places and probabilities, as `palmette predict` does."""
        names = ignored(body)
        head, found = await _answered(served, body, body.questions, body.read_all, request)
        return json_reply({**_head("answers"), **head, "answers": found}, names)

    @router.post("/v1/extract", response_model=Extraction, summary="Read the fields of a schema out of a document")
    async def extract(body: ExtractRequest, request: Request) -> Response:
        """Read the fields of a schema out of a document, as `palmette extract` does, or answer questions.

        The document is read once for all fields. Each value is copied from it, with its place and its probability. A
        field that it does not hold has no value. Nothing is filled in for fields that a JSON Schema requires.
        """
        names = ignored(body)
        if (body.schema_ is None) == (body.questions is None):
            raise invalid("a request has either schema or questions", "Give one of them.", "schema")
        if body.questions is not None:
            head, found = await _answered(served, body, body.questions, bool(body.read_all), request)
            return json_reply({**_head("extraction"), **head, "answers": found}, names)
        head, fields = await _extracted(served, body, request)
        return json_reply({**_head("extraction"), **head, "fields": fields}, names)

    return router


def _head(form: str) -> dict[str, Any]:
    return {"id": f"{form}-{secrets.token_hex(12)}", "object": form, "created": int(time.time())}


async def _answered(
    served: Served, body: AboutDocument, questions: list[str], read_all: bool, request: Request
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The model and the document of a request, and an answer for each of its questions."""
    name, _ = served.model(body.model)
    kept = _kept(served, body.document, body.document_id)
    note(request.scope, model=name, questions=len(questions), characters=len(kept.document.text))
    job = AnswerJob(name, kept.document, tuple(questions), read_all)
    predictions = await outcome(served.thread, job, request)
    records = [answer_of(*one, kept) for one in zip(questions, predictions, strict=True)]
    return {"model": name, "document_id": kept.document.id}, records


async def _extracted(
    served: Served, body: ExtractRequest, request: Request
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The model and the document of a request, and what the document says about each field."""
    name, _ = served.model(body.model)
    kept = _kept(served, body.document, body.document_id)
    assert body.schema_ is not None
    named = body.schema_.get("fields", body.schema_.get("properties"))
    if isinstance(named, dict) and len(named) > MAX_QUESTIONS:  # before they are read, since clients wait meanwhile
        raise invalid(f"the schema has {len(named)} fields", f"Give {MAX_QUESTIONS} at most.", "schema")
    try:
        schema = read_schema(body.schema_)
    except DataError as error:
        raise invalid(error.problem, error.way_out, "schema") from error
    num_options = sum(len(field.options) for field in schema.fields)
    if num_options > MAX_OPTIONS:
        raise invalid(f"the choices of the schema have {num_options} options", f"Give {MAX_OPTIONS} at most.", "schema")
    note(request.scope, model=name, questions=len(schema.fields), characters=len(kept.document.text))

    def made(predictions: Any) -> dict[str, dict[str, Any]]:
        return field_replies(schema, predictions, kept)

    asked = tuple(field.question for field in schema.fields)
    read_all = True if body.read_all is None else body.read_all
    job = AnswerJob(name, kept.document, asked, read_all, schema, made)
    fields = await outcome(served.thread, job, request)
    return {"model": name, "document_id": kept.document.id}, fields


def _kept(served: Served, text: str | None, id_: str | None) -> Kept:
    """The document of a request."""
    if (text is None) == (id_ is None):
        raise invalid("a request has either document or document_id", "Give one of them.", "document")
    if text is not None:
        check_text(text, "document")
        return Kept.text(text)
    assert id_ is not None
    found = served.documents.find(id_)
    if found is None:
        raise _no_document(id_)
    return found


def _no_document(id_: str) -> ApiError:
    problem = f"no document {id_[:100]!r} is kept"
    way_out = "Send it to /v1/documents. Newer documents may have taken its place."
    return ApiError(HTTPStatus.NOT_FOUND, problem, way_out, param="document_id", code="document_not_found")
