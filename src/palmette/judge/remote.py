"""A model behind an endpoint as a judge.

Where the server gives log-probabilities, one token is asked for, and the probabilities of the verdicts are read off
its alternatives. "A", " A" and "a" are one verdict. That needs verdicts of which none begins another, so "1" and "10"
are read from the text. Without log-probabilities the model writes, and its text is read by the rule of lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from palmette.endpoint.client import Client
from palmette.endpoint.completion import Completion
from palmette.endpoint.errors import RequestError
from palmette.endpoint.settings import Endpoint
from palmette.judge.text import read_choice, read_grade
from palmette.judge.wording import Case, JudgePrompt, as_messages

TEXT_TOKENS = 512
_ALTERNATIVES = 20
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
        failures: requests that failed. Their verdicts count as unread, and they are asked again next time.
        used_text: whether verdicts were read from text.

    Raises:
        EndpointError: the URL, a parameter or the key's variable is not valid.
    """

    def __init__(self, endpoint: Endpoint, prompt: JudgePrompt) -> None:
        self.name, self.endpoint, self._prompt = endpoint.model, endpoint, prompt
        self.failures, self.used_text = 0, False
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

    def odds(self, cases: Sequence[Case]) -> Iterator[tuple[int, Mapping[str, float] | None]]:
        """The index of each case with the probability of each verdict, {} if it was unread, None if the request failed.

        Raises:
            EndpointError: the server cannot be used.
        """
        in_tokens = [index for index, case in enumerate(cases) if _distinct(case.words)]
        in_text = [index for index, case in enumerate(cases) if not _distinct(case.words)]
        if in_tokens and not self._gives_tokens(cases[in_tokens[0]]):
            in_text, in_tokens = list(range(len(cases))), []
        for place, result in self._tokens.complete_all([self._messages(cases[index]) for index in in_tokens]):
            index = in_tokens[place]
            found = None if isinstance(result, RequestError) else _read_tokens(result, cases[index].words)
            if found is None:
                in_text.append(index)
            else:
                yield index, found
        self.used_text = self.used_text or bool(in_text)
        for place, result in self._text.complete_all([self._messages(cases[index]) for index in in_text]):
            index = in_text[place]
            if isinstance(result, RequestError):
                self.failures += 1
                yield index, None
            else:
                yield index, _read_text(result.text, cases[index])

    def _gives_tokens(self, case: Case) -> bool:
        """Whether the server gives log-probabilities. Some refuse the request, some ignore that part of it."""
        try:
            return bool(self._tokens.complete(self._messages(case)).first)
        except RequestError:
            return False

    def _messages(self, case: Case) -> list[dict[str, str]]:
        return as_messages(self._prompt.messages(case))


def _distinct(words: Sequence[str]) -> bool:
    """Whether no verdict begins another one."""
    return not any(one != other and other.startswith(one) for one in words for other in words)


def _read_tokens(completion: Completion, words: Sequence[str]) -> dict[str, float] | None:
    """The probability of each verdict by the alternatives of the first token. None where they are no verdicts."""
    folded = {word.lower(): word for word in words}
    mass = dict.fromkeys(words, 0.0)
    for token, logprob in completion.first:
        word = folded.get(token.strip().strip("*\"'").lower())
        if word is not None:
            mass[word] += math.exp(logprob)
    total = sum(mass.values())
    return {word: share / total for word, share in mass.items()} if total >= _ENOUGH else None


def _read_text(text: str, case: Case) -> dict[str, float]:
    if len(case.answers) == 2:
        choice = read_choice(text)
        return {} if choice is None else {word: float(word == choice) for word in case.words}
    grade = read_grade(text)
    return {} if grade is None else {f"{grade:g}": 1.0}
