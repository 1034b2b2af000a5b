"""Records as the rows of other trainers: TRL's, OpenAI's fine-tuning files, and tokens with a weight for each.

Rows of tokens hold exactly what palmette learns. Rows of text hold what their format can say: that a whole turn of the
assistant is learned or not. A weight between 0 and 1, and weights of parts of a turn, are rounded up and counted.

TRL learns every token of a row of `messages`, the template's and the user's too, unless its assistant_only_loss is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from palmette.data.chat import Conversation, Turn
from palmette.data.preference import Comparison, Verdict, turn_text
from palmette.data.records import Document
from palmette.errors import DataError
from palmette.tasks.extractive_qa import ExtractiveQa, learned_answer
from palmette.tasks.qa_prompt import ABSTAIN, QaPrompt
from palmette.tree.prefix_tree import Node, PrefixTree

Row = dict[str, Any]
Record = Document | Conversation | Comparison | Verdict
IGNORED = -100  # the label of a token that is not learned, as torch's cross-entropy has it


@dataclass(frozen=True, slots=True)
class Exported:
    """A row, and whether it says less than the record.

    Attributes:
        row: the row.
        rounded: whether weights in it were rounded up to 1.
    """

    row: Row
    rounded: bool = False


def text_rows(records: Sequence[Record], target: Literal["trl", "openai"], prompt: QaPrompt) -> Iterator[Exported]:
    """Records as rows of text.

    TRL's rows of `messages` say that all turns of the assistant are learned. If a conversation among the records does
    not learn all of them, every conversation becomes rows of prompt and completion, one for each turn that is learned,
    so that all rows have the same columns.

    Args:
        records: the records. A document gives a row for each question.
        target: "trl" or "openai".
        prompt: the prompt of questions about documents.

    Raises:
        DataError: the format has no place for a record.
    """
    conversations = [record for record in records if isinstance(record, Conversation)]
    apart = any(_learned_turns(one) != _said_turns(one) for one in conversations)
    for record in records:
        if isinstance(record, Conversation):
            yield from _of_conversation(record, target, apart)
        else:
            yield from _of_other(record, target, prompt)


def plain_rows(texts: Sequence[str], target: Literal["trl", "openai"]) -> Iterator[Exported]:
    """Texts as rows, of which every token is learned.

    Raises:
        DataError: the format has no place for texts.
    """
    if texts and target == "openai":
        raise DataError("OpenAI's files have no place for texts without turns", "Use --format trl or --format tokens.")
    yield from (Exported({"text": text}) for text in texts)


def _of_other(record: Document | Comparison | Verdict, target: str, prompt: QaPrompt) -> Iterator[Exported]:
    if isinstance(record, Document):
        yield from _of_document(record, target, prompt)
    elif isinstance(record, Comparison):
        if len(record.completions) != 2:
            raise DataError(f"record {record.id!r} ranks {len(record.completions)} completions", "Give pairs.")
        yield Exported(_of_pair(record, target))
    elif target == "openai":
        raise DataError("OpenAI's files have no place for verdicts on single completions", "Use --format trl.")
    else:
        row = {"prompt": _messages(record.prompt), "completion": [_message("assistant", record.completion)]}
        yield Exported({**row, "label": record.label})


def token_rows(trees: Sequence[PrefixTree]) -> Iterator[Row]:
    """Trees as rows of tokens, one for each branch, which repeats what is above it.

    A token that several branches share is learned in the first of them only, so that it counts once. `labels` are for
    trainers that know only whether a token is learned, `weights` say how much.

    >>> from palmette.tree.segments import Segment
    >>> trunk, leaf = (Segment((5, 6)),), lambda token: Node((Segment((token,), learn=0.5),))
    >>> rows = list(token_rows([PrefixTree(Node(trunk, (leaf(7), leaf(8))))]))
    >>> rows[1]["input_ids"], rows[1]["labels"], rows[1]["weights"]
    ([5, 6, 8], [-100, -100, 8], [0.0, 0.0, 0.5])
    """
    for tree in trees:
        yield from _branches(tree.root, [], [])


def _branches(node: Node, tokens: list[int], weights: list[float]) -> Iterator[Row]:
    for segment in node.segments:
        if not segment.attend:
            raise DataError(
                "a placeholder that later tokens may not look at has no place in rows of tokens",
                "Use a recipe whose reasoning.kind is none or rationale.",
            )
        tokens = [*tokens, *segment.tokens]
        weights = [*weights, *[segment.learn] * len(segment.tokens)]
    if node.name or not node.children:
        labels = [token if weight else IGNORED for token, weight in zip(tokens, weights, strict=True)]
        yield {"input_ids": tokens, "labels": labels, "weights": weights}
        weights = [0.0] * len(weights)
    for child in node.children:
        yield from _branches(child, tokens, weights)
        weights = [0.0] * len(weights)


def _of_document(document: Document, target: str, prompt: QaPrompt) -> Iterator[Exported]:
    if prompt.two_turns:
        raise DataError(
            "a prompt of two turns cannot be written as one answer", "Use --format tokens or another prompt."
        )
    before = prompt.before_document + "".join(text for text, _ in prompt.documents(document.text.strip()))
    for question in document.questions:
        found = learned_answer(question)
        answer = ABSTAIN if found is None else prompt.blank(document.text, found.start) + found.text
        asked = before + prompt.before_question + question.text.strip() + prompt.after_question
        turns = [_message("system", prompt.system), _message("user", asked)]
        completion = [_message("assistant", prompt.completion(answer))]
        yield Exported({"id": question.id, **_pair_of_turns(turns, completion, target)})


def _of_conversation(record: Conversation, target: str, apart: bool) -> Iterator[Exported]:
    learned = [_learned(record, index) for index in range(len(record.turns))]
    rounded = any(weight not in (0.0, 1.0) for one in learned for weight in one)
    rounded |= any(len(set(one)) > 1 for one in learned)
    beside = [index for index, turn in enumerate(record.turns) if turn.role != "assistant" and any(learned[index])]
    if beside:
        raise DataError(
            f"conversation {record.id!r} learns turn {beside[0] + 1}, which is of the {record.turns[beside[0]].role}, "
            "and rows of text learn only what the assistant says",
            "Use --format tokens.",
        )
    messages, whole = _messages(record.turns), _learned_turns(record)
    if target == "openai":
        for index in _said_turns(record):
            messages[index]["weight"] = int(index in whole)
        yield Exported({"messages": messages}, rounded)
    elif not whole:
        raise DataError(
            f"conversation {record.id!r} learns no turn, and TRL's rows learn one or more",
            "Take it out, or use --format openai or --format tokens.",
        )
    elif not apart:
        yield Exported({"id": record.id, "messages": messages}, rounded)
    else:
        for index in whole:
            name = record.id if len(whole) == 1 else f"{record.id}/{index + 1}"
            pair = _pair_of_turns(messages[:index], messages[index : index + 1], "trl")
            yield Exported({"id": name, **pair}, rounded)


def _said_turns(record: Conversation) -> list[int]:
    """The places of the assistant's turns."""
    return [index for index, turn in enumerate(record.turns) if turn.role == "assistant"]


def _learned_turns(record: Conversation) -> list[int]:
    """The places of those of the assistant's turns of which something is learned."""
    return [index for index in _said_turns(record) if any(_learned(record, index))]


def _learned(record: Conversation, index: int) -> tuple[float, ...]:
    """The weights of the parts of a turn: what they say themselves, and else all of the assistant but the prompt."""
    turn = record.turns[index]
    default = float(turn.role == "assistant" and index >= record.prompt_turns)
    return tuple((default if part.attend else 0.0) if part.learn is None else part.learn for part in turn.parts)


def _of_pair(record: Comparison, target: str) -> Row:
    better, worse = ([_message("assistant", text)] for text in record.completions)
    if target == "openai":
        given = {"messages": _messages(record.prompt), "tools": [], "parallel_tool_calls": True}
        return {"input": given, "preferred_output": better, "non_preferred_output": worse}
    return {"id": record.id, "prompt": _messages(record.prompt), "chosen": better, "rejected": worse}


def _pair_of_turns(prompt: list[Row], completion: list[Row], target: str) -> Row:
    if target == "trl":
        return {"prompt": prompt, "completion": completion}
    unlearned = [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in prompt]
    return {"messages": [*unlearned, *({**turn, "weight": 1} for turn in completion)]}


def _messages(turns: Sequence[Turn]) -> list[Row]:
    return [_message(turn.role, turn_text(turn)) for turn in turns]


def _message(role: str, content: str) -> Row:
    return {"role": role, "content": content}


def trees_of(
    records: Sequence[Record], task: ExtractiveQa, chat: Callable[[Sequence[Conversation]], list[PrefixTree]]
) -> list[PrefixTree]:
    """The training trees of records that are fine-tuned on.

    Args:
        records: documents and conversations.
        task: builds the trees of documents.
        chat: builds those of conversations.

    Raises:
        DataError: a record is a preference, which has no single completion to learn.
    """
    other = next((record for record in records if isinstance(record, Comparison | Verdict)), None)
    if other is not None:
        raise DataError(f"record {other.id!r} is a preference, which no row of tokens holds", "Use --format trl.")
    documents = [record for record in records if isinstance(record, Document)]
    conversations = [record for record in records if isinstance(record, Conversation)]
    return [*(task.training_tree(one) for one in documents if one.questions), *chat(conversations)]
