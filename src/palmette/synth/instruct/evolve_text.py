"""The words in which a writer is asked to evolve a task, and why an evolution is dropped.

The ways are those of Evol-Instruct (Xu et al., 2023, "WizardLM: Empowering Large Language Models to Follow Complex
Instructions"): five that make a task harder, and one that gives another task of the same field. The wordings are our
own. An evolution is dropped for the paper's four reasons (nothing gained, a reply that apologises, a reply of marks and
small words, words of the request in the task), and for those of every other task.
"""

from __future__ import annotations

import hashlib
import json
import random
import re

from palmette.corpus.words import words_of
from palmette.synth.instruct.text import Turns
from palmette.synth.writers import Written

_HARDER = (
    "Task: {task}\n\nRewrite this task so that it is harder, but people can still understand it and do it. {how} Add "
    "10 to 20 words at most, and keep what the task comes with, such as a text or figures. Write only the rewritten "
    "task."
)
_OTHER = (
    "Task: {task}\n\nInvent a different task of the same field, about as long and as hard, that comes up more rarely. "
    "It must be possible to do with text alone. Write only the new task."
)
WAYS = {
    "constraint": "Add one more condition that a good reply has to meet.",
    "depth": "Ask for more depth, or for more sides of the matter.",
    "concrete": "Put particular things in place of general ones.",
    "steps": "Change it so that several steps of reasoning are needed to get to the reply.",
    "input": "Add data that the reply has to use, such as a short table, some figures or a few lines of code.",
    "other": "",
}
_SAME = (
    "First task: {one}\n\nSecond task: {other}\n\nDo both ask for the same, under the same conditions and in the same "
    "depth? Answer yes or no."
)
PROMPT_SHA256 = hashlib.sha256(json.dumps([_HARDER, _OTHER, WAYS, _SAME]).encode()).hexdigest()

EVOLUTIONS = {
    "failed": "the writer gave no text, or refused",
    "cut off": "the text was cut at the limit of tokens before the task ended",
    "too short": "the task has 3 words or fewer",
    "too long": "the task has more than 150 words more than the one it came from",
    "begins with a mark": "the task begins with neither a letter nor a digit",
    "ends with a colon": "the task ends with a colon, so what follows is missing",
    "not a task of text": "the task speaks of pictures, sound, drawings or files",
    "speaks of the request": "the task has words of the request for it, such as “the rewritten task”",
    "unchanged": "the task equals the one it came from",
    "alike": "the task is too much like one that it did not come from, by ROUGE-L",
    "in an evaluation set": "the task shares 8 words in a row with an evaluation set",
    "nothing gained": "the writer says that it asks for the same as the task it came from",
    "gain unclear": "the writer does not say whether it asks for the same",
    "nothing to learn": "the reply was dropped",
}
_OF_REQUEST = re.compile(
    r"\b(?:rewritten|re-written|original|given|first|second|new|evolved|harder|previous) (?:task|prompt|instruction)\b",
    re.IGNORECASE,
)
_KIND = "(?:new|rewritten|harder|different) task"
# A task that only begins with the word is none with a label: "Tasks of a judge: ...".
_LABEL = re.compile(
    rf"\A[\s>*_#]*(?:(?:here is |here's )(?:the |a )?(?:{_KIND}|task)\b[^\n:]{{0,40}}"
    rf"|(?:the |a )?{_KIND}\b[^\n:]{{0,40}}|(?:the )?task[*_]*):[\s*_]*",
    re.IGNORECASE,
)
_QUOTED = re.compile(r'"[^"]*"|“[^“”]*”')
_MOST_ADDED = 150  # words


def draw_way(key: str) -> str:
    """A way to evolve a task, by chance, which a key determines."""
    return random.Random(key).choice(list(WAYS))


def evolve_request(task: str, way: str) -> Turns:
    """The turns that ask for an evolution.

    Args:
        task: the task.
        way: a key of `WAYS`.
    """
    wording = _HARDER if WAYS[way] else _OTHER
    return (("user", wording.format(task=task, how=WAYS[way])),)


def same_request(one: str, other: str) -> Turns:
    """The turns that ask whether two tasks ask for the same."""
    return (("user", _SAME.format(one=one, other=other)),)


def read_evolved(written: Written) -> str:
    """The task in what was written, without a label and without quotation marks around it.

    >>> read_evolved(Written("**Rewritten task:** Name three rivers of Asia by length.", "end", 9))
    'Name three rivers of Asia by length.'
    """
    text = _LABEL.sub("", written.said.strip()).strip()
    return text[1:-1].strip() if _QUOTED.fullmatch(text) else text


def fault_of_evolved(text: str, parent: str) -> str:
    """Why an evolution is dropped for its words, a key of `EVOLUTIONS`. "" if it is not.

    The length, the beginning and the matter of a task are checked elsewhere (`fault_of_task`).

    Args:
        text: the evolution.
        parent: the task it came from.

    >>> fault_of_evolved("Do the rewritten task in two lines.", "Do it in a line.")
    'speaks of the request'
    """
    if len(text.split()) > len(parent.split()) + _MOST_ADDED:
        return "too long"
    if text.endswith(":"):
        return "ends with a colon"
    # Words that the task had before are none of the request.
    if any(match[0].lower() not in parent.lower() for match in _OF_REQUEST.finditer(text)):
        return "speaks of the request"
    return "unchanged" if words_of(text) == words_of(parent) else ""
