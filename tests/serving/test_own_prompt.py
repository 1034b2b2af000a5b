"""A model's own prompt is recognised, for every prompt of the package and any text, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from palmette.data.records import Document, Question
from palmette.serving.own_prompt import own_question
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.qa_prompt import load_prompt, prompt_names

PROMPTS = {name: load_prompt(name) for name in prompt_names()}
# Among the texts are the prompts' own words.
WORDS = st.sampled_from([part for prompt in PROMPTS.values() for part in (prompt.before_question, prompt.again)])
TEXTS = st.lists(st.one_of(st.text(max_size=20), WORDS), min_size=1, max_size=4).map("".join).map(str.strip)


def turns(name: str, document: str, question: str) -> list[tuple[str, str]]:
    """The messages that clients send, as another module writes them."""
    messages = qa_messages(PROMPTS[name], Document("d", document, ()), Question("q", question))
    return [(message["role"], message["content"]) for message in messages]


@pytest.mark.parametrize("name", PROMPTS)
@given(document=TEXTS, question=TEXTS)
def test_document_and_question_come_back(name: str, document: str, question: str) -> None:
    assume(document and question and PROMPTS[name].before_question.strip() not in question)
    assert own_question(PROMPTS[name], turns(name, document, question)) == (document, question)


@pytest.mark.parametrize("name", PROMPTS)
def test_other_conversations_are_not_taken_for_it(name: str) -> None:
    prompt, asked = PROMPTS[name], turns(name, "It rains.", "What?")
    (system, told), (user, text) = asked
    for other in (
        [(user, text)],
        [(system, told + "!"), (user, text)],
        [(system, told), (user, "Hello")],
        [(system, told), (user, "Please: " + text)],
        [(system, told), ("assistant", text)],
        [*asked, ("assistant", "It rains."), (user, "Why?")],
        turns(name, "It rains.", " "),
    ):
        assert own_question(prompt, other) is None


def test_two_copies_that_differ_are_another_conversation() -> None:
    name = "echo_twice"
    (system, told), (user, text) = turns(name, "It rains.", "What?")
    assert own_question(PROMPTS[name], [(system, told), (user, text.replace("It rains.", "It snows.", 1))]) is None


def test_the_second_turn_of_two_asks_the_same_question() -> None:
    prompt, asked = PROMPTS["two_turn"], turns("two_turn", "It rains.", "What?")
    verdicts = [f"{prompt.before_verdict}{word}{prompt.after_verdict}" for word in ("yes", "no")]
    second = [[*asked, ("assistant", verdict), ("user", prompt.second_turn)] for verdict in verdicts]
    assert own_question(prompt, second[0]) == ("It rains.", "What?")
    assert own_question(prompt, second[1]) is None
