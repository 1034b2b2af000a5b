"""The text that a chat template writes around contents, found by rendering it with probes.

A template is rendered once for each sequence of roles, with a probe string in place of each content. The text between
the probes is template text. More renderings show which white space the template trims, and how a prompt ends for which
the model is to write the next message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from palmette.errors import TemplateError
from palmette.tree.segments import TextEncoder

Render = Callable[..., str]  # render(roles, contents, add_generation_prompt=..., **options of the template)

# White space before and after a probe, by what a template may trim: all white space (None), or these characters. All
# have different lengths, so that what is left tells which were trimmed.
_PADDINGS = {None: (" \t", " \n\t"), "\n": ("\n\n", "\n")}
# What model families call the option that asks for an answer without reasoning. The first one that fits is taken.
_OPTIONS: tuple[dict[str, Any], ...] = ({}, {"enable_thinking": False}, {"thinking": False})
_OPENED, _CLOSED = re.compile(r"<(\w+)>\s*"), re.compile(r"</(\w+)>")
_FAULTS = (jinja2.exceptions.TemplateError, TypeError, ValueError, KeyError, AttributeError)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The text that a template writes around the contents of a sequence of roles.

    Attributes:
        written: `written[i]` stands before content i in what the template renders. The last one follows all contents.
        text: the same for the segments. It differs in blanks that begin a completion (see `lead`), and in the text
            before the last content, which ends as the generation prompt does.
        trim_left, trim_right: the characters that are trimmed off each content. None stands for all white space.
        lead: blanks between the generation prompt and each content of the assistant, which begin the completion.
        options: the options of the template with which its generation prompt ends as `text[-2]` does. None if there
            are none.
    """

    written: tuple[str, ...]
    text: tuple[str, ...]
    trim_left: tuple[str | None, ...]
    trim_right: tuple[str | None, ...]
    lead: tuple[str, ...]
    options: dict[str, Any] | None

    def marks(self, encoder: TextEncoder) -> list[str]:
        """Ordinary text that separates the turns where no control token does."""
        parts = [text for text in self.text[1:] if not set(encoder.template(text)) & encoder.control_tokens.keys()]
        return [part.strip() for part in parts if part.strip()]


def probe(render: Render, roles: tuple[str, ...]) -> Skeleton | None:
    """The skeleton for these roles, or None where the template has no place for a system message.

    Args:
        render: renders the template.
        roles: the roles of a conversation, in order.

    Raises:
        TemplateError: the template rejects the roles, changes contents in a way that cannot be repeated, or ends its
            generation prompt in another way than the text before the assistant's message.
    """
    probes = [f"<p&\"'\\{{Qx{index}é}}Zz" for index in range(len(roles))]
    try:
        plain = _cut(render(roles, probes), probes, roles)
        padded = {
            trim: _cut(render(roles, [left + content + right for content in probes]), probes, roles)
            for trim, (left, right) in _PADDINGS.items()
        }
        prompts = _generation_prompts(render, roles, probes)
    except _FAULTS as error:
        if roles[0] == "system":
            return None
        raise _rejection(roles, error) from error
    if plain is None:
        return None
    left: list[str | None] = [""] * len(roles)
    right: list[str | None] = [""] * len(roles)
    for trim in ("\n", None):  # white space includes the newline, so it has the last word
        _note_trimmed(plain, padded[trim] or (), trim, left, right)
    blanks = _lead(plain, probes, prompts[0] if prompts else "")
    lead = [blanks if role == "assistant" and plain[index].endswith(blanks) else "" for index, role in enumerate(roles)]
    text = [part.removesuffix(blank) for part, blank in zip(plain, [*lead, ""], strict=True)]
    options: dict[str, Any] | None = {}
    if prompts:
        before = "".join(part + content for part, content in zip(plain[:-2], probes, strict=False))
        text[-2], options = _prompt_end(before, text[-2], prompts)
    return Skeleton(plain, tuple(text), tuple(left), tuple(right), tuple(lead), options)


def check_contents(
    render: Render, skeleton: Skeleton, roles: tuple[str, ...], contents: Sequence[tuple[str, str]]
) -> None:
    """Check that the template writes these contents as they are.

    Templates may act on text that no probe holds: they remove reasoning from the assistant's messages, or blank lines
    from all of them. So the conversation itself is rendered and compared with the skeleton around its contents. An
    empty content has nothing that could change, and templates may trim the text around it, so a full stop takes its
    place.

    Args:
        render: renders the template.
        skeleton: the skeleton for the roles.
        roles: the roles of the conversation.
        contents: each content as it was given, and as it is trimmed.

    Raises:
        TemplateError: the template rejects or changes a content, or writes an empty block for reasoning before one that
            begins with its own.
    """
    for tag in _CLOSED.findall(skeleton.text[-2]):
        if contents[-1][1].lstrip().startswith(f"<{tag}>"):
            raise TemplateError(
                f"the {roles[-1]} message begins with <{tag}>, "
                f"but the chat template writes an empty <{tag}> block before it",
                "Take the reasoning out of the record, or use a template that writes no such block.",
            )
    contents = [(given, content) if content else (".", ".") for given, content in contents]
    try:
        rendered = render(roles, [given for given, _ in contents])
    except _FAULTS as error:
        raise _rejection(roles, error) from error
    at = 0
    for before, role, (_, content) in zip(skeleton.written[:-1], roles, contents, strict=True):
        for part in (before, content):
            if not rendered.startswith(part, at):
                raise _change(role, part, rendered[at : at + len(part) + 1])
            at += len(part)
    if rendered[at:] != skeleton.written[-1]:
        raise _change(roles[-1], skeleton.written[-1], rendered[at:])


def _change(role: str, expected: str, rendered: str) -> TemplateError:
    same = next(
        (index for index, pair in enumerate(zip(expected, rendered, strict=False)) if pair[0] != pair[1]),
        min(len(expected), len(rendered)),
    )
    start = max(same - 10, 0)
    return TemplateError(
        f"the chat template changes the {role} message: it writes {rendered[start : same + 20]!r} "
        f"in place of {expected[start : same + 20]!r}",
        "Take this text (blank lines or <think> blocks, for example) out of the record, or use another template.",
    )


def _rejection(roles: tuple[str, ...], error: Exception) -> TemplateError:
    return TemplateError(
        f"the chat template rejects the conversation {' -> '.join(roles)}: {error}",
        "Use roles that it knows, or another template.",
    )


def _generation_prompts(render: Render, roles: tuple[str, ...], probes: Sequence[str]) -> list[str]:
    """The conversation without its last message and with the generation prompt, for each set of options."""
    if len(roles) < 2 or roles[-1] != "assistant" or roles[-2] == "assistant":
        return []
    return [render(roles[:-1], probes[:-1], add_generation_prompt=True, **options) for options in _OPTIONS]


def _prompt_end(before: str, text: str, prompts: Sequence[str]) -> tuple[str, dict[str, Any] | None]:
    """The template's text before the assistant's last message, and the options that give the same generation prompt.

    Where the generation prompt is longer, it is taken. Where it opens a block for reasoning, the block is closed at
    once, as such models close it themselves. Where it is shorter, the template writes more before each answer than the
    generation prompt holds (an empty block for reasoning, or the name of a channel), and that is part of the prompt.

    Args:
        before: everything before the text.
        text: the text as it stands in a whole conversation.
        prompts: the generation prompts, one for each of `_OPTIONS`.
    """
    for options, prompt in zip(_OPTIONS, prompts, strict=True):
        if prompt == before + text:
            return text, options
    prompt = prompts[0]
    if prompt.startswith(before + text):
        end = prompt.removeprefix(before)
        opened = _OPENED.fullmatch(end.removeprefix(text))
        return (f"{end}\n</{opened[1]}>\n\n", None) if opened else (end, {})
    if (before + text).startswith(prompt):
        return text, None
    raise TemplateError(
        f"the chat template ends its generation prompt with {prompt[-40:]!r}, "
        f"but writes {text[-40:]!r} before an answer",
        "Use a template whose generation prompt begins the assistant's message.",
    )


def _lead(plain: tuple[str, ...], probes: list[str], prompt: str) -> str:
    """Blanks before the last content that the generation prompt leaves to the completion."""
    written = "".join(text + content for text, content in zip(plain[:-2], probes, strict=False)) + plain[-2]
    rest = written.removeprefix(prompt) if prompt and written.startswith(prompt) else ""
    return rest if rest and not rest.strip(" ") else ""


def _note_trimmed(
    plain: tuple[str, ...],
    padded: tuple[str, ...],
    trim: str | None,
    left: list[str | None],
    right: list[str | None],
) -> None:
    """Note in `left` and `right` which contents lose this padding. A template that changes anything else is refused."""
    before, after = _PADDINGS[trim]
    for index, (text, part) in enumerate(zip(plain, padded, strict=True)):
        first, last = index == 0, index == len(plain) - 1
        ways = [
            (holds_after, holds_before)
            for holds_after in ([False] if first else [True, False])
            for holds_before in ([False] if last else [True, False])
            if part == after * holds_after + text + before * holds_before
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
    for content, role in zip(probes, roles, strict=True):
        count = rendered.count(content)
        if count == 0 and role == "system":
            return None
        at = rendered.find(content, start)
        if count != 1 or at < 0:
            what = "alters or leaves out" if count == 0 else "repeats or reorders"
            raise TemplateError(
                f"the chat template {what} the content of the {role} message",
                "Use a template that writes each content once and as it is.",
            )
        between.append(rendered[start:at])
        start = at + len(content)
    return (*between, rendered[start:])
