"""Routes in the form of OpenAI's API: models, conversations, and texts that are continued."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from palmette.decode.prediction import Prediction
from palmette.serving.documents import Kept
from palmette.serving.jobs import AnswerJob, Completion, WriteJob
from palmette.serving.model_thread import ServedModel
from palmette.serving.observed import note, note_failure
from palmette.serving.own_prompt import own_completion, own_question
from palmette.serving.records import answer_of
from palmette.serving.replies import DONE, Reply, event
from palmette.serving.requests import ChatRequest, CompletionRequest, Sampling, ignored, invalid, messages_of
from palmette.serving.served import Served, failure, ignored_header, json_reply
from palmette.serving.waiting import Streamed, check_ready, outcome

# Of a request with the model's own prompt, whose answer is not drawn.
_DRAWN = ("temperature", "top_p", "seed", "stop", "max_tokens", "max_completion_tokens")


def openai_routes(served: Served) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/v1/models", summary="The models")
    async def models() -> dict[str, Any]:
        """The models, in the form of OpenAI's API.

        The field `palmette` of each has the hashes of its weights and of its prompt, and says whether it is calibrated.
        """
        check_ready(served.thread)
        return {"object": "list", "data": [_described(served, *one) for one in served.thread.models.items()]}

    @router.get("/v1/models/{name}", summary="A model")
    async def model(name: str) -> dict[str, Any]:
        """One of the models."""
        return _described(served, *served.model(name))

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
    kept = Kept.text(text)
    note(request.scope, model=name, questions=1, characters=len(text))

    def made(predictions: Any) -> tuple[Completion, Prediction]:
        return own_completion(model.answerer.task, kept.document, question, predictions[0]), predictions[0]

    job = AnswerJob(name, kept.document, (question,), read_all=True, made=made)
    completion, prediction = await outcome(served.thread, job, request)
    _count(served, request, completion)
    reply = Reply(name, "chat", {"palmette": answer_of(question, prediction, kept)})
    if not body.stream:
        return json_reply(reply.whole(completion), names)
    events = reply.first() + reply.piece(completion.text, ()) + reply.last(completion, with_usage=body.wants_usage)
    return Response(events, media_type="text/event-stream", headers=ignored_header(names))


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
        return json_reply(reply.whole(completion, with_logprobs=with_logprobs), names)
    streamed = Streamed(job)
    await streamed.begin(served.thread, request)

    async def events() -> AsyncIterator[bytes]:
        yield reply.first()
        async for text, scored in streamed.pieces():
            yield reply.piece(text, scored, with_logprobs=with_logprobs)
        try:
            completion = streamed.completion()
        except Exception as error:
            refused = failure(error)
            if refused.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                note_failure(request.scope, error)
            yield event(refused.body()) + DONE
            return
        _count(served, request, completion)
        yield reply.last(completion, with_usage=body.wants_usage)

    return _Streaming(events(), streamed, ignored_header(names))


class _Streaming(StreamingResponse):
    """Events of a job, which is given up once nobody reads them, even if none was ever sent."""

    def __init__(self, events: AsyncIterator[bytes], streamed: Streamed, headers: dict[str, str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streamed.give_up()


def _count(served: Served, request: Request, completion: Completion) -> None:
    served.metrics.count("prompt_tokens_total", completion.num_prompt_tokens)
    served.metrics.count("completion_tokens_total", completion.num_tokens)
    tokens = {"prompt_tokens": completion.num_prompt_tokens, "completion_tokens": completion.num_tokens}
    note(request.scope, **tokens)


def _described(served: Served, name: str, model: ServedModel) -> dict[str, Any]:
    answerer = model.answerer
    about = {
        "weights": answerer.weights,
        "prompt_sha256": answerer.task.prompt.sha256,
        "calibrated": answerer.calibration is not None,
    }
    return {"id": name, "object": "model", "created": served.started, "owned_by": "palmette", "palmette": about}
