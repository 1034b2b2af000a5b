"""Why a task, or an input with its output, is dropped: one reason each, the first that applies.

The rules are those of Self-Instruct, with the further words of Alpaca (Taori et al., 2023). Two differ: a task may
begin with a letter of any script, and "map" is no such word, since tasks use it as a verb. *Not* covered:
whether a task makes sense, and whether an output is right.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from palmette.synth.instruct.seeds import Instance

TASKS = {
    "cut off": "the text was cut at the limit of tokens before the task ended",
    "too short": "the task has 3 words or fewer",
    "too long": "the task has more than 150 words",
    "not a task of text": "the task speaks of pictures, sound, drawings or files",
    "a program": "the task begins with “Write a program”, of which writers give too many",
    "begins with a mark": "the task begins with neither a letter nor a digit",
    "alike": "the task is too much like a seed task or one that was kept, by ROUGE-L",
    "in an evaluation set": "the task shares 8 words in a row with an evaluation set",
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


def fault_of_form(text: str) -> str:
    """Why a task or a question is dropped for its length or its beginning, a key of `TASKS`. "" if it is not.

    Args:
        text: the task or question, without white space around it.

    >>> fault_of_form("Name three rivers."), fault_of_form("* Name three rivers.")
    ('too short', 'begins with a mark')
    """
    number = len(text.split())
    if not _FEWEST <= number <= _MOST:
        return "too short" if number < _FEWEST else "too long"
    return "" if text[0].isalnum() else "begins with a mark"


def fault_of_task(instruction: str) -> str:
    """Why a task is dropped before it is compared with others, a key of `TASKS`. "" if it is not.

    Args:
        instruction: the task, without white space around it.

    >>> fault_of_task("Draw a map of your town."), fault_of_task("Name three rivers of Asia.")
    ('not a task of text', '')
    """
    if reason := fault_of_form(instruction):
        return reason
    if _NOT_TEXT.search(instruction):
        return "not a task of text"
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
