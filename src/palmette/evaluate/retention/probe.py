"""Turns the texts and prompts of retention into prefix trees for one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from palmette.data.general import ChatPrompt, Passage, chat_prompts, passages
from palmette.errors import DataError, ModelError
from palmette.tasks.text_pieces import beginning
from palmette.tree.chat import ChatTemplate, Message, Piece
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment, TextEncoder


class Probe:
    """The texts and prompts as the tokens of one tokenizer.

    Args:
        tokenizer: the tokenizer of the models.
        texts: general texts. The built-in ones if None.
        prompts: chat prompts. The built-in ones if None.

    Raises:
        TemplateError: the tokenizer has no chat template, or cannot keep text apart from control tokens.
        DataError: a text is so short that none of its tokens can be predicted.
    """

    def __init__(
        self, tokenizer: Any, texts: Sequence[Passage] | None = None, prompts: Sequence[ChatPrompt] | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.texts = tuple(passages() if texts is None else texts)
        self.prompts = tuple(chat_prompts() if prompts is None else prompts)
        template = ChatTemplate(tokenizer)
        begin = beginning(tokenizer)
        made = [passage_tree(tokenizer, template.encoder, begin, passage) for passage in self.texts]
        self.trees, self.num_bytes = [tree for tree, _ in made], [num_bytes for _, num_bytes in made]
        self.opened = [_opened(template, prompt) for prompt in self.prompts]
        self.end_of_turn = _conversation(template, "")[-1].tokens[-1]

    def prompt_tokens(self) -> list[list[int]]:
        """The tokens of each prompt, up to where the completion begins."""
        return [[token for segment in segments for token in segment.tokens] for segments in self.opened]

    def completion_trees(self, completions: Sequence[tuple[int, ...]]) -> list[PrefixTree]:
        """A tree for each prompt and its completion. The tokens of the completion are marked as learned."""
        return [
            PrefixTree(Node((*opened, Segment(completion, learn=1.0))), prompt.id)
            for opened, completion, prompt in zip(self.opened, completions, self.prompts, strict=True)
        ]

    def check_same(self, other: Probe) -> None:
        """Check that two models read the texts and prompts as the same tokens.

        Raises:
            ModelError: the models have different tokenizers or chat templates.
        """
        if (self.trees, self.opened, self.end_of_turn) != (other.trees, other.opened, other.end_of_turn):
            raise ModelError(
                "the two models have different tokenizers or chat templates, so their distributions cannot be compared",
                "Give the very model that was fine-tuned as --base.",
            )


def passage_tree(
    tokenizer: Any, encoder: TextEncoder, begin: tuple[int, ...], passage: Passage
) -> tuple[PrefixTree, int]:
    """A passage as a tree without branches, and the number of bytes in its predicted tokens.

    Args:
        tokenizer: the tokenizer.
        encoder: encodes its content.
        begin: what stands before a plain text, see `text_pieces.beginning`.
        passage: the passage. All of its tokens are marked as learned, but the first if nothing stands before it.

    Raises:
        DataError: the text is so short that none of its tokens can be predicted.
    """
    tokens = encoder.content(passage.text)
    first = begin or tokens[:1]
    rest = tokens if begin else tokens[1:]
    if not rest:
        raise DataError(f"passage {passage.id!r} has no token that anything predicts", "Use a longer text.")
    unseen = "" if begin else str(tokenizer.decode(list(first), clean_up_tokenization_spaces=False))
    num_bytes = len(passage.text.encode()) - len(unseen.encode())
    return PrefixTree(Node((Segment(first), Segment(rest, learn=1.0))), passage.id), num_bytes


def _conversation(template: ChatTemplate, text: str) -> list[Segment]:
    # The template writes the text after a completion only if there is one. What the completion says does not matter.
    completion = Piece(".", tag="completion")
    return template.segments([Message("user", (Piece(text),)), Message("assistant", (completion,))])


def _opened(template: ChatTemplate, prompt: ChatPrompt) -> tuple[Segment, ...]:
    """The conversation up to where the completion begins."""
    segments = _conversation(template, prompt.text)
    return tuple(segments[: next(i for i, segment in enumerate(segments) if segment.tag == "completion")])
