"""A chat template for the record: a conversation as it renders it, by roles, and what it adds, refuses or changes."""

from __future__ import annotations

from typing import Any

from palmette.errors import TemplateError
from palmette.tree.chat import ChatTemplate, Message, Piece

_CONVERSATION = (
    ("system", "Answer in one short sentence."),
    ("user", "Find the value of n in n + 2 = 6"),
    ("assistant", "n is 4."),
    ("user", "And twice n?"),
    ("assistant", "Eight."),
)
_USER, _SYSTEM = "What is it?", "Be brief and clear."
# Conversations that some templates refuse, by what they are.
_TRIALS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("a system message", (("system", _SYSTEM), ("user", _USER))),
    ("two user messages in a row", (("user", "Listen."), ("user", _USER))),
    ("an assistant's message first", (("assistant", "Hello."), ("user", _USER))),
    ("a tool's message", (("user", "Look it up."), ("assistant", "I will."), ("tool", "It is blue."))),
    ("an empty message", (("user", ""),)),
    ("white space around a message", (("user", f"  {_USER}\n\n"),)),
)


def template_facts(tokenizer: Any) -> dict[str, Any]:
    """The chat template of a tokenizer.

    Returns:
        `present`, and for a template: `pieces` of an example with a role each, `generation_prompt`, `default_system`
        (None if it writes none), `trials` with an outcome each, and `problem` if palmette cannot use it.
    """
    if not tokenizer.chat_template:
        return {"present": False}
    facts: dict[str, Any] = {
        "present": True,
        "problem": None,
        "pieces": [],
        "generation_prompt": _generation_prompt(tokenizer),
        "default_system": default_system(tokenizer),
        "trials": [{"what": what, "outcome": _outcome(tokenizer, messages)} for what, messages in _TRIALS],
    }
    try:
        facts["pieces"] = _pieces(ChatTemplate(tokenizer))
    except TemplateError as error:
        facts["problem"] = str(error)
    return facts


def _pieces(template: ChatTemplate) -> list[dict[str, str]]:
    """The example, cut into the text of the template and the messages by their roles."""
    messages = [Message(role, (Piece(text, tag=role),)) for role, text in _CONVERSATION]
    return [
        {"text": one.text, "role": one.tag if one.kind == "content" and one.tag else "template"}
        for one in template.segments(messages)
    ]


def _rendered(tokenizer: Any, messages: list[dict[str, str]], *, prompt: bool = False) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))


def _generation_prompt(tokenizer: Any) -> str | None:
    """What the template writes for the assistant to go on from. None if it refuses a plain question."""
    messages = [{"role": "user", "content": _USER}]
    try:
        plain, prompted = _rendered(tokenizer, messages), _rendered(tokenizer, messages, prompt=True)
    except Exception:  # templates raise what they like
        return None
    return prompted.removeprefix(plain)


def default_system(tokenizer: Any) -> str | None:
    """The system message that a template writes where the conversation has none. None if it writes none.

    The template is rendered with a system message and without one. What both have in common around the place of the
    message is the template's own.
    """
    user = {"role": "user", "content": _USER}
    try:
        given = _rendered(tokenizer, [{"role": "system", "content": _SYSTEM}, user])
        plain = _rendered(tokenizer, [user])
    except Exception:  # templates raise what they like
        return None
    before, found, after = given.partition(_SYSTEM)
    if not found or not plain.startswith(before) or not plain.endswith(after):
        return None
    return plain[len(before) : len(plain) - len(after)].strip() or None


def _outcome(tokenizer: Any, messages: tuple[tuple[str, str], ...]) -> str:
    """What a template does with messages: "taken", "refused: ...", "left out" or "changed"."""
    conversation = [{"role": role, "content": text} for role, text in messages]
    try:
        shown = _rendered(tokenizer, conversation)
    except Exception as error:  # templates raise what they like
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return f"refused: {reason}"
    missing = [text for _, text in messages if text.strip() not in shown]
    if missing:
        return "left out"
    return "taken" if all(text in shown for _, text in messages) else "trimmed"
