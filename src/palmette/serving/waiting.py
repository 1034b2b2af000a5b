"""Jobs as handlers of requests see them: put into the queue, waited for, and given up when the client has gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import Any

from starlette.requests import Request

from palmette.serving.errors import ApiError
from palmette.serving.jobs import Completion, Job, Scored, WriteJob
from palmette.serving.model_thread import ModelThread, QueueFullError

LOADING_SECONDS, FULL_SECONDS = "5", "1"  # after which a client may try again


class ClientGoneError(Exception):
    """The client closed the connection before it had a reply."""


def check_ready(thread: ModelThread) -> None:
    """Check that the models are loaded.

    Raises:
        ApiError: they are not.
    """
    if thread.state != "ready":
        raise ApiError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the models are being loaded",
            "Try again in a few seconds.",
            headers={"Retry-After": LOADING_SECONDS},
        )


def submit(thread: ModelThread, job: Job) -> None:
    """Put a job into the queue.

    Raises:
        ApiError: the queue is full.
    """
    try:
        thread.submit(job)
    except QueueFullError as error:
        raise ApiError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "too many requests are waiting",
            "Try again in a second.",
            code="queue_full",
            headers={"Retry-After": FULL_SECONDS},
        ) from error


async def outcome(thread: ModelThread, job: Job, request: Request) -> Any:
    """The result of a job.

    Raises:
        ApiError: the queue is full.
        ClientGoneError: the client has gone. The job is given up.
        Exception: what the job ended in.
    """
    submit(thread, job)
    return await _unless_gone(asyncio.wrap_future(job.done), job, request)


class Streamed:
    """A job of writing whose pieces are waited for.

    Args:
        job: the job. Its callbacks are set here.
    """

    def __init__(self, job: WriteJob) -> None:
        self._job = job
        self._events: asyncio.Queue[tuple[str, Sequence[Scored]] | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(event: tuple[str, Sequence[Scored]] | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
                loop.call_soon_threadsafe(self._events.put_nowait, event)

        job.begun = lambda: put(("", ()))
        job.written = lambda text, scored: put((text, scored))
        job.done.add_done_callback(lambda _: put(None))

    async def begin(self, thread: ModelThread, request: Request) -> None:
        """Put the job into the queue, and wait until its prompt has been accepted.

        Raises:
            ApiError, ClientGoneError, Exception: as for `outcome`.
        """
        submit(thread, self._job)
        first = await _unless_gone(asyncio.ensure_future(self._events.get()), self._job, request)
        if first is None:
            self._job.done.result()

    async def pieces(self) -> AsyncIterator[tuple[str, Sequence[Scored]]]:
        """The pieces of the text, as they come."""
        while (event := await self._events.get()) is not None:
            yield event

    def give_up(self) -> None:
        """Nobody takes the pieces any more."""
        self._job.gone = True

    def completion(self) -> Completion:
        """The whole, after the last piece.

        Raises:
            Exception: what the job ended in.
        """
        completion: Completion = self._job.done.result()
        return completion


async def _unless_gone(waited: asyncio.Future[Any], job: Job, request: Request) -> Any:
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({waited, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not waited.done():
            raise ClientGoneError
        return waited.result()
    finally:
        job.gone = not waited.done()  # also when the server ends at once
        for future in (waited, gone):
            future.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
