"""A client for the chat completions of any server that speaks OpenAI's protocol: hosted models, vLLM, llama.cpp, `transformers serve`.

Failures that may pass are tried again with growing pauses, and Retry-After is honoured by all threads; every answer is kept on disk
(`endpoint/cache.py`), so a job that was stopped goes on where it was. The API key is read from an environment variable, whose name is
given, and appears in no message, file or cache. What is *not* covered: streaming, tools, images, several choices for one request; tokens of
exchanges that broke off, which a server may bill and nobody reports; equal requests under way at the same moment, which are both asked.
"""

from __future__ import annotations

import json
import os
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from palmette.endpoint.cache import AnswerCache, Completion
from palmette.endpoint.pace import Pace, Stopped, backoff, retry_after
from palmette.endpoint.replies import Passing, completion_in, unlikely_to_start
from palmette.endpoint.transport import Broken, EndpointError, HttpReply, RequestError, check_url, post_json

RESERVED = ("model", "messages", "stream", "n", "tools", "functions")
LONGEST_RETRY_AFTER = 600.0
MAX_FAILURES_IN_A_ROW = 8
SECONDS_TO_FINISH = 5.0
LONG_KEY = 16
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,39}")

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, a model on it, and how to treat them.

    Attributes:
        url: base URL, such as http://localhost:8080/v1.
        model: the model's name on the server.
        key_variable: NAME of the environment variable that holds the API key; None for a server that asks for none.
        parameters: of every request: max_tokens, temperature, seed, ...
        concurrency: requests under way at once.
        requests_per_minute: at most so many are sent; None for no limit.
        timeout: seconds of silence after which an exchange is given up.
        max_retries: further tries of one request.
        first_backoff: seconds, the longest pause after a first failure.
        price_in, price_out: of a million prompt and completion tokens, in any currency; None if unknown.
    """

    url: str
    model: str
    key_variable: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = 4
    requests_per_minute: float | None = None
    timeout: float = 120.0
    max_retries: int = 6
    first_backoff: float = 1.0
    price_in: float | None = None
    price_out: float | None = None


@dataclass
class Tally:
    """What a job asked and used.

    Attributes:
        asked: requests answered by the server now.
        cached: requests answered from the cache.
        failed: requests without an answer.
        retries: further tries.
        truncated: answers, cached ones too, that were cut at max_tokens.
        prompt_tokens, completion_tokens: of the requests asked now.
        cached_prompt_tokens, cached_completion_tokens: of those answered from the cache, when they were asked.
        uncounted: requests asked now whose tokens the server did not count.
    """

    asked: int = 0
    cached: int = 0
    failed: int = 0
    retries: int = 0
    truncated: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0
    cached_completion_tokens: int = 0
    uncounted: int = 0

    def add(self, completion: Completion) -> None:
        """Count an answer."""
        self.truncated += completion.truncated
        tokens = (completion.prompt_tokens or 0, completion.completion_tokens or 0)
        if completion.from_cache:
            self.cached += 1
            self.cached_prompt_tokens += tokens[0]
            self.cached_completion_tokens += tokens[1]
            return
        self.asked += 1
        self.uncounted += completion.prompt_tokens is None or completion.completion_tokens is None
        self.prompt_tokens += tokens[0]
        self.completion_tokens += tokens[1]

    def cost(self, endpoint: Endpoint) -> float | None:
        """What the requests asked now cost by the prices given; None without prices."""
        if endpoint.price_in is None and endpoint.price_out is None:
            return None
        prices = (endpoint.price_in or 0.0, endpoint.price_out or 0.0)
        return (self.prompt_tokens * prices[0] + self.completion_tokens * prices[1]) / 1e6


class Client:
    """Asks one model behind an endpoint. Once a job was broken off, its client asks nothing more.

    Args:
        endpoint: the server and the model.
        cache: where answers are kept; None for nowhere.

    Raises:
        EndpointError: the URL, the parameters or the key's variable are no good.
    """

    def __init__(self, endpoint: Endpoint, cache: AnswerCache | None = None) -> None:
        self.endpoint, self.cache, self.tally = endpoint, cache, Tally()
        self._url, self._key = check_url(endpoint.url), _read_key(endpoint.key_variable)
        if reserved := sorted(endpoint.parameters.keys() & set(RESERVED)):
            raise EndpointError(f"the parameter {reserved[0]!r} cannot be set", "Leave it out.")
        self._pace, self._lock = Pace(endpoint.requests_per_minute), threading.Lock()
        self._reached, self._failures, self._answers = False, 0, 0

    def about(self) -> dict[str, Any]:
        """What a report tells: the server, the model, its parameters, what was used and what it cost."""
        return {
            "endpoint": self._url,
            "model": self.endpoint.model,
            "parameters": dict(self.endpoint.parameters),
            "used": asdict(self.tally),
            "cost": self.tally.cost(self.endpoint),
        }

    def complete(self, messages: Messages) -> Completion:
        """The answer to one request, from the cache or from the server.

        Raises:
            RequestError: the server would not answer it, or not within the tries.
            EndpointError: the server cannot be used.
            RunError: the answer cannot be kept.
        """
        request = {
            "model": self.endpoint.model,
            "messages": list(messages),
            **self.endpoint.parameters,
            "stream": False,
        }
        found = self.cache.read(self._url, request) if self.cache else None
        if found is None:
            found = self._ask_until_answered(json.dumps(request).encode("utf-8"))
            if self.cache:
                self.cache.write(self._url, request, found)
        with self._lock:
            self.tally.add(found)
        return found

    def complete_all(self, requests: Sequence[Messages]) -> Iterator[tuple[int, Completion | RequestError]]:
        """(index, answer or why there is none) for every request, as they come in.

        Where the caller stops early (Ctrl-C), answers under way get a few seconds to arrive and be kept.

        Raises:
            EndpointError: the server cannot be used.
            RunError: an answer cannot be kept.
        """
        done: queue.SimpleQueue[tuple[int, Completion | BaseException]] = queue.SimpleQueue()
        waiting = iter(range(len(requests)))  # its `next` is atomic

        def work() -> None:
            for index in waiting:
                if self._pace.stopped:
                    return
                try:
                    done.put((index, self.complete(requests[index])))
                except Stopped:
                    return
                except RequestError as error:
                    done.put((index, error))
                except BaseException as error:  # the caller's thread raises it
                    done.put((index, error))
                    return

        count = min(self.endpoint.concurrency, len(requests))
        threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        finished = 0
        try:
            for _ in requests:
                index, result = done.get()
                if isinstance(result, BaseException) and not isinstance(result, RequestError):
                    raise result
                yield index, result
                finished += 1
        finally:
            if finished < len(requests):
                self._pace.stop()
            deadline = time.monotonic() + SECONDS_TO_FINISH
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _ask_until_answered(self, body: bytes) -> Completion:
        attempt = 0
        while True:
            attempt += 1
            self._pace.wait()
            try:
                completion = self._ask(body)
            except Passing as failure:
                if attempt > self.endpoint.max_retries:
                    raise self._given_up(failure, attempt) from None
                self._pause(failure, attempt)
            except RequestError as error:
                self._count_failure(error, fatal=self._answers == 0)
                raise
            else:
                with self._lock:
                    self._failures, self._answers = 0, self._answers + 1
                return completion

    def _ask(self, body: bytes) -> Completion:
        """One exchange."""
        try:
            reply = post_json(self._url, body, key=self._key, timeout=self.endpoint.timeout)
        except Broken as broken:
            if broken.absent and not self._reached:
                raise unlikely_to_start(broken, self._url) from None
            raise Passing(broken.problem) from None
        self._reached = True
        return completion_in(self._without_key(reply), self._url, self.endpoint.model)

    def _without_key(self, reply: HttpReply) -> HttpReply:
        """The reply, with the key blotted out where the server repeats it; but a key as short as a word may stand in any answer."""
        if not self._key or (reply.status == 200 and len(self._key) < LONG_KEY):
            return reply
        body = reply.body.replace(self._key.encode(), b"***")
        headers = {name: value.replace(self._key, "***") for name, value in reply.headers.items()}
        return HttpReply(reply.status, headers, body)

    def _pause(self, failure: Passing, attempt: int) -> None:
        """Wait before another try: at least as long as the server asks, and then all threads wait."""
        with self._lock:
            self.tally.retries += 1
        asked = retry_after(failure.retry_after)
        if asked is not None:
            if asked > LONGEST_RETRY_AFTER:
                raise EndpointError(
                    f"{self._url} asks to wait for {asked:.0f} s: {failure.problem}",
                    "Give the same command again later: answers are kept.",
                )
            self._pace.hold(asked)
        self._pace.sleep(max(asked or 0.0, backoff(attempt, self.endpoint.first_backoff)))

    def _given_up(self, failure: Passing, attempts: int) -> RequestError:
        error = RequestError(
            f"no answer in {attempts} tries; the last: {failure.problem}",
            "Give the same command again later: answers are kept.",
        )
        self._count_failure(error, fatal=True)
        return error

    def _count_failure(self, error: RequestError, *, fatal: bool) -> None:
        """Count a request without an answer.

        Args:
            error: why there is none.
            fatal: whether many of these in a row mean that the server is not to be used.

        Raises:
            EndpointError: too many failed in a row.
        """
        with self._lock:
            self.tally.failed += 1
            self._failures += fatal
            too_many = self._failures >= MAX_FAILURES_IN_A_ROW
        if too_many:
            raise EndpointError(f"{self._failures} requests in a row failed; the last: {error.problem}", error.way_out)


def _read_key(variable: str | None) -> str | None:
    """The API key. Messages name a variable only if it looks like one: somebody may have given the key itself."""
    if variable is None:
        return None
    named = f"variable {variable}" if _VARIABLE.fullmatch(variable) else "variable given for the API key"
    key = os.environ.get(variable, "").strip()
    if not key:
        raise EndpointError(f"the environment {named} is not set", "Set it to the key; give its name, not the key.")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise EndpointError(
            f"the environment {named} holds no API key: it has blanks or odd characters", "Set it anew."
        )
    return key
