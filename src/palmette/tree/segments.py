"""Segments, which are the tokens of one piece of text each, and the function that turns text into tokens.

Template text may hold control tokens. Content, which is the text of users and documents, never does. Each segment is
tokenised on its own, so that no token straddles two of them. One case is *not* covered: a tokenizer whose normalizer
rewrites text (NFC, for example) still rewrites it here, and tokens decode to the rewritten form.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from palmette.errors import TemplateError

Kind = Literal["template", "content"]


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that this package uses."""

    chat_template: Any
    added_tokens_decoder: dict[int, Any]
    eos_token: str | None
    eos_token_id: int | None

    def __call__(self, text: str, **options: Any) -> Any: ...

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any: ...

    def decode(self, token_ids: Any, **options: Any) -> Any: ...


def decode_tokens(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Tokens as text, exactly as they are: control tokens are included, and no blanks are tidied up."""
    return str(tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))


@dataclass(frozen=True, slots=True)
class Segment:
    """The tokens of one piece of text, with the two masks.

    Attributes:
        tokens: token ids.
        kind: "template" (may hold control tokens) or "content" (never does).
        text: the text of the tokens.
        attend: whether later tokens may look at these (True = keep).
        learn: the weight of each token in the loss. 0 stands for not learned.
        tag: the part that the piece plays in its task ("document", "question", "answer", ...).
    """

    tokens: tuple[int, ...]
    kind: Kind = "content"
    text: str = ""
    attend: bool = True
    learn: float = 0.0
    tag: str = ""


class TextEncoder:
    """Turns template text and content into tokens, for one tokenizer.

    Content is encoded by a copy of the tokenizer without its added tokens: special ones, and ordinary ones such as
    `<think>` or `<tool_call>`, which models treat as control tokens too. Runs of white space, which some tokenizers
    hold as added tokens, stay. Some tokenizers put a blank before every text. It is left out here, except at the very
    start of a conversation, before the template's own text.

    Raises:
        TemplateError: the tokenizer is not backed by the `tokenizers` library.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise TemplateError(
                f"{type(tokenizer).__name__} is not backed by the tokenizers library, "
                "so content cannot be kept apart from control tokens",
                "Use a model that ships a tokenizer.json.",
            )
        self._tokenizer = tokenizer
        self.control_tokens = {
            int(token_id): str(token)
            for token_id, token in tokenizer.added_tokens_decoder.items()
            if str(token).replace("▁", " ").strip()
        }
        self._template = _plain_backend(backend, drop=frozenset())
        self._content = _content_backend(backend, frozenset(self.control_tokens))
        self._cuts_cleanly = _cuts_cleanly(_described(self._content))
        # A document is asked about many times in a row.
        self._cached = functools.lru_cache(maxsize=256)(self._encode_content)

    def template(self, text: str, *, at_start: bool = False) -> tuple[int, ...]:
        """Token ids of template text. Control tokens in it are control tokens.

        Args:
            text: template text.
            at_start: whether the text opens the conversation.
        """
        if at_start:
            return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        return tuple(self._template.encode(text, add_special_tokens=False).ids)

    def content(self, text: str) -> tuple[int, ...]:
        """Token ids of text from users or documents, which are never control tokens.

        Raises:
            TemplateError: the vocabulary cannot write this text without a control token.
        """
        return self._cached(text)

    def contents(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids of many texts, each as `content` gives them."""
        encodings = [tuple(one.ids) for one in self._content.encode_batch_fast(texts, add_special_tokens=False)]
        control = self.control_tokens.keys()
        return [
            ids if control.isdisjoint(ids) else self._encode_content(text)
            for text, ids in zip(texts, encodings, strict=True)
        ]

    def prefixes(
        self, texts: Sequence[str], ends: Sequence[Sequence[int]]
    ) -> Iterator[tuple[tuple[int, ...], list[int]]]:
        """The prefixes of texts whose token ids can be cut out of the ids of the whole text.

        Some tokenizers split text from left to right into words and never look past them. With these, a text that is
        cut at the end of a word splits as before, and its words have the same tokens.

        Args:
            texts: contents.
            ends: for each text, rising lengths of its prefixes. None may be 0 or follow white space.

        Yields:
            For each text the longest run of its token ids that is needed. For each end the number of them that are the
            ids of text[:end], or 0 where that prefix has to be encoded by itself.
        """
        if not self._cuts_cleanly:
            yield from (((), [0] * len(stops)) for stops in ends)
            return
        encodings = self._content.encode_batch(texts, add_special_tokens=False)
        for stops, encoding in zip(ends, encodings, strict=True):
            yield self._cut(stops, encoding)

    def _cut(self, ends: Sequence[int], encoding: Any) -> tuple[tuple[int, ...], list[int]]:
        ids, words = tuple(encoding.ids), encoding.word_ids
        if not self.control_tokens.keys().isdisjoint(ids):
            return (), [0] * len(ends)
        last = len(ids) - 1
        clean = {
            end: index + 1
            for index, (_, end) in enumerate(encoding.offsets)
            if index == last or words[index] != words[index + 1]
        }
        counts = [clean.get(end, 0) for end in ends]
        return ids[: max(counts)], counts

    def _encode_content(self, text: str) -> tuple[int, ...]:
        ids = tuple(self._content.encode(text, add_special_tokens=False).ids)
        if not self.control_tokens.keys() & set(ids):
            return ids
        pieces = [self._content.encode(piece, add_special_tokens=False).ids for piece in self._apart(text)]
        ids = tuple(token for piece in pieces for token in piece)
        left = self.control_tokens.keys() & set(ids)
        if left:
            raise TemplateError(
                f"this tokenizer writes {self.control_tokens[min(left)]!r} in content as a control token, "
                "whichever way it is cut",
                "Use a tokenizer with byte or character fallback, or take the string out of the text.",
            )
        return ids

    def _apart(self, text: str) -> Iterator[str]:
        """The text in pieces, none of which holds a whole control string."""
        start, marks = 0, [mark for mark in self.control_tokens.values() if mark]
        while start < len(text):
            hits = [hit for hit in (text.find(mark, start) for mark in marks) if hit >= 0]
            end = min(hits) + 1 if hits else len(text)
            yield text[start:end]
            start = end


def _content_backend(backend: Any, control: frozenset[int]) -> Any:
    """A copy of a `tokenizers` backend without control tokens, whose other added tokens keep their ids.

    Tokens beyond the model's vocabulary get new numbers once others are gone. Those whose number would change are left
    out too.
    """
    kept = {number: token for number, token in backend.get_added_tokens_decoder().items() if number not in control}
    plain = _plain_backend(backend, control)
    renumbered = any(plain.token_to_id(token.content) != number for number, token in kept.items())
    return _plain_backend(backend, control | kept.keys()) if renumbered else plain


# Parts of a pattern that make a match depend on the text after it, or on how it was reached: look-around, anchors,
# boundaries, atomic and possessive parts, conditions, back references, graphemes. `\s+(?!\S)` is allowed, since it only
# concerns white space at the end.
_LOOKS_AHEAD = re.compile(r"\(\?[=!<>(P]|[+*?]\+|\d\}\+|\$|\^(?<!\[\^)|\\[bBAzZGXRKyYkg0-9]")


def _cuts_cleanly(spec: dict[str, Any]) -> bool:
    """Whether a serialized backend is known to split from left to right into words, each with tokens of its own."""
    if spec["normalizer"] is not None or spec["added_tokens"] or spec["model"]["type"] != "BPE":
        return False
    if spec["model"].get("dropout") or spec["pre_tokenizer"] is None:
        return False
    split = spec["pre_tokenizer"]
    stages = split["pretokenizers"] if split["type"] == "Sequence" else [split]
    kinds = [_splits(stage) for stage in stages]
    return None not in kinds and kinds.count("words") == 1


def _splits(stage: dict[str, Any]) -> Literal["characters", "words"] | None:
    """Whether a pre-tokenizer splits by single characters, by words matched from left to right, or otherwise."""
    if stage["type"] == "Digits" or (stage["type"] == "ByteLevel" and not stage.get("use_regex", True)):
        return "characters"
    if stage["type"] == "ByteLevel":
        return "words"
    pattern = stage.get("pattern", {}).get("Regex")
    if stage["type"] == "Split" and pattern and stage["behavior"] == "Isolated" and not stage.get("invert"):
        return None if _LOOKS_AHEAD.search(pattern.replace(r"\s+(?!\S)", "")) else "words"
    return None


def _plain_backend(backend: Any, drop: AbstractSet[int]) -> Any:
    """A copy of a `tokenizers` backend without the tokens `drop`, a forced leading blank, and post-processing.

    The copy shares the vocabulary, since writing a large one as JSON and reading it takes as long as loading a small
    model.
    """
    from tokenizers import Tokenizer as Backend

    spec = _steps(backend)
    spec["normalizer"] = _without_prepend(spec["normalizer"])
    spec["pre_tokenizer"] = _without_prefix_space(spec["pre_tokenizer"])
    steps, copy = Backend.from_str(json.dumps(spec)), Backend(backend.model)
    for step in _STEPS:
        setattr(copy, step, getattr(steps, step))
    for number, token in sorted(backend.get_added_tokens_decoder().items()):
        if number not in drop:
            (copy.add_special_tokens if token.special else copy.add_tokens)([token])
    return copy


def _described(backend: Any) -> dict[str, Any]:
    """A backend as JSON holds it, with the kind of its model in place of the vocabulary."""
    model = {"type": type(backend.model).__name__, "dropout": getattr(backend.model, "dropout", None)}
    return {**_steps(backend), "added_tokens": list(backend.get_added_tokens_decoder()), "model": model}


# What a backend does before and after it looks up its vocabulary. Post-processing is left out.
_STEPS = ("normalizer", "pre_tokenizer", "decoder")


def _steps(backend: Any) -> dict[str, Any]:
    """A backend as JSON holds it, with an empty vocabulary and without post-processing."""
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import BPE

    empty = Backend(BPE())
    for step in _STEPS:
        setattr(empty, step, getattr(backend, step))
    spec: dict[str, Any] = json.loads(empty.to_str())
    return spec


def _without_prepend(normalizer: dict[str, Any] | None) -> dict[str, Any] | None:
    if normalizer is None or normalizer["type"] == "Prepend":
        return None
    if normalizer["type"] == "Sequence":
        parts = [_without_prepend(part) for part in normalizer["normalizers"]]
        return {**normalizer, "normalizers": [part for part in parts if part is not None]}
    return normalizer


def _without_prefix_space(pre_tokenizer: dict[str, Any] | None) -> dict[str, Any] | None:
    if pre_tokenizer is None:
        return None
    if pre_tokenizer["type"] == "Sequence":
        return {
            **pre_tokenizer,
            "pretokenizers": [_without_prefix_space(part) for part in pre_tokenizer["pretokenizers"]],
        }
    if pre_tokenizer["type"] == "Metaspace":
        return {**pre_tokenizer, "prepend_scheme": "never"}
    if pre_tokenizer["type"] == "ByteLevel":
        return {**pre_tokenizer, "add_prefix_space": False}
    return pre_tokenizer
