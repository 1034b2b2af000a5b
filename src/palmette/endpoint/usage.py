"""What a job asked, what it used, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass

from palmette.endpoint.completion import Completion
from palmette.endpoint.settings import Endpoint


@dataclass
class Usage:
    """What a client asked and used.

    Attributes:
        asked: requests that the server answered now.
        cached: requests answered from the cache.
        failed: requests without an answer.
        retries: further attempts.
        truncated: completions cut at max_tokens, those from the cache included.
        prompt_tokens, completion_tokens: of the requests asked now.
        cached_prompt_tokens, cached_completion_tokens: of the cached requests, when they were asked.
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
        """Cost of the requests asked now, in the currency of the prices. None without prices."""
        if endpoint.price_in is None and endpoint.price_out is None:
            return None
        prices = (endpoint.price_in or 0.0, endpoint.price_out or 0.0)
        return (self.prompt_tokens * prices[0] + self.completion_tokens * prices[1]) / 1e6

    def summary(self, endpoint: Endpoint) -> str:
        """One line for people.

        >>> usage = Usage(asked=2, cached=1, prompt_tokens=9, completion_tokens=4)
        >>> usage.summary(Endpoint("http://host", "m", price_in=1e5))
        '2 requests answered, 1 more from the cache, 0 failed, 0 retries. Tokens: 9 in, 4 out. Cost: 0.9000.'
        """
        parts = [
            (
                f"{self.asked} requests answered, {self.cached} more from the cache, {self.failed} failed, "
                f"{self.retries} retries."
            ),
            f"Tokens: {self.prompt_tokens} in, {self.completion_tokens} out"
            + (f" (the server did not count {self.uncounted} requests)." if self.uncounted else "."),
        ]
        if (cost := self.cost(endpoint)) is not None:
            parts.append(f"Cost: {cost:.4f}.")
        if self.truncated:
            parts.append(f"{self.truncated} completions were cut at max_tokens.")
        return " ".join(parts)
