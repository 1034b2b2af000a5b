"""A client for the chat completions of any server that speaks OpenAI's protocol.

Such servers are hosted models, vLLM, llama.cpp and `transformers serve`. Requests that failed temporarily are tried
again with growing pauses. A Retry-After header holds back all requests. Completions are stored on disk (`cache.py`), so
a job that was stopped continues where it was. The API key is read from an environment variable and appears in no
message, file or cache.

Requests run as tasks of one event loop, in a thread of its own. The thread and all connections end with the job.

The client does not support streaming, tools, images, or several choices for one request. A server may bill the tokens
of exchanges that broke off, but they are not counted. Equal requests that are under way at the same time are all sent.
"""

from __future__ import annotations

import contextlib
import json
import queue
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint

from palmette.endpoint.cache import CompletionCache
from palmette.endpoint.completion import Completion, read_response
from palmette.endpoint.errors import EndpointError, RequestError, TransientError
from palmette.endpoint.pace import Pace, backoff, retry_after
from palmette.endpoint.settings import RESERVED, Endpoint, check_url, read_key
from palmette.endpoint.transport import Response, open_http, post
from palmette.endpoint.usage import Usage

LONGEST_RETRY_AFTER = 600.0
MAX_FAILURES_IN_A_ROW = 8
SECONDS_TO_FINISH = 5.0
LONG_KEY = 16
_LATER = "Run the same command again later. Stored completions are not asked again."

Messages = Sequence[Mapping[str, str]]


class _Job:
    """Stops the tasks of one job, and protects exchanges under way.

    Args:
        http: the HTTP client that they share.
    """

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http, self.tasks = http, anyio.create_task_group()
        self._under_way: set[anyio.CancelScope] = set()

    def stop(self) -> None:
        """Cancel all tasks. Exchanges under way get a few seconds to finish."""
        self.tasks.cancel_scope.cancel()
        for exchange in self._under_way:
            exchange.deadline = min(exchange.deadline, anyio.current_time() + SECONDS_TO_FINISH)

    @contextlib.contextmanager
    def exchange(self, seconds: float) -> Iterator[None]:
        """Protect an exchange from cancellation.

        Raises:
            TimeoutError: it took longer than `seconds`, or longer than a stopped job allows.
        """
        with anyio.fail_after(seconds, shield=True) as scope:
            self._under_way.add(scope)
            try:
                yield
            finally:
                self._under_way.discard(scope)


class Client:
    """Asks one model behind an endpoint. A client runs one job at a time.

    Args:
        endpoint: the server, the model and the limits.
        cache: the folder that stores completions. Nothing is stored if None.

    Raises:
        EndpointError: the URL, a parameter or the key's variable is not valid.
        RunError: the cache cannot be created.
    """

    def __init__(self, endpoint: Endpoint, cache: Path | None = None) -> None:
        self.endpoint, self.usage = endpoint, Usage()
        self._url, self._key = check_url(endpoint.url), read_key(endpoint.key_variable)
        if reserved := sorted(endpoint.parameters.keys() & RESERVED):
            raise EndpointError(f"the parameter {reserved[0]!r} cannot be set", "Leave it out.")
        self.cache = None if cache is None else CompletionCache(cache)
        self._pace = Pace(endpoint.requests_per_minute)
        self._reached, self._failures, self._answers = False, 0, 0

    def about(self) -> dict[str, Any]:
        """The server, the model, its parameters, the usage and the cost, for a report."""
        return {
            "endpoint": self._url,
            "model": self.endpoint.model,
            "parameters": dict(self.endpoint.parameters),
            "used": asdict(self.usage),
            "cost": self.usage.cost(self.endpoint),
        }

    def vouch(self) -> None:
        """Take the server for one that answers, as another client has seen. Refusals in a row then end no job."""
        self._answers += 1

    def complete(self, messages: Messages, parameters: Mapping[str, Any] | None = None) -> Completion:
        """The completion of one request, from the cache or from the server.

        Args:
            messages: the messages.
            parameters: of this request, which go before those of the endpoint.

        Raises:
            RequestError: the server refuses the request, or did not answer it in all attempts.
            EndpointError: the server cannot be used.
            RunError: the completion cannot be stored.
        """
        ((_, result),) = self.complete_all([messages], parameters)
        if isinstance(result, RequestError):
            raise result
        return result

    def complete_all(
        self, requests: Sequence[Messages], parameters: Mapping[str, Any] | None = None
    ) -> Generator[tuple[int, Completion | RequestError]]:
        """Yield the index of every request with its completion, or with the reason why it has none.

        Requests come in the order in which they are answered. If the caller stops early, for example by Ctrl-C,
        requests under way get a few seconds to be answered and stored.

        Args:
            requests: the messages of each.
            parameters: of all of them, which go before those of the endpoint.

        Raises:
            EndpointError: the server cannot be used.
            RunError: a completion cannot be stored.
        """
        http = open_http(self._url, self._key, self.endpoint.timeout, self.endpoint.concurrency)
        results: queue.SimpleQueue[tuple[int, Completion | Exception] | None] = queue.SimpleQueue()
        with start_blocking_portal() as portal:
            job = portal.call(_Job, http)
            done = portal.start_task_soon(self._run, job, requests, dict(parameters or {}), results.put)
            done.add_done_callback(lambda _: results.put(None))
            try:
                while (item := results.get()) is not None:
                    index, result = item
                    if isinstance(result, Exception) and not isinstance(result, RequestError):
                        raise result
                    yield index, result
                done.result()
            finally:
                portal.call(job.stop)

    async def _run(
        self,
        job: _Job,
        requests: Sequence[Messages],
        parameters: Mapping[str, Any],
        tell: Callable[[tuple[int, Completion | Exception]], None],
    ) -> None:
        """Answer all requests with as many tasks as `concurrency` allows.

        An error that ends the job is passed on like a result.
        """
        waiting = iter(enumerate(requests))

        async def work() -> None:
            for index, messages in waiting:
                await checkpoint()
                try:
                    tell((index, await self._complete(job, messages, parameters)))
                except RequestError as error:
                    tell((index, error))
                except Exception as error:
                    job.stop()
                    tell((index, error))

        async with job.http, job.tasks:
            for _ in range(min(self.endpoint.concurrency, len(requests))):
                job.tasks.start_soon(work)

    async def _complete(self, job: _Job, messages: Messages, parameters: Mapping[str, Any]) -> Completion:
        """The completion of one request, from the cache or from the server."""
        request = {
            "model": self.endpoint.model,
            "messages": list(messages),
            **self.endpoint.parameters,
            **parameters,
            "stream": False,
        }
        completion = self.cache.read(self._url, request) if self.cache else None
        if completion is None:
            completion = await self._ask(job, json.dumps(request).encode("utf-8"))
            if self.cache:
                self.cache.write(self._url, request, completion)
        self.usage.add(completion)
        return completion

    async def _ask(self, job: _Job, body: bytes) -> Completion:
        """Ask the server until it answers, or until the allowed attempts are used up."""
        attempt = 0
        while True:
            attempt += 1
            await self._pace.wait()
            try:
                completion = await self._exchange(job, body)
            except RequestError as error:
                raise self._failed(error, fatal=self._answers == 0) from None
            except TransientError as failure:
                await checkpoint()  # a stopped job ends here
                if attempt > self.endpoint.max_retries:
                    problem = f"no answer in {attempt} attempts, the last: {failure.problem}"
                    raise self._failed(RequestError(problem, _LATER), fatal=True) from None
                await self._pause(failure, attempt)
            else:
                self._failures, self._answers = 0, self._answers + 1
                return completion

    async def _exchange(self, job: _Job, body: bytes) -> Completion:
        """Send the request once and read the response."""
        seconds = 2 * self.endpoint.timeout
        try:
            with job.exchange(seconds):
                response = await post(job.http, body)
        except TimeoutError:
            raise TransientError(f"no complete response within {seconds:g} s") from None
        except TransientError as failure:
            if failure.unreachable and not self._reached:
                raise EndpointError(
                    f"cannot reach {self._url}: {failure.problem}", "Start the server, or check --endpoint."
                ) from None
            raise
        self._reached = True
        return read_response(_without_key(response, self._key), self._url, self.endpoint.model)

    async def _pause(self, failure: TransientError, attempt: int) -> None:
        """Wait before another attempt. If the server asks for a pause, all requests wait at least that long."""
        self.usage.retries += 1
        seconds = retry_after(failure.retry_after)
        if seconds is not None:
            if seconds > LONGEST_RETRY_AFTER:
                raise EndpointError(f"{self._url} asks to wait for {seconds:.0f} s: {failure.problem}", _LATER)
            self._pace.hold(seconds)
        await anyio.sleep(backoff(attempt, self.endpoint.first_backoff))

    def _failed(self, error: RequestError, *, fatal: bool) -> EndpointError:
        """Count a request without an answer, and return the error to raise, which may end the job.

        Args:
            error: why there is no answer.
            fatal: whether many such errors in a row mean that the server cannot be used.
        """
        self.usage.failed += 1
        self._failures += fatal
        if self._failures < MAX_FAILURES_IN_A_ROW:
            return error
        return EndpointError(f"{self._failures} requests in a row failed, the last: {error.problem}", error.way_out)


def _without_key(response: Response, key: str | None) -> Response:
    """The response, with the key replaced wherever the server repeats it.

    In a completion, a key as short as a word is not replaced, because it may be part of the text.
    """
    if not key or (response.status == 200 and len(key) < LONG_KEY):
        return response
    headers = {name: value.replace(key, "***") for name, value in response.headers.items()}
    return Response(response.status, headers, response.body.replace(key.encode(), b"***"))
