"""Conversations as prefix trees. The conversation so far is the trunk, and the assistant's next turn is a branch.

Every token carries the weight of its part of the record. Parts are tokenised separately, so that no token straddles two
of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from palmette.data.chat import Conversation, Part, Turn
from palmette.errors import DataError, TemplateError
from palmette.tasks.weights import Learn, check_weights, spare_first
from palmette.tree.chat import ChatTemplate, Message, Piece
from palmette.tree.joined import Sequel, join
from palmette.tree.prefix_tree import PrefixTree
from palmette.tree.segments import Segment

# A token belongs to the template, to a turn, or to the tokens that end an assistant's turn.
KINDS = ("template", "system", "user", "assistant", "end")
_COMPLETION = {"assistant": 1.0, "end": 1.0}


class Chat:
    """Builds trees of conversations for one chat template.

    The weight that a part of the record has (`learn`) comes before `learn` here. The tokens that end an assistant's
    turn carry the largest weight in it, or that of the kind `end` where weights are given by kind. If the turn's parts
    say that none of it is learned, its end is not learned either.

    Args:
        template: the model's chat template.
        learn: the tokens to learn. "full" stands for every token, "assistant" for all turns of the assistant but those
            that belong to a prompt, and "answer" for the last turn. Weights by kind (`KINDS`, 0 for those left out)
            hold for the turns that "assistant" learns. Parts with attend = False are not learned unless they say so.

    Raises:
        DataError: `learn` has an unknown kind, a weight below 0, or none above it.
    """

    def __init__(self, template: ChatTemplate, learn: Learn = "assistant") -> None:
        self.template = template
        self._learn = learn if isinstance(learn, str) else "assistant"
        self._by_kind = not isinstance(learn, str)
        presets = {"full": dict.fromkeys(KINDS, 1.0), "assistant": _COMPLETION, "answer": _COMPLETION}
        self._weights = presets[learn] if isinstance(learn, str) else dict(learn)
        check_weights(self._weights, KINDS)

    def segments(self, conversation: Conversation) -> list[Segment]:
        """A conversation as segments with their weights.

        Raises:
            DataError: nothing in it is learned.
            TemplateError: the chat template does not take it. The message names the conversation.
        """
        messages = [self._message(conversation, index) for index in range(len(conversation.turns))]
        try:
            segments = self.template.segments(messages)
        except TemplateError as error:
            raise TemplateError(f"conversation {conversation.id!r}: {error.problem}", error.way_out) from error
        weighted = spare_first(self._weighted(conversation, segments))
        if not any(segment.learn and segment.tokens for segment in weighted):
            raise DataError(
                f"conversation {conversation.id!r} has nothing to learn: all its weights are 0",
                "Take it out, or give a part a `learn` above 0.",
            )
        return weighted

    def trees(self, conversations: Iterable[Conversation], max_tokens: int | None = None) -> list[PrefixTree]:
        """Conversations as trees, joined as in `join_chats`.

        Raises:
            DataError, TemplateError: as for `segments`.
        """
        return join_chats([(conversation, self.segments(conversation)) for conversation in conversations], max_tokens)

    def _message(self, conversation: Conversation, index: int) -> Message:
        turn = conversation.turns[index]
        weight = self._default(conversation, index)
        return Message(turn.role, tuple(_piece(part, turn, weight) for part in turn.parts))

    def _default(self, conversation: Conversation, index: int) -> float:
        """The weight of a turn's parts that have none of their own."""
        given = self._is_given(conversation, index)
        return 0.0 if given else self._weights.get(conversation.turns[index].role, 0.0)

    def _is_given(self, conversation: Conversation, index: int) -> bool:
        """Whether a turn of the assistant is given to the model and not learned."""
        first = {"full": 0, "assistant": conversation.prompt_turns, "answer": len(conversation.turns) - 1}
        return conversation.turns[index].role == "assistant" and index < first[self._learn]

    def _weighted(self, conversation: Conversation, segments: Sequence[Segment]) -> list[Segment]:
        """The segments with weights on the template's text and on the ends of turns. Contents keep theirs."""
        owners = [index for index, turn in enumerate(conversation.turns) for _ in turn.parts]
        weighted, pieces = [], 0
        for segment in segments:
            if segment.tag == "end":
                learn = self._end(conversation, owners[pieces - 1], segment.learn)
            elif segment.tag:
                pieces, learn = pieces + 1, segment.learn
            else:
                learn = self._weights.get("template", 0.0)
            weighted.append(replace(segment, learn=learn))
        return weighted

    def _end(self, conversation: Conversation, index: int, largest: float) -> float:
        """The weight of the tokens that end a turn whose pieces have this largest weight."""
        if not self._by_kind:
            return largest
        own = any(part.learn is not None for part in conversation.turns[index].parts)
        learned = largest > 0 or not (own or self._is_given(conversation, index))
        return self._weights.get("end", 0.0) if learned else 0.0


def _piece(part: Part, turn: Turn, weight: float) -> Piece:
    default = weight if part.attend else 0.0
    return Piece(part.text, part.attend, default if part.learn is None else part.learn, turn.role)


def join_chats(
    weighted: Iterable[tuple[Conversation, Sequence[Segment]]], max_tokens: int | None = None
) -> list[PrefixTree]:
    """Trees of conversations, one for each group that begins with the same turns.

    Conversations with the same turns up to the assistant's first are joined (`tree/joined.py`). The turns that they
    share are computed once, and the loss is the sum of their losses. Others share a system message within a row, as
    all trees do.

    Args:
        weighted: conversations with their segments.
        max_tokens: the most tokens of a tree. A conversation that does not fit goes into another one.

    Returns:
        Trees in the order of their first conversations, which name them.
    """
    groups: dict[tuple[Turn, ...], list[Sequel]] = {}
    for conversation, segments in weighted:
        groups.setdefault(leading_turns(conversation), []).append((conversation.id, segments))
    return [tree for sequels in groups.values() for tree in join(sequels, max_tokens)]


def leading_turns(conversation: Conversation) -> tuple[Turn, ...]:
    """The turns before the assistant's first, or only that one where it opens the conversation."""
    first = next(index for index, turn in enumerate(conversation.turns) if turn.role == "assistant")
    return conversation.turns[: max(first, 1)]
