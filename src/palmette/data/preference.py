"""Human preferences: completions of one prompt ranked best first, and single completions judged good or bad.

Rows come from JSON Lines or a hub data set. The columns have the names that TRL uses:

- `prompt`, `chosen`, `rejected`: a pair, with an optional `margin` (how much better, 0 or more).
- `chosen`, `rejected` as whole conversations. The prompt is all but their last messages, and must be the same.
- `prompt`, `ranked`: two or more completions, best first.
- `prompt`, `completions` with `ranks` (1 = best) or `scores` (highest = best). A tie does not say which of the two is
  better, and is refused.
- `prompt`, `completion`, `label` (true or false): a verdict.

A prompt is text (a user's message), or a list of messages that ends with the user's. A completion is the text of the
assistant's completion, or a list of messages that ends with it. Messages are written as in `data/chat.py`. Other
columns are ignored. A null means the same as a missing key.

Where we deviate from TRL: text becomes a message of a chat and is not continued as it is. A completion never has
several turns. A prompt is never guessed from what two texts have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeVar

from palmette.data.chat import Part, Role, Turn, turns_of
from palmette.data.text import short
from palmette.data.values import is_number, read_id, without_nulls
from palmette.errors import DataError, kind_of_value

Reason = Literal["format", "empty", "identical", "prompt differs", "tied", "same id", "template", "too long"]
COMPARISON_COLUMNS = "Each row needs 'prompt', 'chosen' and 'rejected', or 'prompt' and 'ranked' (a list, best first)."
VERDICT_COLUMNS = "Each row needs 'prompt', 'completion' and 'label' (true or false)."
# The columns by which a row's form is known.
_FORMS = ("chosen", "ranked", "completions")


class PreferenceError(DataError):
    """A preference record that says nothing, or contradicts itself.

    Args:
        reason: the kind of problem, for counting.
        problem, way_out: see `PalmetteError`.
    """

    def __init__(self, reason: Reason, problem: str, way_out: str) -> None:
        super().__init__(problem, way_out)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Comparison:
    """Completions of one prompt, ranked by somebody.

    Attributes:
        id: an id that is unique in its data set.
        prompt: the conversation up to the completion.
        completions: two or more completions, best first.
        margin: by how much the first completion of a pair is better, on the scale of the rewards. None if unknown.
    """

    id: str
    prompt: tuple[Turn, ...]
    completions: tuple[str, ...]
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One completion of a prompt, judged good (True) or bad."""

    id: str
    prompt: tuple[Turn, ...]
    completion: str
    label: bool


Record = TypeVar("Record", Comparison, Verdict)


def parse_comparisons(rows: Iterable[dict[str, Any] | DataError], source: str) -> Iterator[Comparison | DataError]:
    """Comparisons from rows, in order. A bad row is given as its error.

    >>> row = {"id": 7, "prompt": "When?", "chosen": "At 7:40.", "rejected": "No."}
    >>> found = next(parse_comparisons([row], "a.jsonl"))
    >>> found.id, [turn_text(turn) for turn in found.prompt], found.completions
    ('7', ['When?'], ('At 7:40.', 'No.'))
    >>> print(next(parse_comparisons([{**row, "rejected": " At 7:40."}], "a.jsonl")).problem)
    a.jsonl: row 1, '7': 'chosen' and 'rejected' are the same, 'At 7:40.'
    """
    return _parse(rows, source, _comparison)


def parse_verdicts(rows: Iterable[dict[str, Any] | DataError], source: str) -> Iterator[Verdict | DataError]:
    """Verdicts from rows, in order. A bad row is given as its error.

    >>> row = {"prompt": [{"role": "user", "content": "When?"}], "completion": "At 7:40.", "label": True}
    >>> found = next(parse_verdicts([row], "a.jsonl"))
    >>> found.id, found.completion, found.label
    ('row-1', 'At 7:40.', True)
    """
    return _parse(rows, source, _verdict)


def _parse(
    rows: Iterable[dict[str, Any] | DataError], source: str, build: Callable[[dict[str, Any], str, str], Record]
) -> Iterator[Record | DataError]:
    seen: dict[str, int] = {}
    for number, given in enumerate(rows, start=1):
        if isinstance(given, DataError):
            yield given
            continue
        row = without_nulls(given)
        try:
            identifier = str(read_id(row.get("id", f"row-{number}"), f"{source}: row {number}"))
            where = f"{source}: row {number}, {identifier!r}"
            if identifier in seen:
                raise PreferenceError(
                    "same id", f"{where} has the id of row {seen[identifier]}", "Give every record an id of its own."
                )
            yield build(row, identifier, where)
        except DataError as error:
            yield error
            continue
        seen[identifier] = number


def _comparison(row: dict[str, Any], identifier: str, where: str) -> Comparison:
    sides = _ordered_sides(row, where)
    prompt, texts = _prompt_and_texts(row.get("prompt"), sides, where)
    names = [name for name, _ in sides]
    stripped = [text.strip() for text in texts]
    for index, text in enumerate(stripped):
        if text in stripped[:index]:
            twin = names[stripped.index(text)]
            raise PreferenceError(
                "identical",
                f"{where}: {twin!r} and {names[index]!r} are the same, {short(text)}",
                "Take the record out, or one of the two.",
            )
    return Comparison(identifier, prompt, tuple(texts), _margin(row.get("margin"), len(texts), where))


def _verdict(row: dict[str, Any], identifier: str, where: str) -> Verdict:
    label = row.get("label")
    if row.get("completion") is None or not isinstance(label, bool):
        has_completion = row.get("completion") is not None
        what = f"'label' is {short(label)}, not true or false" if has_completion else "no 'completion'"
        raise PreferenceError("format", f"{where}: {what}", VERDICT_COLUMNS)
    prompt, (text,) = _prompt_and_texts(row.get("prompt"), [("completion", row["completion"])], where)
    return Verdict(identifier, prompt, text, label)


def _ordered_sides(row: dict[str, Any], where: str) -> list[tuple[str, Any]]:
    """The sides that a row compares, best first, each with its name for messages."""
    forms = [name for name in _FORMS if row.get(name) is not None]
    if len(forms) != 1:
        what = "both " + " and ".join(map(repr, forms)) if forms else "none of 'chosen', 'ranked' and 'completions'"
        raise PreferenceError("format", f"{where} has {what}", COMPARISON_COLUMNS)
    (form,) = forms
    if form == "chosen":
        return [("chosen", row["chosen"]), ("rejected", row.get("rejected"))]
    values = row[form]
    if not isinstance(values, list) or len(values) < 2:
        what = f"{len(values)} in a list" if isinstance(values, list) else kind_of_value(values)
        raise PreferenceError("format", f"{where}: {form!r} is {what}, not a list of two or more", COMPARISON_COLUMNS)
    sides = [(f"{form} {number}", side) for number, side in enumerate(values, start=1)]
    return sides if form == "ranked" else [sides[index] for index in _order(row, len(sides), where)]


def _order(row: dict[str, Any], count: int, where: str) -> list[int]:
    """The indices of `completions`, best first, by `ranks` or `scores`."""
    given = [name for name in ("ranks", "scores") if row.get(name) is not None]
    if len(given) != 1:
        raise PreferenceError(
            "format",
            f"{where}: 'completions' has {' and '.join(map(repr, given)) or 'neither ranks nor scores'} beside it",
            "Give either 'ranks' (1 = best) or 'scores' (highest = best).",
        )
    values = row[given[0]]
    if not isinstance(values, list) or len(values) != count or not all(map(is_number, values)):
        raise PreferenceError(
            "format",
            f"{where}: {given[0]!r} is {short(values)}, not a list of {count} finite numbers",
            "Give one number for each of the 'completions'.",
        )
    order = sorted(range(count), key=lambda index: values[index], reverse=given[0] == "scores")
    for index, other in pairwise(order):
        if values[index] == values[other]:
            raise PreferenceError(
                "tied",
                f"{where}: completions {min(index, other) + 1} and {max(index, other) + 1} are tied, "
                f"{given[0]!r} {values[index]}",
                "Keep one of those that are tied. A tie does not say which is better.",
            )
    return order


def _prompt_and_texts(prompt: Any, sides: list[tuple[str, Any]], where: str) -> tuple[tuple[Turn, ...], list[str]]:
    """The prompt that all sides share, and the text of each."""
    prompts: list[tuple[str, tuple[Turn, ...]]] = []
    if prompt is not None:
        prompts.append(("prompt", _turns(prompt, "user", f"{where}, in 'prompt'")))
    texts = []
    for name, side in sides:
        *before, completion = _turns(side, "assistant", f"{where}, in {name!r}")
        if completion.role != "assistant":
            raise PreferenceError(
                "format",
                f"{where}: {name!r} ends with the message of the {completion.role}",
                "It must be the assistant's.",
            )
        if before or prompt is None:
            prompts.append((name, tuple(before)))
        texts.append(turn_text(completion))
    (name, shared), *others = prompts
    for other, turns in others:
        if turns != shared:
            raise PreferenceError(
                "prompt differs",
                f"{where}: the prompt of {other!r} is not that of {name!r}: {_difference(turns, shared)}",
                "Completions are compared under one prompt, and each side has one completion.",
            )
    if not shared or shared[-1].role != "user":
        last = f"ends with the message of the {shared[-1].role}" if shared else "is missing"
        raise PreferenceError("format", f"{where}: the prompt {last}", "Give a 'prompt' that ends with the user's.")
    return shared, texts


def _turns(value: Any, role: Role, where: str) -> tuple[Turn, ...]:
    """Text as one turn of this role, or messages as turns. Each turn has one part, and none is empty."""
    messages = value if isinstance(value, list) else [{"content": value}]
    for message in messages:
        held = message.get("content", message.get("value")) if isinstance(message, dict) else message
        if held == [] or (isinstance(held, str) and not held.strip()):
            raise PreferenceError("empty", f"{where} is empty, or holds an empty message", "Take the record out.")
    if not messages:
        raise PreferenceError("empty", f"{where} is an empty list", "Take the record out.")
    turns = turns_of(value, role, where)
    for turn in turns:
        if any(part.learn is not None or not part.attend for part in turn.parts):
            raise PreferenceError(
                "format", f"{where} has 'learn' or 'attend' in it", "Preferences have no masks. Take them out."
            )
    return tuple(Turn(turn.role, (Part(turn_text(turn)),)) for turn in turns)


def turn_text(turn: Turn) -> str:
    """The text of a turn, all of its parts together."""
    return "".join(part.text for part in turn.parts)


def _margin(value: Any, count: int, where: str) -> float | None:
    if value is None:
        return None
    if count != 2:
        raise PreferenceError("format", f"{where} has a 'margin' and {count} completions", "Margins are for pairs.")
    if not is_number(value) or value < 0:
        raise PreferenceError(
            "format", f"{where}: 'margin' is {short(value)}", "Give a number, 0 or more: how much better 'chosen' is."
        )
    return float(value)


def _difference(turns: tuple[Turn, ...], shared: tuple[Turn, ...]) -> str:
    """The first difference between two prompts."""
    if len(turns) != len(shared):
        return f"{len(turns)} messages and {len(shared)}"
    index = next(index for index, (a, b) in enumerate(zip(turns, shared, strict=True)) if a != b)
    one, other = (f"{short(turn_text(side[index]))} ({side[index].role})" for side in (turns, shared))
    return f"message {index + 1} is {one} and {other}"
