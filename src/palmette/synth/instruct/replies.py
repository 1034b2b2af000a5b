"""Replies to tasks without inputs, as Magpie and Evol-Instruct have them."""

from __future__ import annotations

from collections.abc import Sequence

from palmette.synth.instruct.faults import fault_of_reply
from palmette.synth.leaks import IsLeaked
from palmette.synth.work import Line
from palmette.synth.writers import Writer, Written, request_of, written_by


def add_replies(tasks: Sequence[Line], writer: Writer, is_leaked: IsLeaked) -> list[Written]:
    """Ask for replies, and add them to the tasks, with the reasons for which they are dropped.

    Args:
        tasks: tasks that nothing is wrong with. One whose reply is dropped gets the reason "nothing to learn".
        writer: replies.
        is_leaked: whether a text shares words with an evaluation set.

    Returns:
        What was written.
    """
    replies = written_by(writer, [request_of((("user", one["instruction"]),)) for one in tasks])
    for task, written in zip(tasks, replies, strict=True):
        reply = written.said.strip()
        reason = fault_of_reply(task["instruction"], reply, written)
        if not reason and is_leaked(f"{task['instruction']}\n{reply}"):
            reason = "in an evaluation set"
        task["instances"] = [{"input": "", "output": reply, "reason": reason}]
        task["reason"] = "nothing to learn" if reason else ""
    return replies
