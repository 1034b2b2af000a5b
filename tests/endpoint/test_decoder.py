"""A decoder that asks a server: its messages are our own template's, its replies become predictions."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from palmette.data.records import Answer, Document, Question
from palmette.endpoint.decoder import NO_COMPLETION, EndpointDecoder
from palmette.evaluate.squad import evaluate_squad
from palmette.tasks.extractive_qa import ExtractiveQa, qa_messages
from palmette.tasks.qa_prompt import load_prompt
from palmette.tree.chat import ChatTemplate
from tests.support.chat_server import ChatServer, client_of, fails, says

TOWER = Document(
    "tower",
    " The tower is granite. ",
    (
        Question("a", "Of what is it?", (Answer("granite", 14),)),
        Question("b", " Who built it?"),
        Question("c", "When?"),
    ),
)


def test_messages_are_what_our_own_template_makes(tokenizer: PreTrainedTokenizerFast) -> None:
    """The tokenizer's own chat template, given the messages, writes the text that our tokens decode to."""
    for name in ("plain", "json"):
        prompt = load_prompt(name)
        task = ExtractiveQa(ChatTemplate(tokenizer), prompt)
        messages = qa_messages(prompt, TOWER, TOWER.questions[1])
        rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert tokenizer.decode(task.prompt_tokens(TOWER, TOWER.questions[1])) == rendered
        assert "Who built it?" in rendered


def test_replies_become_predictions(server: ChatServer) -> None:
    server.acts = [says('{"answer": "granite"}'), says('{"answer": "?"}'), says('Sure: {"answer": "?"}')]
    found = dict(EndpointDecoder(client_of(server, concurrency=1), load_prompt()).predict([TOWER]))
    assert (found["a"].text, found["a"].start, found["a"].end, found["a"].valid_json) == ("granite", 14, 21, True)
    assert (found["b"].text, found["b"].refusal, found["b"].no_answer_probability) == ("", "absent", None)
    assert (found["c"].text, found["c"].valid_json) == ('Sure: {"answer": "?"}', False)
    server.acts = [says("{}"), says("{}"), says('Sure: {"answer": "granite')]
    loose = dict(EndpointDecoder(client_of(server, concurrency=1), load_prompt(), loose=True).predict([TOWER]))
    assert (loose["c"].text, loose["c"].valid_json) == ("granite", False)


def test_silence_is_not_taken_for_a_refusal(server: ChatServer) -> None:
    """Questions b and c have no answer: an empty reply, and none at all, would be right if they counted as empty
    answers.
    """
    server.acts = [says('{"answer": "granite"}'), says(None, "length"), fails(400, "filtered")]
    decoder = EndpointDecoder(client_of(server, concurrency=1), load_prompt(), on_failure="broken")
    result = evaluate_squad(decoder, [TOWER])
    assert [answer.exact for answer in result.scored] == [1.0, 0.0, 0.0]
    assert [answer.prediction.text for answer in result.scored[1:]] == [NO_COMPLETION, NO_COMPLETION]
    assert {question: error.problem for question, error in decoder.failures.items()} == {
        "c": "the server refuses the request: status 400: filtered"
    }
