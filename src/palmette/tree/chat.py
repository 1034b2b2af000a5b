"""Chat templates to segments: what the template wrote and what people wrote, kept apart.

The template is rendered once per sequence of roles with a probe string in place of each content; what stands between the probes is
template text. Real content never passes through the template, so the template cannot alter it, and it cannot imitate the
template. What a template would do to content is found from the probes: trimming is repeated here, anything else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jinja2

from palmette.errors import TemplateError
from palmette.tree.segments import Segment, TextEncoder, Tokenizer

_BLANKS = " \n\t"
# The day a template may print ("Today Date: ...") must not depend on the day of the run.
_FIXED_DATE = "26 Jul 2024"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a message's content, tokenised on its own; masks and tag pass to its segment."""

    text: str
    attend: bool = True
    learn: float = 0.0
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: "system", "user" or "assistant", and the pieces of its content."""

    role: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """Template text around the contents: `text[i]` stands before content i, the last one after all of them."""

    text: tuple[str, ...]
    trim_left: tuple[bool, ...]
    trim_right: tuple[bool, ...]


class ChatTemplate:
    """The chat template of one tokenizer.

    Raises:
        TemplateError: the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.chat_template:
            raise TemplateError(
                "the tokenizer has no chat template",
                "Use an instruct model, or set tokenizer.chat_template to one.",
            )
        self.encoder = TextEncoder(tokenizer)
        self._tokenizer = tokenizer
        self._skeletons: dict[tuple[str, ...], _Skeleton | None] = {}

    def segments(self, messages: Sequence[Message]) -> list[Segment]:
        """A conversation as segments, in order. It ends with the end-of-turn token of the last message, with its `learn` weight.

        A system message that the template rejects or drops is put in front of the first user message. A piece of content makes
        exactly one segment, in the same order.

        Args:
            messages: the turns; the last one is the assistant's.

        Raises:
            TemplateError: the template rejects these roles, or would alter content in a way that cannot be repeated.
        """
        messages = list(messages)
        skeleton = self._skeleton(tuple(message.role for message in messages))
        if skeleton is None:
            messages = _fold_system(messages)
            skeleton = self._skeleton(tuple(message.role for message in messages))
        if skeleton is None:
            raise TemplateError(
                "the chat template leaves out part of the conversation " + " -> ".join(m.role for m in messages),
                "Use another template, or other roles.",
            )
        segments: list[Segment] = []
        for index, message in enumerate(messages):
            segments.extend(self._template_segment(skeleton.text[index], at_start=index == 0))
            pieces = _trimmed(message.pieces, left=skeleton.trim_left[index], right=skeleton.trim_right[index])
            segments.extend(
                Segment(self.encoder.content(p.text), "content", p.text, p.attend, p.learn, p.tag) for p in pieces
            )
        learn = max((piece.learn for piece in messages[-1].pieces), default=0.0)
        segments.append(self._end_of_turn(skeleton.text[-1], learn))
        return segments

    def _template_segment(self, text: str, *, at_start: bool) -> list[Segment]:
        return [Segment(self.encoder.template(text, at_start=at_start), "template", text)] if text else []

    def _end_of_turn(self, text: str, learn: float) -> Segment:
        """What ends the assistant's turn: the template's text up to its first control token, or the tokenizer's end of sequence."""
        tokens = self.encoder.template(text)
        for index, token in enumerate(tokens):
            if token in self.encoder.control_tokens:
                name = self.encoder.control_tokens[token]
                return Segment(tokens[: index + 1], "template", text[: text.find(name) + len(name)], True, learn, "end")
        eos, eos_id = self._tokenizer.eos_token, self._tokenizer.eos_token_id
        if eos is None or eos_id is None:
            raise TemplateError(
                f"nothing ends the assistant's turn: the template closes it with {text!r} and the tokenizer has no eos_token",
                "Set tokenizer.eos_token, or close the turn with a control token.",
            )
        return Segment((*tokens, int(eos_id)), "template", text + eos, True, learn, "end")

    def _skeleton(self, roles: tuple[str, ...]) -> _Skeleton | None:
        if roles not in self._skeletons:
            self._skeletons[roles] = self._probe(roles)
        return self._skeletons[roles]

    def _probe(self, roles: tuple[str, ...]) -> _Skeleton | None:
        """The skeleton for these roles; None where the template has no place for a system message."""
        probes = [f"<p&\"'\\{{Qx{index}é}}Zz" for index in range(len(roles))]
        padded = [_BLANKS + probe + _BLANKS for probe in probes]
        try:
            plain, spaced = self._render(roles, probes), self._render(roles, padded)
        except jinja2.exceptions.TemplateError as error:
            if roles[0] == "system":
                return None
            raise TemplateError(
                f"the chat template rejects the conversation {' -> '.join(roles)}: {error}",
                "Use roles that it knows, or another template.",
            ) from error
        text, between = _cut(plain, probes, roles), _cut(spaced, probes, roles)
        if text is None or between is None:
            return None
        left = tuple(not between[i].endswith(_BLANKS) for i in range(len(roles)))
        right = tuple(not between[i + 1].startswith(_BLANKS) for i in range(len(roles)))
        _check_only_trimmed(between, text, left, right)
        return _Skeleton(text, left, right)

    def _render(self, roles: tuple[str, ...], contents: list[str]) -> str:
        conversation = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        rendered = self._tokenizer.apply_chat_template(conversation, tokenize=False, date_string=_FIXED_DATE)
        return str(rendered)


def _cut(rendered: str, probes: list[str], roles: tuple[str, ...]) -> tuple[str, ...] | None:
    """The text between the probes, or None if the template drops the system message."""
    between, start = [], 0
    for probe, role in zip(probes, roles, strict=True):
        count = rendered.count(probe)
        if count == 0 and role == "system":
            return None
        at = rendered.find(probe, start)
        if count != 1 or at < 0:
            what = "alters or leaves out" if count == 0 else "repeats or reorders"
            raise TemplateError(
                f"the chat template {what} the content of the {role} message",
                "Use a template that writes each content once and as it is.",
            )
        between.append(rendered[start:at])
        start = at + len(probe)
    return (*between, rendered[start:])


def _check_only_trimmed(
    between: tuple[str, ...], text: tuple[str, ...], left: tuple[bool, ...], right: tuple[bool, ...]
) -> None:
    """Blanks around the probes may be kept or trimmed; anything else that they change is refused."""
    for index, part in enumerate(between):
        part = part if index == 0 or right[index - 1] else part[len(_BLANKS) :]
        part = part if index == len(left) or left[index] else part[: len(part) - len(_BLANKS)]
        if part != text[index]:
            raise TemplateError(
                f"the chat template writes {text[index]!r} or {part!r} depending on blanks in the content",
                "Use a template that writes contents as they are, or trims them.",
            )


def _fold_system(messages: list[Message]) -> list[Message]:
    """The system message's pieces in front of the first user message's, as templates without a system role expect."""
    if messages[0].role != "system" or len(messages) < 2 or messages[1].role != "user":
        return messages
    system, user, *rest = messages
    return [Message("user", (*system.pieces, Piece("\n\n"), *user.pieces)), *rest]


def _trimmed(pieces: tuple[Piece, ...], *, left: bool, right: bool) -> list[Piece]:
    trimmed = list(pieces)
    if left:
        for index, piece in enumerate(trimmed):
            trimmed[index] = replace(piece, text=piece.text.lstrip())
            if trimmed[index].text:
                break
    if right:
        for index in reversed(range(len(trimmed))):
            trimmed[index] = replace(trimmed[index], text=trimmed[index].text.rstrip())
            if trimmed[index].text:
                break
    return trimmed
