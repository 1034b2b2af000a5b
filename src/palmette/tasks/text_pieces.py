"""Texts as prefix trees without branches, every token of which is learned.

A text is preceded by one token that is given, so that its first token is predicted too, and followed by the token that
ends texts. A text that is longer than a piece makes several pieces. Each but the first is preceded by the last token of
the one before, so every token is learned once and none is predicted from nothing. Pieces are trees of their own: none
sees another, and positions begin at 0 in each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from palmette.errors import TemplateError
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment, TextEncoder

Long = Literal["split", "cut"]
# What base models end texts with. Instruct models keep it, though their own eos token ends turns.
_ENDS = ("<|endoftext|>", "<|end_of_text|>")


def beginning(tokenizer: Any) -> tuple[int, ...]:
    """The BOS token that the tokenizer puts before a plain text, or nothing if it puts none there.

    Some tokenizers have a BOS token but do not put it before plain text. SmolLM2's, for example, opens a chat turn and
    would change the meaning of the text.
    """
    put = tokenizer("")["input_ids"]
    return tuple(put[:1]) if put and put[0] == tokenizer.bos_token_id else ()


def end_of_text(tokenizer: Any) -> int:
    """The token that ends a text.

    Raises:
        TemplateError: the tokenizer has no such token.
    """
    named = {str(token): int(number) for number, token in tokenizer.added_tokens_decoder.items()}
    end = next((named[token] for token in _ENDS if token in named), tokenizer.eos_token_id)
    if end is None:
        raise TemplateError("the tokenizer has no token that ends a text", "Set its eos_token.")
    return int(end)


class TextPieces:
    """Cuts texts into pieces for one tokenizer.

    Before the first piece stands the BOS token where the tokenizer puts one before texts, and else the token that ends
    texts, as in a row of texts.

    Args:
        tokenizer: the tokenizer.
        piece_tokens: most tokens of a piece, the given one included. 2 or more.
        long: "split" learns all pieces of a longer text, "cut" only the first.
    """

    def __init__(self, tokenizer: Any, piece_tokens: int, long: Long = "split") -> None:
        self.encoder = TextEncoder(tokenizer)
        self.end = end_of_text(tokenizer)
        self.opening = (beginning(tokenizer) or (self.end,))[0]
        self._step, self._long = piece_tokens - 1, long

    def tokens(self, text: str) -> tuple[int, ...]:
        """The tokens of a text that are learned, with the one that ends it."""
        return (*self.encoder.content(text), self.end)

    def trees(self, name: str, text: str, weight: float = 1.0) -> Iterator[PrefixTree]:
        """The pieces of a text, as trees of this name.

        Pieces are of about the same length: a text of 9 tokens makes 5 and 4 rather than 8 and 1.

        Args:
            name: the name.
            text: the text.
            weight: of each of its tokens in the loss.
        """
        tokens = self.tokens(text)
        if self._long == "cut":
            tokens = tokens[: self._step]
        num_pieces = -(-len(tokens) // self._step)
        for index in range(num_pieces):
            start, end = (len(tokens) * place // num_pieces for place in (index, index + 1))
            yield text_tree(name, tokens[start - 1] if start else self.opening, tokens[start:end], weight)


def text_tree(name: str, given: int, learned: tuple[int, ...], weight: float = 1.0) -> PrefixTree:
    """A tree of one given token and the tokens that are learned after it, with this weight in the loss."""
    return PrefixTree(Node((Segment((given,)), Segment(learned, learn=weight))), name)


def cut_tree(tree: PrefixTree, num_learned: int) -> PrefixTree:
    """A piece with only the first so many of its learned tokens.

    >>> cut_tree(text_tree("a", 1, (5, 6, 7)), 2) == text_tree("a", 1, (5, 6))
    True
    """
    given, learned = tree.root.segments
    return text_tree(tree.name, given.tokens[0], learned.tokens[:num_learned], learned.learn)


def num_learned(tree: PrefixTree) -> int:
    """How many tokens of a piece are learned."""
    return len(tree.root.segments[1].tokens)
