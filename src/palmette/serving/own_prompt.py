"""Conversations that are a model's own prompt: a document and a question, in the words that it was trained with."""

from __future__ import annotations

from collections.abc import Sequence

from palmette.data.records import Document, Question
from palmette.decode.prediction import Prediction
from palmette.serving.jobs import Completion
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import ABSTAIN, QaPrompt

Turn = tuple[str, str]  # role, text


def own_question(prompt: QaPrompt, turns: Sequence[Turn]) -> tuple[str, str] | None:
    """The document and the question in a conversation, or None if it is another conversation.

    The question begins after the last place where the words between document and question stand. So a document may
    hold these words, and a question may not.

    Args:
        prompt: the prompt.
        turns: the conversation.
    """
    turns = _without_first_turn(prompt, turns)
    system = [("system", prompt.system)] if prompt.system else []
    if len(turns) != len(system) + 1 or list(turns[:-1]) != system or turns[-1][0] != "user":
        return None
    text = turns[-1][1]
    begin, end = len(prompt.before_document), len(text) - len(prompt.after_question)
    if not (
        text.startswith(prompt.before_document) and text.endswith(prompt.after_question) and prompt.before_question
    ):
        return None
    copies, middle, question = text[begin:end].rpartition(prompt.before_question)
    document = _one_copy(prompt, copies)
    return (document, question) if middle and question.strip() and document.strip() else None


def own_completion(task: ExtractiveQa, document: Document, question: str, prediction: Prediction) -> Completion:
    """An answer as the completion that the model was trained to write: JSON, or with a bare prompt the answer alone.

    Args:
        task: the model's prompts.
        document: the document.
        question: the question.
        prediction: the answer.
    """
    text = task.prompt.completion(prediction.text or ABSTAIN)
    num_prompt_tokens = len(task.prompt_tokens(document, Question("question", question)))
    return Completion(text, "stop", num_prompt_tokens, len(task.template.encoder.content(text)))


def _one_copy(prompt: QaPrompt, copies: str) -> str:
    """The document, for a prompt that holds it twice. "" if its copies differ."""
    if not prompt.again:
        return copies
    length = (len(copies) - len(prompt.again)) // 2
    document = copies[: max(length, 0)]
    return document if copies == f"{document}{prompt.again}{document}" else ""


def _without_first_turn(prompt: QaPrompt, turns: Sequence[Turn]) -> Sequence[Turn]:
    """The conversation without a first turn that said "yes", and the second question, for a prompt of two turns."""
    if not prompt.two_turns or len(turns) < 4:
        return turns
    (role, verdict), last = turns[-2:]
    said = role == "assistant" and prompt.verdict(verdict)
    return turns[:-2] if said and last == ("user", prompt.second_turn) else turns
