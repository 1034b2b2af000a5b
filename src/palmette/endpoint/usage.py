"""Counts the requests and tokens of a job, and their cost."""

from __future__ import annotations

from dataclasses import dataclass

from palmette.endpoint.completion import Completion
from palmette.endpoint.settings import Endpoint
from palmette.numbers import count


@dataclass
class Usage:
    """The requests and tokens of a client.

    Attributes:
        asked: requests that the server answered in this job.
        cached: requests answered from the cache.
        failed: requests without an answer.
        retries: attempts after the first one.
        truncated: completions cut at max_tokens, including those from the cache.
        prompt_tokens, completion_tokens: tokens of the requests that the server answered in this job.
        cached_prompt_tokens, cached_completion_tokens: tokens that the cached requests used when they were first asked.
        uncounted: requests of this job whose tokens the server did not count.
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
        """Count a completion."""
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
        """The cost of the requests that the server answered in this job, in the currency of the prices.

        None without prices.
        """
        if endpoint.price_in is None and endpoint.price_out is None:
            return None
        prices = (endpoint.price_in or 0.0, endpoint.price_out or 0.0)
        return (self.prompt_tokens * prices[0] + self.completion_tokens * prices[1]) / 1e6

    def summary(self, endpoint: Endpoint) -> str:
        """A summary in one line.

        >>> usage = Usage(asked=2, cached=1, prompt_tokens=9, completion_tokens=4)
        >>> usage.summary(Endpoint("http://host", "m", price_in=1e5))
        '2 requests answered, 1 more from the cache, 0 failed, 0 retries. Tokens: 9 in, 4 out. Cost: 0.9000.'
        """
        parts = [
            (
                f"{count(self.asked, 'request')} answered, {self.cached:,} more from the cache, "
                f"{self.failed:,} failed, {count(self.retries, 'retry', 'retries')}."
            ),
            f"Tokens: {self.prompt_tokens:,} in, {self.completion_tokens:,} out"
            + (f" (the server did not count {count(self.uncounted, 'request')})." if self.uncounted else "."),
        ]
        if (cost := self.cost(endpoint)) is not None:
            parts.append(f"Cost: {cost:.4f}.")
        if self.truncated:
            were = "was" if self.truncated == 1 else "were"
            parts.append(f"{count(self.truncated, 'completion')} {were} cut at max_tokens.")
        return " ".join(parts)
