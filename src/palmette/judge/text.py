"""Verdicts read out of what a judge wrote.

By the rule of lines, a verdict is a line that holds a verdict and nothing else. All such lines of a reply must say the
same. Otherwise the reply is unread, which is counted and never dropped. A judge that repeats the format that it was
asked for, or that changes its mind, is not misread.

Grades can also be read by the rule of MT-Bench (FastChat, llm_judge/common.py), so that published figures can be
compared with: the first number in double brackets anywhere in the text, else the first one in single brackets. Its
range is not checked.
"""

from __future__ import annotations

import re
from typing import Literal

Rule = Literal["line", "mt-bench"]
Choice = Literal["A", "B", "tie"]

LOWEST, HIGHEST = 1.0, 10.0

_LABEL = r"(?:(?:final\s+)?(?:verdict|answer|judge?ment|decision|rating|score|grade)\s*(?:is\s*)?[:=]?\s*)?"
_ORNAMENT = " \t*_`#>\"'.“”«»()"
_CHOICE = re.compile(
    _LABEL + r"(?:\[\[(A|B|C|tie)\]\]|(?:(?:assistant|answer|response)\s+)?(A|B)|(tie))", re.IGNORECASE
)
_GRADE = re.compile(_LABEL + r"(?:\[\[)?(\d+(?:\.\d+)?)(?:\]\])?(?:\s*(?:/|out of)\s*10)?", re.IGNORECASE)
_BRACKETS = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))


def read_choice(text: str) -> Choice | None:
    """Which of two answers a reply prefers. None if that cannot be read.

    >>> read_choice("Both are fluent, but A is wrong.\\n\\n**Verdict: B**"), read_choice("A\\nNo, rather:\\nB")
    ('B', None)
    """
    found = {_choice(match) for match in _matches(_CHOICE, text)}
    return found.pop() if len(found) == 1 else None


def read_grade(text: str, rule: Rule = "line") -> float | None:
    """The grade that a reply gives an answer. None if it cannot be read.

    By the rule of lines a grade lies between 1 and 10.

    >>> read_grade("Clear and right.\\nRating: [[8]]"), read_grade("Clear and right. Rating: [[8]]")
    (8.0, None)
    >>> read_grade("As [1] says, [[9]].", "mt-bench"), read_grade("[[55]]", "mt-bench"), read_grade("[[55]]")
    (9.0, 55.0, None)

    Args:
        text: what the judge wrote.
        rule: how verdicts are found in it.
    """
    if rule == "mt-bench":
        match = next((match for pattern in _BRACKETS if (match := pattern.search(text))), None)
        return float(match.group(1)) if match else None
    found = {float(match.group(1)) for match in _matches(_GRADE, text)}
    grade = found.pop() if len(found) == 1 else None
    return grade if grade is not None and LOWEST <= grade <= HIGHEST else None


def _matches(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """The lines of a text that consist of a verdict."""
    lines = (line.strip(_ORNAMENT) for line in text.splitlines())
    return [match for line in lines if (match := pattern.fullmatch(line))]


def _choice(match: re.Match[str]) -> Choice:
    letter = next(group for group in match.groups() if group).upper()
    return "A" if letter == "A" else "B" if letter == "B" else "tie"
