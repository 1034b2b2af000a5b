"""Forms in which people have conversations and preferences, and how each becomes a row as `data/chat.py` and
`data/preference.py` read it.

A form is known by the keys of a row. A row of no known form stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from palmette.data.message_trees import is_tree, tree_rows, trees_of_messages
from palmette.data.values import without_nulls
from palmette.errors import DataError

Row = dict[str, Any]
# Names of the assistant and of the user in ShareGPT files of different origin.
_SPEAKERS = {
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "prompter": "user",
    "instruction": "user",
    "developer": "system",
}
# Where turns stand, the first that is there counts. The first two are ours.
_TURNS = ("messages", "conversations", "conversation", "items", "dialog", "dialogue")
# Columns that our readers know. A row that has them is read by them, whatever else it has.
_COMPARED = ("chosen", "ranked", "completions")
_OURS = ("messages", "conversations")
# Every column of our readers and of the forms below, which `data.columns` may map.
COLUMNS = (
    frozenset((*_COMPARED, *_TURNS))
    | {"id", "text", "prompt", "completion", "rejected", "ranks", "scores", "margin", "label", "system"}
    | {"instruction", "instances", "input", "context", "history", "output", "response", "data"}
    | {"preferred_output", "non_preferred_output", "message_id", "parent_id", "role", "deleted", "review_result"}
)


@dataclass(frozen=True)
class Form:
    """A form of rows.

    Attributes:
        name: what people call it.
        keys: its keys, for messages.
        shows: whether a row without nulls is of this form.
        rows: the rows that it stands for.
    """

    name: str
    keys: str
    shows: Callable[[Row], bool]
    rows: Callable[[Row], list[Row]]


def _turn(role: str, content: Any) -> Row:
    return {"role": role, "content": content}


def _rest(row: Row, *used: str) -> Row:
    """What else a row has, such as its id."""
    return {key: value for key, value in row.items() if key not in used}


def _instruction(row: Row) -> list[Row]:
    """Alpaca, with `system` and `history` as LLaMA-Factory has them, and Dolly with `context` and `response`."""
    asked = "\n\n".join(part for part in (row["instruction"], row.get("input") or row.get("context")) if part)
    turns = [_turn("system", row["system"])] if row.get("system") else []
    for pair in row.get("history") or []:
        turns += [_turn("user", pair[0]), _turn("assistant", pair[1])]
    turns.append(_turn("user", asked))
    rest = _rest(
        row, "instruction", "input", "context", "system", "history", "output", "response", "chosen", "rejected"
    )
    if "chosen" in row:
        return [{**rest, "prompt": turns, "chosen": row["chosen"], "rejected": row["rejected"]}]
    return [{**rest, "messages": [*turns, _turn("assistant", row.get("output", row.get("response")))]}]


def _instances(row: Row) -> list[Row]:
    """Self-Instruct: an instruction with several inputs and outputs."""
    rest = _rest(row, "instances", "id")
    return [
        {**made, "id": f"{row['id']}/{number}"} if "id" in row else made
        for number, instance in enumerate(row["instances"], 1)
        for made in _instruction({**rest, "input": instance.get("input", ""), "output": instance.get("output")})
    ]


def _spoken(row: Row) -> list[Row]:
    """ShareGPT and its kin: `from` and `value`, other names of roles, a system message beside the turns, and `weight`
    as in OpenAI's files.
    """
    key = next(name for name in _TURNS if isinstance(row.get(name), list))
    turns = [_named(turn) for turn in row[key]]
    rest = _rest(row, key)
    if isinstance(rest.get("system"), str) and turns[0].get("role") != "system":
        turns = [_turn("system", rest.pop("system")), *turns]
    if "chosen" in row and "rejected" in row:
        return [{**rest, "prompt": turns}]
    if isinstance(row.get("label"), bool):
        return [{**rest, "prompt": turns[:-1], "completion": turns[-1:]}]
    return [{**rest, "messages": turns}]


def _named(turn: Any) -> Any:
    """A turn with `role`, `content` and `learn`. What is no turn stays as it is, and is refused by the reader."""
    if not isinstance(turn, dict):
        return turn
    name = turn.get("role", turn.get("from"))
    if not isinstance(name, str):
        return turn
    named = {**_rest(turn, "role", "from", "value"), "role": _SPEAKERS.get(name.lower(), name)}
    if "value" in turn and "content" not in turn:
        named["content"] = turn["value"]
    if "weight" in named:
        named["learn"] = named.pop("weight")  # the reader checks it
    return named


def _alternating(row: Row) -> list[Row]:
    """UltraChat's first release: a list of texts, the user's first."""
    roles = ("user", "assistant")
    turns = [_turn(roles[number % 2], text) for number, text in enumerate(row["data"])]
    return [{**_rest(row, "data"), "messages": turns}]


def _openai_pair(row: Row) -> list[Row]:
    sides = {"chosen": row["preferred_output"], "rejected": row["non_preferred_output"]}
    rest = _rest(row, "input", "preferred_output", "non_preferred_output")
    return [{**rest, "prompt": row["input"]["messages"], **sides}]


def _response(row: Row) -> list[Row]:
    return [{**_rest(row, "response"), "completion": row["response"]}]


def _is_spoken(row: Row) -> bool:
    """Whether the turns of a row need another name or place than ours have."""
    key = next((name for name in _TURNS if isinstance(row.get(name), list)), None)
    if key is None or not row[key] or not all(isinstance(turn, dict) for turn in row[key]):
        return False
    odd = any(str(turn.get("role", turn.get("from"))).lower() in _SPEAKERS or "weight" in turn for turn in row[key])
    beside = isinstance(row.get("system"), str) or isinstance(row.get("label"), bool) or "chosen" in row
    return odd or beside or key not in ("messages", "conversations")


FORMS: tuple[Form, ...] = (
    Form("Self-Instruct", "instruction, instances", lambda row: _has(row, "instruction", "instances"), _instances),
    Form(
        "Alpaca with preferences",
        "instruction, input, chosen, rejected",
        lambda row: _has(row, "instruction", "chosen", "rejected"),
        _instruction,
    ),
    Form("Alpaca", "instruction, input, output", lambda row: _has(row, "instruction", "output"), _instruction),
    Form("Dolly", "instruction, context, response", lambda row: _has(row, "instruction", "response"), _instruction),
    Form("OpenAssistant trees", "prompt with replies", is_tree, tree_rows),
    Form(
        "OpenAI preferences",
        "input, preferred_output, non_preferred_output",
        lambda row: _has(row, "input", "preferred_output", "non_preferred_output"),
        _openai_pair,
    ),
    Form("ShareGPT", "conversations (from, value), with system, label, chosen or weights", _is_spoken, _spoken),
    Form(
        "UltraChat",
        "data (a list of texts)",
        lambda row: isinstance(row.get("data"), list) and all(isinstance(text, str) for text in row["data"]),
        _alternating,
    ),
    Form("prompt and response", "prompt, response", lambda row: _has(row, "prompt", "response"), _response),
)


def _has(row: Row, *keys: str) -> bool:
    return all(key in row for key in keys)


def form_of(row: Row) -> Form | None:
    """The form of a row. None if it is one that needs no change.

    >>> form_of({"instruction": "Say so.", "input": "", "output": "So."}).name
    'Alpaca'
    >>> form_of({"prompt": "When?", "completion": "At 7:40."}) is None
    True
    """
    present = _present(row)
    ours = any(key in present for key in _OURS)
    if "prompt" in present:
        alone = not ours or isinstance(present.get("label"), bool)
        if any(key in present for key in _COMPARED) or ("completion" in present and alone):
            return None
    return next((form for form in FORMS if (not ours or form.shows is _is_spoken) and form.shows(present)), None)


def _present(row: Row) -> Row:
    """A row without nulls. A tree may be deeper than Python calls functions, and its reader passes over its nulls."""
    return {key: value for key, value in row.items() if value is not None} if is_tree(row) else without_nulls(row)


def standard_rows(
    rows: Iterable[Row | DataError], columns: Mapping[str, str] | None = None
) -> Iterator[Row | DataError]:
    """Rows in the forms that palmette's readers know. Errors among them are passed on.

    >>> list(standard_rows([{"instruction": "Add.", "input": "1 + 1", "output": "2"}]))[0]["messages"][0]["content"]
    'Add.\\n\\n1 + 1'

    Args:
        rows: the rows.
        columns: the names of columns that the data call otherwise, as {ours: theirs}. They are renamed first. A column
            of theirs that has one of our names, and is not meant, is left out.

    Raises:
        DataError: see `check_columns`.
    """
    check_columns(columns or {})
    return _standard_rows(rows, columns)


def check_columns(columns: Mapping[str, str], known: Collection[str] = COLUMNS) -> None:
    """Refuse names of columns that no reader has.

    Args:
        columns: {ours: theirs}.
        known: the names that there are.

    Raises:
        DataError: one of ours is not known. The message names the nearest.
    """
    for name in columns:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise DataError(
                f"no reader has a column {name!r}, which is said to be {columns[name]!r} in the data",
                f"{f'Did you mean {near[0]!r}? ' if near else ''}Known: {', '.join(sorted(known))}.",
            )


def _standard_rows(rows: Iterable[Row | DataError], columns: Mapping[str, str] | None) -> Iterator[Row | DataError]:
    renamed = (_renamed(row, columns) if isinstance(row, dict) and columns else row for row in rows)
    for row in trees_of_messages(renamed):
        if isinstance(row, DataError):
            yield row
            continue
        row = _with_lists(row)
        form = form_of(row)
        if form is None:
            yield row
            continue
        try:
            yield from form.rows(_present(row))
        except (TypeError, AttributeError, KeyError, IndexError, ValueError):
            yield row  # not of the form after all: the reader says what is wrong with it


def _with_lists(row: Row) -> Row:
    """A row in which a completion that is one turn has become a list of it."""
    single = {
        key: [_named(row[key])]
        for key in ("completion", "chosen", "rejected")
        if isinstance(row.get(key), dict) and {"role", "from"} & row[key].keys()
    }
    return {**row, **single}


def _renamed(row: Row, columns: Mapping[str, str]) -> Row:
    """A row with our names of columns. Without a column that the data do not have, the row stays as it is."""
    taken = {theirs: ours for ours, theirs in columns.items() if theirs in row}
    kept = {key: value for key, value in row.items() if key not in taken and key not in taken.values()}
    return {**kept, **{ours: row[theirs] for theirs, ours in taken.items()}}
