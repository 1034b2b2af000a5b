"""Why a task, or an input with its output, is dropped: one reason each, the first that applies.

The rules are those of Self-Instruct, with the further words of Alpaca (Taori et al., 2023). Two differ: a task may
begin with a letter of any script, and "map" is no such word, since tasks use it as a verb. Replies to whole tasks have
rules of Evol-Instruct (Xu et al., 2023). *Not* covered: whether a task makes sense, and whether an output is right.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from palmette.corpus.words import words_of
from palmette.synth.instruct.seeds import Instance
from palmette.synth.recurring import empty_words
from palmette.synth.writers import Written

TASKS = {
    "cut off": "the text was cut at the limit of tokens before the task ended",
    "too short": "the task has 3 words or fewer",
    "too long": "the task has more than 150 words",
    "not a task of text": "the task speaks of pictures, sound, drawings or files",
    "a program": "the task begins with “Write a program”, of which writers give too many",
    "begins with a mark": "the task begins with neither a letter nor a digit",
    "alike": "the task is too much like a seed task or one that was kept, by ROUGE-L",
    "in an evaluation set": "the task shares 8 words in a row with an evaluation set",
    "ends with a colon": "the task ends with a colon, so what follows is missing",
    "not for the template": "the chat template cannot hold the task, which has text that separates turns",
    "kind unclear": "the writer does not say whether the task has labels",
    "nothing to learn": "no input with an output is left",
}
REQUESTS = {
    "failed": "the writer gave no text, or refused",
    "no list": "the text holds no numbered task",
}
INSTANCES = {
    "cut off": "the text was cut at the limit of tokens before it ended",
    "no output": "the output is empty",
    "no input": "a task with labels needs an input",
    "ends with a colon": "the input or the output ends with a colon, so what follows is missing",
    "repeats the input": "the output equals the input",
    "failed": "the writer gave no text, or refused",
    "apologises": "the reply says sorry in fewer than 80 words",
    "says nothing": "the reply has only marks and small words",
    "repeated": "the same input with the same output was written before",
    "two outputs": "one input has different outputs, so none of the task's is trusted",
    "in an evaluation set": "it shares 8 words in a row with an evaluation set",
}
_NOT_TEXT = re.compile(
    r"\b(?:images?|pictures?|photos?|photographs?|graphs?|charts?|diagrams?|flowcharts?|videos?|audio|music|files?|"
    r"maps|draw|plot|go to)\b",
    re.IGNORECASE,
)
_FEWEST, _MOST = 4, 150
_SORRY, _SHORT_REPLY = re.compile(r"\bsorry\b", re.IGNORECASE), 80  # of Evol-Instruct


def fault_of_form(text: str) -> str:
    """Why a task or a question is dropped for its length or its beginning, a key of `TASKS`. "" if it is not.

    Args:
        text: the task or question, without white space around it.

    >>> fault_of_form("Name three rivers."), fault_of_form("* Name three rivers.")
    ('too short', 'begins with a mark')
    """
    return "too long" if len(text.split()) > _MOST else _fault_of_beginning(text)


def _fault_of_beginning(text: str) -> str:
    if len(text.split()) < _FEWEST:
        return "too short"
    return "" if text[0].isalnum() else "begins with a mark"


def fault_of_matter(instruction: str) -> str:
    """Why a task is dropped however long it is, a key of `TASKS`. "" if it is not.

    Args:
        instruction: the task, without white space around it.
    """
    if reason := _fault_of_beginning(instruction):
        return reason
    return "not a task of text" if _NOT_TEXT.search(instruction) else ""


def fault_of_task(instruction: str) -> str:
    """Why a task is dropped before it is compared with others, a key of `TASKS`. "" if it is not.

    Args:
        instruction: the task, without white space around it.

    >>> fault_of_task("Draw a map of your town."), fault_of_task("Name three rivers of Asia.")
    ('not a task of text', '')
    """
    if reason := fault_of_form(instruction) or fault_of_matter(instruction):
        return reason
    return "a program" if instruction.lower().startswith("write a program") else ""


def faults_of_instances(instances: Sequence[Instance], *, classification: bool, last_cut: bool) -> list[str]:
    """Why each input with its output is dropped, a key of `INSTANCES`. "" if it is not.

    Args:
        instances: all that was written for a task.
        classification: whether the task has labels.
        last_cut: whether the text ended at the limit of tokens.
    """
    found: list[str] = []
    outputs: dict[str, set[str]] = defaultdict(set)
    for index, one in enumerate(instances):
        if last_cut and index == len(instances) - 1:
            found.append("cut off")
        elif not one.output:
            found.append("no output")
        elif classification and not one.input:
            found.append("no input")
        elif one.output.endswith(":") or one.input.endswith(":"):
            found.append("ends with a colon")
        elif one.output == one.input:
            found.append("repeats the input")
        else:
            found.append("repeated" if one.output in outputs[one.input] else "")
            outputs[one.input].add(one.output)
    if any(len(some) > 1 for some in outputs.values()):
        return [reason or "two outputs" for reason in found]
    return found


def fault_of_reply(task: str, reply: str, written: Written) -> str:
    """Why the reply to a whole task is dropped, a key of `INSTANCES`. "" if it is not.

    Args:
        task: the task.
        reply: what was written, without thoughts and white space around it.
        written: what the writer has written.
    """
    if written.finish not in ("end", "length"):
        return "failed"
    if written.finish == "length":
        return "cut off"
    if not reply:
        return "no output"
    if reply.endswith(":"):
        return "ends with a colon"
    if reply == task:
        return "repeats the input"
    if _SORRY.search(reply) and len(reply.split()) < _SHORT_REPLY:
        return "apologises"
    return "says nothing" if set(words_of(reply)) <= empty_words(reply) else ""
