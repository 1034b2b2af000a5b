"""Chat templates to segments: what the template wrote and what people wrote, kept apart.

The template is rendered once per sequence of roles with a probe string in place of each content; what stands between the probes is
template text. Real content never passes through the template, so the template cannot alter it. What a template would do to
content is found from the probes: trimming is repeated here, anything else is refused. Where a template parts its turns with
ordinary text (`[/INST]`) instead of control tokens, content that holds this text is refused, since it could end its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jinja2

from palmette.errors import TemplateError
from palmette.tree.segments import Segment, TextEncoder, Tokenizer

# What is put before and after a probe to find out what is trimmed; all of different length, so that what is left tells which.
_PADDINGS = {None: (" \t", " \n\t"), "\n": ("\n\n", "\n")}
# The day that a template may print ("Today Date: ...") must not depend on the day of the run.
_FIXED_DATE = "26 Jul 2024"
_FIXED_CLOCK = (
    "{%- macro strftime_now(format) -%}"
    "{{ format.replace('%d', '26').replace('%B', 'July').replace('%b', 'Jul').replace('%m', '07').replace('%Y', '2024') }}"
    "{%- endmacro -%}"
)


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
    """What a template writes around the contents of a sequence of roles.

    Attributes:
        text: `text[i]` stands before content i, the last one after all of them.
        trim_left, trim_right: what is trimmed off each content: None = all white space, else these characters.
        lead: blanks between the generation prompt and each content of the assistant's, which begin the completion.
    """

    text: tuple[str, ...]
    trim_left: tuple[str | None, ...]
    trim_right: tuple[str | None, ...]
    lead: tuple[str, ...]

    def marks(self, encoder: TextEncoder) -> list[str]:
        """Ordinary text that parts the turns where no control token does."""
        parts = [text for text in self.text[1:] if not set(encoder.template(text)) & encoder.control_tokens.keys()]
        return [part.strip() for part in parts if part.strip()]


class ChatTemplate:
    """The chat template of one tokenizer.

    Raises:
        TemplateError: the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        template = tokenizer.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        if not template:
            raise TemplateError(
                "the tokenizer has no chat template",
                "Use an instruct model, or set tokenizer.chat_template to one.",
            )
        self.encoder = TextEncoder(tokenizer)
        self._tokenizer = tokenizer
        self._template = _FIXED_CLOCK + template
        self._skeletons: dict[tuple[str, ...], _Skeleton | None] = {}

    def segments(self, messages: Sequence[Message]) -> list[Segment]:
        """A conversation as segments, in order, up to the end-of-turn token of the last message.

        The tokens that end an assistant's turn are a segment of their own, tagged "end", with the largest `learn` weight of its
        pieces. A system message that the template rejects or drops is put in front of the first user message. A piece of content makes
        exactly one segment, in the same order.

        Args:
            messages: the turns; the last one is the assistant's.

        Raises:
            TemplateError: the template rejects these roles, or would alter content in a way that cannot be repeated, or the
                content holds the very text that parts its turns.
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
        marks = skeleton.marks(self.encoder)
        for index, message in enumerate(messages):
            ended = messages[index - 1] if index and messages[index - 1].role == "assistant" else None
            segments.extend(self._between(skeleton.text[index], ended, at_start=index == 0))
            _check_marks(message, marks)
            pieces = _trimmed(message.pieces, skeleton.trim_left[index], skeleton.trim_right[index])
            if skeleton.lead[index] and pieces:
                pieces[0] = replace(pieces[0], text=skeleton.lead[index] + pieces[0].text)
            segments.extend(
                Segment(self.encoder.content(p.text), "content", p.text, p.attend, p.learn, p.tag) for p in pieces
            )
        last = skeleton.text[-1]
        segments.append(self._end_of_turn(last, messages[-1]) or self._end_of_sequence(last, messages[-1]))
        return segments

    def _between(self, text: str, ended: Message | None, *, at_start: bool) -> list[Segment]:
        """Template text before a message: what ends the assistant's turn that stands there, and the rest."""
        end = self._end_of_turn(text, ended) if ended else None
        rest = text[len(end.text) :] if end else text
        found = [Segment(self.encoder.template(rest, at_start=at_start), "template", rest)] if rest else []
        return [end, *found] if end else found

    def _end_of_turn(self, text: str, ended: Message) -> Segment | None:
        """The template's text up to its first control token, which ends an assistant's turn; None where there is no such token."""
        tokens = self.encoder.template(text)
        for index, token in enumerate(tokens):
            if token in self.encoder.control_tokens:
                name = self.encoder.control_tokens[token]
                upto = text[: text.find(name) + len(name)]
                return Segment(tokens[: index + 1], "template", upto, True, _learned(ended), "end")
        return None

    def _end_of_sequence(self, text: str, ended: Message) -> Segment:
        """The whole of the text, where it has no control token, and the tokenizer's end of sequence."""
        tokens = self.encoder.template(text)
        eos, eos_id = self._tokenizer.eos_token, self._tokenizer.eos_token_id
        if eos is None or eos_id is None:
            raise TemplateError(
                f"nothing ends the assistant's turn: the template closes it with {text!r} and the tokenizer has no eos_token",
                "Set tokenizer.eos_token, or close the turn with a control token.",
            )
        return Segment((*tokens, int(eos_id)), "template", text + eos, True, _learned(ended), "end")

    def _skeleton(self, roles: tuple[str, ...]) -> _Skeleton | None:
        if roles not in self._skeletons:
            self._skeletons[roles] = self._probe(roles)
        return self._skeletons[roles]

    def _probe(self, roles: tuple[str, ...]) -> _Skeleton | None:
        """The skeleton for these roles; None where the template has no place for a system message."""
        probes = [f"<p&\"'\\{{Qx{index}é}}Zz" for index in range(len(roles))]
        try:
            plain = _cut(self._render(roles, probes), probes, roles)
            padded = {
                trim: _cut(self._render(roles, [left + probe + right for probe in probes]), probes, roles)
                for trim, (left, right) in _PADDINGS.items()
            }
            prompt = self._render(roles[:-1], probes[:-1], add_generation_prompt=True) if len(roles) > 1 else ""
        except (jinja2.exceptions.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            if roles[0] == "system":
                return None
            raise TemplateError(
                f"the chat template rejects the conversation {' -> '.join(roles)}: {error}",
                "Use roles that it knows, or another template.",
            ) from error
        if plain is None:
            return None
        left: list[str | None] = [""] * len(roles)
        right: list[str | None] = [""] * len(roles)
        for trim in ("\n", None):  # white space includes the newline, so it has the last word
            _note_trimmed(plain, padded[trim] or (), trim, left, right)
        blanks = _lead(plain, probes, prompt)
        lead = [
            blanks if role == "assistant" and plain[index].endswith(blanks) else "" for index, role in enumerate(roles)
        ]
        text = [part.removesuffix(blank) for part, blank in zip(plain, [*lead, ""], strict=True)]
        return _Skeleton(tuple(text), tuple(left), tuple(right), tuple(lead))

    def _render(self, roles: tuple[str, ...], contents: list[str], *, add_generation_prompt: bool = False) -> str:
        conversation = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        rendered = self._tokenizer.apply_chat_template(
            conversation,
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string=_FIXED_DATE,
        )
        return str(rendered)


def _learned(message: Message) -> float:
    """The largest weight of a message's pieces."""
    return max((piece.learn for piece in message.pieces), default=0.0)


def _check_marks(message: Message, marks: list[str]) -> None:
    text = "".join(piece.text for piece in message.pieces)
    for mark in marks:
        if mark in text:
            raise TemplateError(
                f"the {message.role} message holds {mark!r}, which this chat template writes as ordinary text between turns",
                "Take it out of the text, or use a model whose turns end with control tokens.",
            )


def _lead(plain: tuple[str, ...], probes: list[str], prompt: str) -> str:
    """Blanks that the template writes before the last content and its generation prompt leaves to the completion."""
    written = "".join(text + probe for text, probe in zip(plain[:-2], probes, strict=False)) + plain[-2]
    rest = written.removeprefix(prompt) if prompt and written.startswith(prompt) else ""
    return rest if rest and not rest.strip(" ") else ""


def _note_trimmed(
    plain: tuple[str, ...],
    padded: tuple[str, ...],
    trim: str | None,
    left: list[str | None],
    right: list[str | None],
) -> None:
    """Note in `left` and `right` which contents lose this padding; anything else that it changes is refused."""
    before, after = _PADDINGS[trim]
    for index, (text, part) in enumerate(zip(plain, padded, strict=True)):
        first, last = index == 0, index == len(plain) - 1
        ways = [
            (kept_after, kept_before)
            for kept_after in ([False] if first else [True, False])
            for kept_before in ([False] if last else [True, False])
            if part == after * kept_after + text + before * kept_before
        ]
        if not ways:
            raise TemplateError(
                f"the chat template writes {text!r} or {part!r} depending on blanks in the content",
                "Use a template that writes contents as they are, or trims them.",
            )
        if not first and not ways[0][0]:
            right[index - 1] = trim
        if not last and not ways[0][1]:
            left[index] = trim


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


def _fold_system(messages: list[Message]) -> list[Message]:
    """The system message's pieces in front of the first user message's, as templates without a system role expect."""
    if messages[0].role != "system" or len(messages) < 2 or messages[1].role != "user":
        return messages
    system, user, *rest = messages
    return [Message("user", (*system.pieces, Piece("\n\n"), *user.pieces)), *rest]


def _trimmed(pieces: tuple[Piece, ...], left: str | None, right: str | None) -> list[Piece]:
    """The pieces of one content without the white space (None) or the characters at its ends."""
    trimmed = list(pieces)
    for index, piece in enumerate(trimmed):
        trimmed[index] = replace(piece, text=piece.text.lstrip(left))
        if trimmed[index].text:
            break
    for index in reversed(range(len(trimmed))):
        trimmed[index] = replace(trimmed[index], text=trimmed[index].text.rstrip(right))
        if trimmed[index].text:
            break
    return trimmed
