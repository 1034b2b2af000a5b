"""Routes of our own: the state of the server, documents and answers."""

from __future__ import annotations

import secrets
import time
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse, PlainTextResponse

from palmette.data.records import Document
from palmette.inference.asking import check_text
from palmette.serving.documents import document_of
from palmette.serving.errors import ApiError
from palmette.serving.jobs import AnswerJob
from palmette.serving.observed import note
from palmette.serving.requests import Answers, AnswersRequest, DocumentRequest, KeptDocument, ignored, invalid
from palmette.serving.served import Served, answer_of, json_reply
from palmette.serving.waiting import LOADING_SECONDS, outcome


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
    """Documents, and answers to questions about them."""
    router = APIRouter()

    @router.post("/v1/documents", response_model=KeptDocument, summary="Keep a document")
    async def keep(body: DocumentRequest) -> Response:
        """Keep a document in memory, so that questions need not send it again."""
        names = ignored(body)
        check_text(body.text, "text")
        document = served.documents.add(body.text)
        return json_reply(_kept(document), names)

    @router.get("/v1/documents/{id}", response_model=KeptDocument, summary="Whether a document is kept")
    async def find(id: str) -> dict[str, Any]:  # noqa: A002  # the name in the path
        """What is known of a document. 404 if it is not kept."""
        return _kept(_document(served, None, id))

    @router.delete("/v1/documents/{id}", summary="Forget a document")
    async def forget(id: str) -> dict[str, Any]:  # noqa: A002  # the name in the path
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
        records = [answer_of(*one) for one in zip(body.questions, predictions, strict=True)]
        head = {"id": f"answers-{secrets.token_hex(12)}", "object": "answers", "created": int(time.time())}
        return json_reply({**head, "model": name, "document_id": document.id, "answers": records}, names)

    return router


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
