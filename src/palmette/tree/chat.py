"""Chat templates to segments, which separate the text of the template from the text of people.

The text of a template around the contents is found once for each sequence of roles (`tree/skeleton.py`). Contents are
put between its parts and tokenised separately, so the template cannot alter them. The template is then rendered with
the contents themselves. If it would write them differently, the conversation is refused. White space that the template
trims is trimmed here too. Some templates separate their turns with ordinary text (`[/INST]`) instead of control
tokens. Content that holds this text is refused, since it could end its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from palmette.errors import TemplateError
from palmette.tree.segments import Segment, TextEncoder, Tokenizer
from palmette.tree.skeleton import Skeleton, check_contents, probe

# The day that a template may print ("Today Date: ...") must not depend on the day of the run.
_FIXED_DATE = "26 Jul 2024"
_FIXED_CLOCK = (
    "{%- macro strftime_now(format) -%}"
    "{{ format.replace('%d', '26').replace('%B', 'July').replace('%b', 'Jul').replace('%m', '07')"
    ".replace('%Y', '2024') }}"
    "{%- endmacro -%}"
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a message's content. It is tokenised on its own, and its segment gets its masks and its tag."""

    text: str
    attend: bool = True
    learn: float = 0.0
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: its role ("system", "user" or "assistant") and the pieces of its content."""

    role: str
    pieces: tuple[Piece, ...]


class ChatTemplate:
    """The chat template of one tokenizer.

    Args:
        tokenizer: the tokenizer.
        literal: write contents as they are even where the template would change them. This is for completions that a
            model has written, which nobody can correct.

    Raises:
        TemplateError: the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Tokenizer, *, literal: bool = False) -> None:
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
        self._literal = literal
        self._skeletons: dict[tuple[str, ...], Skeleton | None] = {}

    def segments(self, messages: Sequence[Message]) -> list[Segment]:
        """A conversation as segments, in order, up to the end-of-turn token of the last message.

        The tokens that end an assistant's turn are a segment of their own, tagged "end", with the largest `learn`
        weight of its pieces. A system message that the template rejects or drops is put in front of the first user
        message. A piece of content makes exactly one segment, in the same order.

        Args:
            messages: the turns. The last one is the assistant's.

        Raises:
            TemplateError: the template rejects these roles, or would change a content in a way that is not repeated
                here, or a content holds the very text that separates turns.
        """
        messages, skeleton = self._fitting(list(messages))
        segments: list[Segment] = []
        marks = skeleton.marks(self.encoder)
        contents: list[tuple[str, str]] = []
        for index, message in enumerate(messages):
            ended = messages[index - 1] if index and messages[index - 1].role == "assistant" else None
            segments.extend(self._between(skeleton.text[index], ended, at_start=index == 0))
            _check_marks(message, marks)
            pieces = _trimmed(message.pieces, skeleton.trim_left[index], skeleton.trim_right[index])
            contents.append((_joined(message.pieces), _joined(pieces)))
            if skeleton.lead[index] and pieces:
                pieces[0] = replace(pieces[0], text=skeleton.lead[index] + pieces[0].text)
            segments.extend(
                Segment(self.encoder.content(p.text), "content", p.text, p.attend, p.learn, p.tag) for p in pieces
            )
        if not self._literal:
            check_contents(self._render, skeleton, tuple(message.role for message in messages), contents)
        last = skeleton.text[-1]
        segments.append(self._end_of_turn(last, messages[-1]) or self._end_of_sequence(last, messages[-1]))
        return segments

    def open_reply(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], int]:
        """The tokens of a conversation up to where the assistant's next turn begins, and the token that ends that turn.

        Args:
            messages: the turns. The last one is the user's.

        Raises:
            TemplateError: as for `segments`.
        """
        # Some templates write the text before a reply only if there is one. What the reply says does not matter.
        segments = self.segments([*messages, Message("assistant", (Piece(".", tag="reply"),))])
        begin = next(index for index, segment in enumerate(segments) if segment.tag == "reply")
        return tuple(token for segment in segments[:begin] for token in segment.tokens), segments[-1].tokens[-1]

    def open_user(self) -> tuple[tuple[int, ...], int | None, str]:
        """The tokens up to where the user's first turn begins, and what ends that turn.

        Returns:
            The tokens. The control token that ends the turn, None if none does. The text that ends it then, "" if a
            token does.

        Raises:
            TemplateError: as for `segments`.
        """
        asked = Message("user", (Piece(".", tag="asked"),))
        segments = self.segments([asked, Message("assistant", (Piece("."),))])
        begin = next(index for index, segment in enumerate(segments) if segment.tag == "asked")
        prefix = tuple(token for segment in segments[:begin] for token in segment.tokens)
        after = segments[begin + 1]
        ends = [token for token in after.tokens if token in self.encoder.control_tokens]
        return prefix, (ends[0] if ends else None), "" if ends else after.text.strip()

    def generation_options(self, roles: Sequence[str]) -> dict[str, Any] | None:
        """Options with which the template's own generation prompt equals the prompts that are built here.

        A server has to pass them to the template (as `chat_template_kwargs`, for example) to read the same prompt.

        Args:
            roles: the roles of a conversation. The last one is the assistant's.

        Returns:
            `{}` if no option is needed, or the options, such as `{"enable_thinking": False}`. None if no option gives
            this prompt: it then holds an empty block for reasoning, say, which the generation prompt leaves open.

        Raises:
            TemplateError: as for `segments`.
        """
        _, skeleton = self._fitting([Message(role, (Piece("."),)) for role in roles])
        return skeleton.options

    def _fitting(self, messages: list[Message]) -> tuple[list[Message], Skeleton]:
        """The messages, with the system message moved where the template has no place for it, and their skeleton."""
        skeleton = self._skeleton(tuple(message.role for message in messages))
        if skeleton is None:
            messages = _fold_system(messages)
            skeleton = self._skeleton(tuple(message.role for message in messages))
        if skeleton is None:
            raise TemplateError(
                "the chat template leaves out part of the conversation " + " -> ".join(m.role for m in messages),
                "Use another template, or other roles.",
            )
        return messages, skeleton

    def _between(self, text: str, ended: Message | None, *, at_start: bool) -> list[Segment]:
        """Template text before a message: the end of the assistant's turn before it, if there is one, and the rest."""
        end = self._end_of_turn(text, ended) if ended else None
        rest = text[len(end.text) :] if end else text
        segments = [Segment(self.encoder.template(rest, at_start=at_start), "template", rest)] if rest else []
        return [end, *segments] if end else segments

    def _end_of_turn(self, text: str, ended: Message) -> Segment | None:
        """The text up to its first control token, which ends an assistant's turn, or None if it has no such token."""
        tokens = self.encoder.template(text)
        for index, token in enumerate(tokens):
            if token in self.encoder.control_tokens:
                name = self.encoder.control_tokens[token]
                upto = text[: text.find(name) + len(name)]
                return Segment(tokens[: index + 1], "template", upto, True, _learned(ended), "end")
        return None

    def _end_of_sequence(self, text: str, ended: Message) -> Segment:
        """The whole text, which has no control token, and the tokenizer's end of sequence."""
        tokens = self.encoder.template(text)
        eos, eos_id = self._tokenizer.eos_token, self._tokenizer.eos_token_id
        if eos is None or eos_id is None:
            raise TemplateError(
                f"nothing ends the assistant's turn: the template closes it with {text!r}, "
                "and the tokenizer has no eos_token",
                "Set tokenizer.eos_token, or close the turn with a control token.",
            )
        return Segment((*tokens, int(eos_id)), "template", text + eos, True, _learned(ended), "end")

    def _skeleton(self, roles: tuple[str, ...]) -> Skeleton | None:
        if roles not in self._skeletons:
            self._skeletons[roles] = probe(self._render, roles)
        return self._skeletons[roles]

    def _render(
        self, roles: Sequence[str], contents: Sequence[str], *, add_generation_prompt: bool = False, **options: Any
    ) -> str:
        conversation = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        rendered = self._tokenizer.apply_chat_template(
            conversation,
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string=_FIXED_DATE,
            **options,
        )
        return str(rendered)


def _learned(message: Message) -> float:
    """The largest weight of a message's pieces."""
    return max((piece.learn for piece in message.pieces), default=0.0)


def _joined(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _check_marks(message: Message, marks: list[str]) -> None:
    text = _joined(message.pieces)
    for mark in marks:
        if mark in text:
            raise TemplateError(
                f"the {message.role} message holds {mark!r}, "
                "which this chat template writes as ordinary text between turns",
                "Take it out of the text, or use a model whose turns end with control tokens.",
            )


def _fold_system(messages: list[Message]) -> list[Message]:
    """Put the system message's pieces before the first user message's, as templates without a system role expect."""
    if messages[0].role != "system" or len(messages) < 2 or messages[1].role != "user":
        return messages
    system, user, *rest = messages
    return [Message("user", (*system.pieces, Piece("\n\n"), *user.pieces)), *rest]


def _trimmed(pieces: tuple[Piece, ...], left: str | None, right: str | None) -> list[Piece]:
    """The pieces of one content, with white space (None) or these characters trimmed off its ends."""
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
