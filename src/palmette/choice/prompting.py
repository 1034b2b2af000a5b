"""What stands before an item: a description, examples with their answers, and a chat template around all of it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jinja2

from palmette.choice.items import ChoiceItem
from palmette.choice.settings import Rule
from palmette.errors import DataError, TemplateError

_BETWEEN = "\n\n"
# Under lm-eval's rule nothing stands between the generation prompt and a choice.
_CHAT_DELIMITER: dict[Rule, str | None] = {"lm-eval": "", "lighteval-cloze": None}


def choose_shots(pool: Sequence[ChoiceItem], number: int, seed: int | None, subject: str) -> list[ChoiceItem]:
    """Examples for all items of a subject: the first ones, or a random choice that is the same for all items.

    Args:
        pool: items with known answers that are not measured.
        number: how many.
        seed: the seed of a random choice. The first ones if None.
        subject: only examples of this subject count.

    Raises:
        DataError: there are not enough.
    """
    fitting = [item for item in pool if item.subject == subject]
    if len(fitting) < number:
        of = f" of the subject {subject!r}" if subject else ""
        raise DataError(f"there are {len(fitting)} examples{of}, and --shots is {number}", "Give fewer --shots.")
    return fitting[:number] if seed is None else random.Random(f"{seed} {subject}").sample(fitting, number)


def examples_text(shots: Sequence[ChoiceItem]) -> str:
    """Examples as they stand before an item, each with its right answer.

    >>> shot = ChoiceItem("1", ("2 + 2 =",) * 2, (" 4", " 5"), ("4", "5"), 0)
    >>> examples_text([shot, shot])
    '2 + 2 = 4\\n\\n2 + 2 = 4\\n\\n'
    """
    return "".join(shot.contexts[shot.gold] + shot.continuations[shot.gold] + _BETWEEN for shot in shots)


class Chat:
    """Puts items into a conversation, in which the model begins its answer with a choice.

    Description apart, everything before the choice is one message of the user, as lm-eval has it.

    Args:
        tokenizer: a tokenizer with a chat template.

    Raises:
        TemplateError: it has no chat template.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.chat_template:
            raise TemplateError("the model has no chat template", "Leave --chat-template out: it is a base model.")
        self._tokenizer = tokenizer

    def prompt(self, text: str, description: str) -> str:
        """The text of a conversation up to where the model answers.

        Args:
            text: the user's message.
            description: the system message. "" leaves it to the template.

        Raises:
            TemplateError: the template rejects the messages.
        """
        messages = [{"role": "system", "content": description}] if description else []
        messages.append({"role": "user", "content": text})
        try:
            rendered: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            raise TemplateError(
                f"the chat template rejects the conversation: {error}", "Leave --chat-template out."
            ) from error
        return rendered


def prompted(
    item: ChoiceItem,
    rule: Rule,
    *,
    description: str = "",
    examples: str = "",
    chat: Chat | None = None,
    delimiter: str = " ",
) -> ChoiceItem:
    """An item with all that stands before it.

    Args:
        item: the item, without examples.
        rule: the rule, which says what stands between a chat's generation prompt and a choice.
        description: text before everything else.
        examples: examples, see `examples_text`.
        chat: the chat template, if there is one.
        delimiter: the delimiter that the item's continuations begin with.
    """
    if chat is None:
        return replace(item, contexts=_of_each(item.contexts, lambda text: description + examples + text))
    contexts = _of_each(item.contexts, lambda text: chat.prompt(examples + text, description))
    if _CHAT_DELIMITER[rule] is None:
        return replace(item, contexts=contexts)
    continuations = tuple(text.removeprefix(delimiter) for text in item.continuations)
    return replace(item, contexts=contexts, continuations=continuations)


def _of_each(texts: Sequence[str], change: Any) -> tuple[str, ...]:
    """The result of a function for each text. It is called once for texts that are the same."""
    changed: Mapping[str, str] = {text: change(text) for text in dict.fromkeys(texts)}
    return tuple(changed[text] for text in texts)
