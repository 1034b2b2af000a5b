"""White space, marks, thoughts, and values in messages, each defined once for the whole project."""

from __future__ import annotations

import re
import unicodedata

# For character classes of the `regex` package, whose \s follows Unicode and leaves out U+001C to U+001F.
# Python's str.isspace, str.strip, str.split and the \s of `re` take these four for white space, and so do we.
SPACE = r"\s\x1c-\x1f"
# Marks belong to the character before them. The two joiners do too: many scripts write them inside words.
MARKS = r"\p{M}\u200c\u200d"
_JOINERS = "\u200c\u200d"
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
_END_OF_THOUGHT = re.compile(r"</think(?:ing)?>")


def is_mark(character: str) -> bool:
    """Whether a character belongs to the one before it: an accent, a vowel sign, a joiner.

    The combining class does not tell, since it is 0 for most vowel signs of Indic scripts, Thai and Khmer.

    >>> [is_mark(character) for character in ("\u0301", "\u0940", "\u0e35", "\u200d", "a", " ")]
    [True, True, True, True, False, False]
    """
    return character in _JOINERS or unicodedata.category(character).startswith("M")


def skip_marks(text: str, end: int) -> int:
    """The first position from `end` on that is not inside a character and its marks.

    >>> skip_marks("ki\u0301ln", 2), skip_marks("kiln", 2)
    (3, 2)
    """
    while end < len(text) and is_mark(text[end]):
        end += 1
    return end


def without_thoughts(text: str) -> str:
    """What a model wrote without what it thought before.

    Of a thought that does not end nothing is kept. Where the chat template opens the thought, only its end is there.

    >>> [without_thoughts(text) for text in ("<think>Who?</think>When?", "Who?</think>When?", "<think>Who?")]
    ['When?', 'When?', '']
    """
    return _END_OF_THOUGHT.split(_THOUGHT.sub("", text))[-1]


def short(value: object) -> str:
    """A value of a data file for a message, as JSON has it, cut after 60 characters.

    >>> short(None), short(True), short("When?")
    ('null', 'true', "'When?'")
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except ValueError:  # an integer of more than 4300 digits
        return "a very long number"
    return text if len(text) <= 60 else text[:57] + "..."
