"""The words in which a writer is asked for tasks and for their inputs and outputs, and how what it writes is read.

The three requests are those of Self-Instruct (Wang et al., 2022, "Self-Instruct: Aligning Language Models with
Self-Generated Instructions"): a list of tasks after eight examples, whether a task has labels, and inputs with outputs.
For a task with labels the output comes first, since a writer that begins with an input tends to give one label only.
We ask a chat model, so examples are turns, and the wordings are our own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence

from palmette.synth.instruct.seeds import Instance, Task
from palmette.synth.writers import Written

Turns = tuple[tuple[str, str], ...]

ASKED = 10  # tasks a list
_LIST = (
    "Think of new tasks for an assistant that reads and writes only text. Here are {number} tasks:\n\n{examples}\n\n"
    "Write {asked} more, numbered from {first}. Each is an instruction of one or two sentences. Vary the verbs, the "
    "topics and the kind of output, and repeat none of the tasks above. Write only the list."
)
_KIND = "Task: {instruction}\n\nIs the output of this task always one of a few fixed labels? Answer yes or no."
_LABELS = (
    "Task: {instruction}\n\nWrite up to {most} examples of this task, with different labels. Begin each with the label "
    "that is the right output, then write an input that it is right for, in this form:\nLabel: ...\nInput: ..."
)
_INPUTS = (
    "Task: {instruction}\n\nWrite an example of this task: an input that is complete, and the right output to it, in "
    "this form:\nInput: ...\nOutput: ...\nIf the task needs no input, write Input: none"
)
_MOST_LABELS = 4
PROMPT_SHA256 = hashlib.sha256(json.dumps([_LIST, _KIND, _LABELS, _INPUTS, ASKED]).encode()).hexdigest()

_NUMBERED = re.compile(
    r"^[ \t>#-]*(\*\*)?(?:task[ \t]*)?\d{1,3}[ \t]*[.):](?(1)(?:\*\*)?)[ \t]*", re.IGNORECASE | re.MULTILINE
)
_BOLD = re.compile(r"\A\*\*(.+?)\*\*", re.DOTALL)
# A line between two examples.
_BETWEEN = re.compile(
    r"\n[ \t>*_#-]*(?:-{3}|(?:example|instance|pair)[ \t]*\d{0,3}[ \t]*[.):]?)[ \t*_]*\Z", re.IGNORECASE
)
_NONE = ("", "none", "no input", "n/a", "noinput")


def list_request(examples: Sequence[str]) -> Turns:
    """The turns that ask for a list of tasks.

    Args:
        examples: the instructions to show.
    """
    shown = "\n".join(f"{number}. {_line(text)}" for number, text in enumerate(examples, start=1))
    text = _LIST.format(number=len(examples), examples=shown, asked=ASKED, first=len(examples) + 1)
    return (("user", text),)


def read_list(written: Written) -> tuple[list[str], bool]:
    """The tasks of a numbered list, and whether the last of them was cut.

    >>> read_list(Written("Sure!\\n9. **Name** a river.\\n10. Say why\\n   it is long.", "end", 9))
    (['Name a river.', 'Say why it is long.'], False)
    """
    # A small writer may number a task twice: "Task 9: 9. Name a river."
    items = [
        item[twice.end() :] if (twice := _NUMBERED.match(item)) else item
        for item in _NUMBERED.split(written.said)[2::2]
    ]
    items = [_BOLD.sub(r"\1", item) for item in items]
    plain = [_line(item.removesuffix("**") if item.count("**") % 2 else item) for item in map(str.strip, items)]
    return plain, written.finish == "length" and bool(plain)


def kind_request(instruction: str, shown: Sequence[Task]) -> Turns:
    """The turns that ask whether a task has labels.

    Args:
        instruction: the task.
        shown: seed tasks, for which the answer is known.
    """
    turns: list[tuple[str, str]] = []
    for task in shown:
        turns += [
            ("user", _KIND.format(instruction=task.instruction)),
            ("assistant", "Yes" if task.classification else "No"),
        ]
    return (*turns, ("user", _KIND.format(instruction=instruction)))


def read_kind(written: Written) -> bool | None:
    """Whether a task has labels, as the writer says. None if it says neither yes nor no."""
    match = re.match(r"\W*(yes|no)\b", written.said, re.IGNORECASE)
    return match[1].lower() == "yes" if match and written.finish in ("end", "length") else None


def instance_request(instruction: str, classification: bool, shown: Sequence[Task]) -> Turns:
    """The turns that ask for inputs and outputs of a task.

    Args:
        instruction: the task.
        classification: whether it has labels.
        shown: seed tasks of the same kind.
    """
    wording = _LABELS if classification else _INPUTS
    turns: list[tuple[str, str]] = []
    for task in shown:
        answer = _shown_labels(task) if classification else _shown_input(task)
        turns += [("user", wording.format(instruction=task.instruction, most=_MOST_LABELS)), ("assistant", answer)]
    return (*turns, ("user", wording.format(instruction=instruction, most=_MOST_LABELS)))


def _shown_labels(task: Task) -> str:
    return "\n\n".join(f"Label: {one.output}\nInput: {one.input or 'none'}" for one in task.instances[:_MOST_LABELS])


def _shown_input(task: Task) -> str:
    return f"Input: {task.instances[0].input or 'none'}\nOutput: {task.instances[0].output}"


def read_instances(written: Written, classification: bool) -> tuple[list[Instance], bool]:
    """The inputs and outputs in what was written, and whether the last of them was cut.

    >>> read_instances(Written("Label: even\\nInput: 4\\n\\nLabel: odd\\nInput: 7", "end", 9), True)[0]
    [Instance(input='4', output='even'), Instance(input='7', output='odd')]
    """
    first, second = ("label", "input") if classification else ("input", "output")
    found: list[Instance] = []
    for one, other in read_pairs(written.said, first, second):
        given, output = (other, one) if classification else (one, other)
        bare = given.strip(" .<>()[]").lower() in _NONE
        found.append(Instance("" if bare else given, output))
    return found, written.finish == "length" and bool(found)


def read_pairs(text: str, first: str, second: str) -> Iterator[tuple[str, str]]:
    """The values of two fields that follow each other in a text. The second is "" where it is missing.

    A second field without a first one before it is a pair too.

    >>> text = "Input: When?\\nOutput: At 7:40.\\n\\n**Example 2**\\n**Input:** Who?"
    >>> list(read_pairs(text, "input", "output"))
    [('When?', 'At 7:40.'), ('Who?', '')]
    """
    name = re.compile(
        rf"^[ \t>*#-]*(?:\d{{1,3}}[.)][ \t*]*)?(?:class[ \t]+)?({first}|{second})(?:\*\*)?[ \t]*:(?:\*\*)?[ \t]*",
        re.IGNORECASE | re.MULTILINE,
    )
    _, *parts = name.split(text)
    waiting: str | None = None
    for field, value in zip(parts[::2], parts[1::2], strict=True):
        value = _BETWEEN.sub("", value.rstrip()).strip()
        if field.lower() == first:
            if waiting is not None:
                yield waiting, ""
            waiting = value
        else:
            yield waiting or "", value
            waiting = None
    if waiting is not None:
        yield waiting, ""


def _line(text: str) -> str:
    return " ".join(text.split())
