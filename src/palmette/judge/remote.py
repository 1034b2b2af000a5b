"""A model behind an endpoint as a judge.

Where the server gives log-probabilities, one token is asked for, and the probabilities of the verdicts are read off
its alternatives. "A", " A" and "a" are one verdict, and so is a token that begins only one, such as "t" of "tie". That
needs verdicts of which none begins another, so "1" and "10" are read from the text. Without log-probabilities the model
writes, and its text is read by the rule of lines. Servers refuse to give them, or ignore that part of the request. If
the first few requests come back without, no further ones are sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from palmette.endpoint.client import Client
from palmette.endpoint.errors import RequestError
from palmette.endpoint.settings import Endpoint
from palmette.judge.text import read_choice, read_grade
from palmette.judge.wording import Case, JudgePrompt, as_messages

TEXT_TOKENS = 512
_ALTERNATIVES = 20
_TRIED = 3  # requests without log-probabilities after which a server that gave none so far is not asked for more
_ENOUGH = 0.5  # of the probability must belong to verdicts, or the text is read
_TOKEN: dict[str, Any] = {"max_tokens": 1, "logprobs": True, "top_logprobs": _ALTERNATIVES}


class EndpointJudge:
    """A model behind an endpoint.

    Args:
        endpoint: the server and the model. Its parameters are sent too, but for max_tokens and those of
            log-probabilities.
        prompt: what it is asked.

    Attributes:
        name: the model's name.
        failures: requests without an answer, which are asked again next time.
        refusals: requests that the server refused for good, such as too long ones. Their verdicts count as unread.
        from_text: verdicts that were read from text although their log-probabilities were asked for.

    Raises:
        EndpointError: the URL, a parameter or the key's variable is not valid.
    """

    def __init__(self, endpoint: Endpoint, prompt: JudgePrompt) -> None:
        self.name, self.endpoint, self._prompt = endpoint.model, endpoint, prompt
        self.failures = self.refusals = self.from_text = 0
        self._refusal = self._failure = ""  # the last of each
        self._answered = False
        given = {key: value for key, value in endpoint.parameters.items() if key not in _TOKEN}
        self._tokens = Client(replace(endpoint, parameters={"temperature": 0.0, **given, **_TOKEN}))
        text = {"max_tokens": endpoint.parameters.get("max_tokens", TEXT_TOKENS)}
        self._text = Client(replace(endpoint, parameters={"temperature": 0.0, **given, **text}))

    @property
    def identity(self) -> dict[str, Any]:
        """What its verdicts depend on, as far as a server says it."""
        parameters = dict(self.endpoint.parameters)
        return {
            "kind": "endpoint",
            "url": self.endpoint.url,
            "model": self.endpoint.model,
            "parameters": parameters,
            "prompt": self._prompt.sha256,
        }

    @property
    def cost(self) -> float | None:
        """What was paid so far. None without prices."""
        costs = [client.usage.cost(client.endpoint) for client in (self._tokens, self._text)]
        return None if any(one is None for one in costs) else sum(one for one in costs if one is not None)

    @property
    def notes(self) -> list[str]:
        """What failed, what was read from text, and what was paid."""
        said = []
        if self.from_text:
            said.append(f"Verdicts read from text, for want of log-probabilities: {self.from_text:,}.")
        if self.refusals:
            said.append(f"Requests refused, which count as unread: {self.refusals:,}, the last: {self._refusal}.")
        if self.failures:
            said.append(f"Requests without an answer: {self.failures:,}, the last: {self._failure}.")
        if self.cost is not None:
            said.append(f"Cost: {self.cost:.4f}.")
        return said

    def odds(self, cases: Sequence[Case]) -> Iterator[tuple[int, Mapping[str, float] | None]]:
        """The index of each case with the probability of each verdict.

        {} is a verdict that was unread, or a request that the server refused for good. None is a request without an
        answer.

        Raises:
            EndpointError: the server cannot be used.
        """
        in_tokens = [index for index, case in enumerate(cases) if _distinct(case.words)]
        in_text = dict.fromkeys(range(len(cases)))
        for index, found in self._by_tokens(cases, in_tokens):
            del in_text[index]
            yield index, found
        if self._answered:
            self._text.vouch()
        yield from self._by_text(cases, list(in_text))

    def _by_tokens(self, cases: Sequence[Case], asked: Sequence[int]) -> Iterator[tuple[int, Mapping[str, float]]]:
        """The verdicts that log-probabilities tell, of the cases with these indices."""
        accepted = without = 0
        with closing(self._tokens.complete_all([self._messages(cases[index]) for index in asked])) as results:
            for place, result in results:
                index = asked[place]
                self._answered |= not isinstance(result, RequestError)
                first = () if isinstance(result, RequestError) else result.first
                accepted, without = accepted + bool(first), without + (not first)
                if (found := _read_tokens(first, cases[index].words)) is not None:
                    yield index, found
                if without >= _TRIED and not accepted:
                    return

    def _by_text(self, cases: Sequence[Case], asked: Sequence[int]) -> Iterator[tuple[int, Mapping[str, float] | None]]:
        """The verdicts that are read from the text of replies. Refusals wait for the first answer of the server.

        A server that refuses everything cannot be used, and none of its refusals is a verdict.
        """
        refused = []
        for place, result in self._text.complete_all([self._messages(cases[index]) for index in asked]):
            index = asked[place]
            if not isinstance(result, RequestError):
                self._answered = True
                self.from_text += _distinct(cases[index].words)
                yield index, _read_text(result.text, cases[index])
            elif result.refused:
                self.refusals, self._refusal = self.refusals + 1, result.problem
                refused.append(index)
            else:
                self.failures, self._failure = self.failures + 1, result.problem
                yield index, None
            while refused and self._answered:
                yield refused.pop(), {}
        for index in refused:
            yield index, {}

    def _messages(self, case: Case) -> list[dict[str, str]]:
        return as_messages(self._prompt.messages(case))


def _distinct(words: Sequence[str]) -> bool:
    """Whether no verdict begins another one."""
    return not any(one != other and other.startswith(one) for one in words for other in words)


def _read_tokens(first: Sequence[tuple[str, float]], words: Sequence[str]) -> dict[str, float] | None:
    """The probability of each verdict by the alternatives of the first token. None where they are no verdicts.

    A tokenizer may have no token for a whole verdict. Then the one that begins it stands for it.

    >>> found = _read_tokens([("A", math.log(0.6)), ("t", math.log(0.2)), ("", math.log(0.1))], ("A", "B", "tie"))
    >>> {word: round(share, 4) for word, share in found.items()}
    {'A': 0.75, 'B': 0.0, 'tie': 0.25}
    """
    mass = dict.fromkeys(words, 0.0)
    for token, logprob in first:
        start = token.strip().strip("*\"'").lower()
        meant = [word for word in words if word.lower().startswith(start)]
        if start and len(meant) == 1:
            mass[meant[0]] += math.exp(logprob)
    total = sum(mass.values())
    return {word: share / total for word, share in mass.items()} if total >= _ENOUGH else None


def _read_text(text: str, case: Case) -> dict[str, float]:
    if len(case.answers) == 2:
        choice = read_choice(text)
        return {} if choice is None else {word: float(word == choice) for word in case.words}
    grade = read_grade(text)
    return {} if grade is None else {f"{grade:g}": 1.0}
