"""Variations of a prompt's instruction, written by a teacher behind an endpoint.

The teacher sees the instruction, its exact match, some questions that were answered wrongly under it, and other
instructions with their figures. The last part is the idea of OPRO (Yang et al., 2023). Or it sees two instructions and
joins them, as in EvoPrompt (Guo et al., 2023). Documents are not sent. Only the instruction is varied, so completions
are read as before.

What the teacher writes is text. It is read out of a pair of tags, and refused for the first reason in `REASONS` that
applies. *Not* covered: whether the instruction makes sense, which the questions show.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from palmette.data.text import without_thoughts
from palmette.endpoint.client import Client
from palmette.endpoint.completion import Completion
from palmette.endpoint.errors import RequestError

REASONS = {
    "failed": "the server would not answer the request",
    "cut off": "the completion was cut at max_tokens",
    "refused": "the completion is empty, or is marked as refused or filtered by the server",
    "no instruction": "no text stands between <instruction> and </instruction>",
    "odd characters": "the instruction holds control characters",
    "too long": "the instruction has more words than the limit",
}
SYSTEM = (
    "You improve the instruction of a small language model. The model gets the instruction, a document and a question. "
    "It copies the answer from the document, or says that the document does not answer. You write one new version of "
    "the instruction. Keep what it says about the form of the reply, letter for letter. Put in no question, answer or "
    "fact from the examples: the new version is used on other documents. Close with the new version between "
    "<instruction> and </instruction>."
)
# One of them is asked for in turn, so that equal requests are rare.
DIRECTIONS = (
    "Correct what causes most of these mistakes.",
    "Say the same in fewer and simpler words.",
    "Say more exactly when the document answers the question and when it does not.",
    "Say more exactly where an answer begins and where it ends.",
    "Put the sentences in another order, the most important one last.",
)
# What is asked for where two instructions are joined.
JOINING = "Join them: keep from each what makes it right where the other one is wrong."
_INSTRUCTION = re.compile(r"<instruction>(.*?)</instruction>", re.DOTALL | re.IGNORECASE)
_LONGEST_REPLY = 300  # characters of a model's reply that are shown


@dataclass(frozen=True, slots=True)
class Failure:
    """A question that was answered wrongly.

    Attributes:
        question: the question.
        right: the right answer. "" where the document does not answer.
        reply: what the model wrote.
        fault: what is wrong with it, as a sentence.
    """

    question: str
    right: str
    reply: str
    fault: str


@dataclass(frozen=True, slots=True)
class VariationRequest:
    """What a teacher is asked.

    Attributes:
        instruction: the instruction to vary.
        exact: its exact match, in percent.
        failures: some questions that were answered wrongly under it.
        others: other instructions with their exact match.
        direction: what kind of change is asked for, one of `DIRECTIONS`, or `JOINING`.
        partner: the instruction that it is joined with, and its exact match. None if it is varied alone.
    """

    instruction: str
    exact: float
    failures: Sequence[Failure]
    others: Sequence[tuple[str, float]]
    direction: str
    partner: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Variation:
    """What a teacher wrote.

    Attributes:
        instruction: the new instruction. "" if there is none, or if it is refused.
        reason: why it is refused, a key of `REASONS`. "" if it is not.
        completion: what the teacher wrote, or why it wrote nothing.
    """

    instruction: str
    reason: str
    completion: str


class PromptTeacher:
    """A teacher that writes variations.

    Args:
        client: the client of its server.
        max_words: longer instructions are refused.

    Attributes:
        name: the model's name on its server.
        identity: what the variations depend on, as far as the server says it.
    """

    def __init__(self, client: Client, max_words: int) -> None:
        endpoint = client.endpoint
        self._client, self._max_words, self.name = client, max_words, endpoint.model
        self.identity = {
            "endpoint": client.about()["endpoint"],
            "model": endpoint.model,
            "parameters": dict(endpoint.parameters),
            "max_words": max_words,
            "request_sha256": hashlib.sha256("\0".join((SYSTEM, *DIRECTIONS, JOINING)).encode()).hexdigest(),
        }

    def write(self, requests: Sequence[VariationRequest]) -> Iterator[tuple[int, Variation]]:
        """Yield the index of every request with what the teacher wrote, in the order in which they are answered.

        Raises:
            EndpointError: the server cannot be used.
        """
        for index, result in self._client.complete_all([variation_messages(request) for request in requests]):
            yield index, read_variation(result, self._max_words)


def variation_messages(request: VariationRequest) -> list[dict[str, str]]:
    """The request for one variation."""
    parts = [f"The instruction now, with {request.exact:.1f} % right answers:\n{request.instruction}"]
    if request.partner is not None:
        text, exact = request.partner
        parts.append(f"A second instruction, with {exact:.1f} % right answers:\n{text}")
    for failure in request.failures:
        right = failure.right or "(the document does not answer)"
        reply = failure.reply[:_LONGEST_REPLY] or "(nothing)"
        parts.append(f"Question: {failure.question}\nRight answer: {right}\nReply: {reply}\nMistake: {failure.fault}")
    parts += [f"Another instruction, with {exact:.1f} % right answers:\n{text}" for text, exact in request.others]
    which = "the first instruction" if request.partner is None else "these two instructions"
    parts.append(f"Write one new version of {which}. {request.direction}")
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n\n".join(parts)}]


def read_variation(result: Completion | RequestError, max_words: int) -> Variation:
    """Read a new instruction out of a teacher's completion, see `REASONS`.

    Args:
        result: the completion, or why there is none.
        max_words: longer instructions are refused.
    """
    if isinstance(result, RequestError):
        return Variation("", "failed", result.problem)
    text = without_thoughts(result.text).strip()
    if result.truncated:
        return Variation("", "cut off", text)
    if result.refusal.strip() or result.finish_reason == "content_filter" or not text:
        return Variation("", "refused", text or result.refusal)
    found = _INSTRUCTION.findall(text)
    instruction = found[-1].strip() if found else ""
    reason = ""
    if not instruction:
        reason = "no instruction"
    elif not all(character.isprintable() or character == "\n" for character in instruction):
        reason = "odd characters"
    elif len(instruction.split()) > max_words:
        reason = "too long"
    return Variation("" if reason else instruction, reason, text)
