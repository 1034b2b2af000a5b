"""A prompt of two turns: first whether there is an answer, then the answer; and free reasoning before a forced
opening.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from palmette.data.records import Question
from palmette.decode.effort import Effort
from palmette.decode.generation import GenerationDecoder
from palmette.decode.greedy import GreedyDecoder
from palmette.decode.span_decoder import SpanDecoder
from palmette.endpoint.decoder import EndpointDecoder
from palmette.errors import DataError, ModelError
from palmette.model.forward import logits_at
from palmette.tasks.extractive_qa import ExtractiveQa, Reasoning
from palmette.tasks.qa_prompt import ParsedAnswer, checked, load_prompt
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment
from tests.support.chat_server import Act, ChatServer, client_of, says
from tests.support.models import tiny_llama
from tests.support.tasks import DOCUMENT, task_with
from tests.support.templates import TEMPLATES

EVERYTHING = Effort(max_passes=None, tokens_per_pass=None)


def branch_tokens(tree: PrefixTree, index: int) -> list[int]:
    nodes = (tree.root, tree.root.children[index])
    return [token for node in nodes for segment in node.segments for token in segment.tokens]


def logprob(model: Any, before: tuple[int, ...], said: tuple[int, ...]) -> float:
    """Of tokens after others, in a row of their own."""
    batch = PackedBatch.from_trees([[PrefixTree(Node((Segment((*before, *said)),)))]])
    with torch.no_grad():
        rows = torch.arange(len(before) - 1, len(before) + len(said) - 1)
        found = logits_at(model, batch, rows).log_softmax(-1)
    return sum(float(found[index, token]) for index, token in enumerate(said))


def test_the_tree_is_the_conversation(tokenizer: Any) -> None:
    """As transformers renders it, of as many turns as the answer makes it."""
    prompt = load_prompt("two_turn")
    tree = task_with(tokenizer, Reasoning(), "two_turn").training_tree(DOCUMENT)
    for index, question in enumerate(DOCUMENT.questions):
        said = f"{prompt.before_document}{DOCUMENT.text}{prompt.before_question}{question.text}{prompt.after_question}"
        turns = [{"role": "system", "content": prompt.system}, {"role": "user", "content": said}]
        if question.answers:
            turns += [
                {"role": "assistant", "content": '{"enough": "yes"}'},
                {"role": "user", "content": prompt.second_turn},
                {"role": "assistant", "content": '{"answer": "granite"}'},
            ]
        else:
            turns += [{"role": "assistant", "content": '{"enough": "no"}'}]
        rendered = tokenizer.apply_chat_template(turns, tokenize=False)
        assert rendered.rstrip("\n") == tokenizer.decode(branch_tokens(tree, index))


@pytest.mark.parametrize(
    ("learn", "completions"),
    [
        ("assistant", ['{"enough": "yes"}<|im_end|>{"answer": "granite"}<|im_end|>', '{"enough": "no"}<|im_end|>']),
        ("answer", ['yes"}<|im_end|>granite"}<|im_end|>', 'no"}<|im_end|>']),
    ],
)
def test_both_turns_are_learned(tokenizer: Any, learn: Any, completions: list[str]) -> None:
    tree = task_with(tokenizer, Reasoning(), "two_turn", learn=learn).training_tree(DOCUMENT)
    for branch, completion in zip(tree.root.children, completions, strict=True):
        learned = [token for segment in branch.segments if segment.learn for token in segment.tokens]
        assert tokenizer.decode(learned) == completion


@pytest.mark.parametrize("style", sorted(TEMPLATES))
def test_no_and_yes_open_alike_in_every_template(style: str) -> None:
    """What a decoder forces before the verdict is what was learned before either."""
    task = ExtractiveQa(TEMPLATES[style], load_prompt("two_turn"))
    tree = task.training_tree(DOCUMENT)
    opened = task.open_completion(DOCUMENT.text, DOCUMENT.questions[0].text)
    assert opened.verdict is not None
    yes, no = branch_tokens(tree, 0), branch_tokens(tree, 1)
    question = [opened.question, task.open_completion(DOCUMENT.text, DOCUMENT.questions[1].text).question]
    forced = [(*opened.root, *opened.document, *asked, *opened.verdict.opening) for asked in question]
    assert tuple(yes[: len(forced[0]) + 1]) == (*forced[0], opened.verdict.yes[0])
    assert tuple(no[: len(forced[1]) + 1]) == (*forced[1], opened.verdict.no[0])
    answer = task.template.encoder.content("granite")
    second = (*opened.verdict.yes, *opened.verdict.turn, *opened.opening, *answer, opened.closing)
    assert tuple(yes[len(forced[0]) : len(forced[0]) + len(second)]) == second


def test_the_span_decoder_weighs_both_turns(tokenizer: Any) -> None:
    """P(no answer) = P(no) + P(yes) P("?" | yes); P(span) = P(yes) P(span | yes): summed by hand over rows of their
    own.
    """
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2)
    task, question = task_with(tokenizer, Reasoning(), "two_turn"), DOCUMENT.questions[0]
    decoder = SpanDecoder(model, tokenizer, load_prompt("two_turn"), effort=EVERYTHING)
    ((_, posterior),) = decoder.posteriors([replace(DOCUMENT, questions=(question,))])
    opened = task.open_completion(DOCUMENT.text, question.text)
    verdict = opened.verdict
    assert verdict is not None
    asked = (*opened.root, *opened.document, *opened.question, *verdict.opening)
    yes, no = (logprob(model, asked, (*said, verdict.closing)) for said in (verdict.yes, verdict.no))
    second = (*asked, *verdict.yes, *verdict.turn, *opened.opening)
    absent = logprob(model, second, (*opened.abstain, opened.closing))
    none = math.log(math.exp(no) + math.exp(yes + absent))
    assert len(posterior.spans) > 5
    for text, _, odds in posterior.spans:
        tokens = task.template.encoder.content(text)
        assert odds == pytest.approx(yes + logprob(model, second, (*tokens, opened.closing)) - none, abs=1e-9)


def test_a_search_cut_short_is_settled_with_the_first_turn(tokenizer: Any) -> None:
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2)
    prompt = load_prompt("two_turn")
    full = SpanDecoder(model, tokenizer, prompt, effort=EVERYTHING).answer(DOCUMENT.text, ["Of what?", "Who?"])
    quick = SpanDecoder(model, tokenizer, prompt, effort=Effort(max_passes=2)).answer(
        DOCUMENT.text, ["Of what?", "Who?"]
    )
    assert any(found.certified for found in quick)
    for wanted, found in zip(full, quick, strict=True):
        if found.certified:
            assert found.text == wanted.text


def test_greedy_asks_again_only_after_a_yes(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer))
    task = task_with(tokenizer, Reasoning(), "two_turn")
    rounds: list[int] = []
    scripts = [['{"enough": "yes"}', '{"enough": "no"}', "Perhaps."], ['{"answer": "granite"}']]

    def grown(self: Any, cache: Any, slots: list[int]) -> list[str]:
        rounds.append(len(slots))
        return list(scripts[len(rounds) - 1])

    monkeypatch.setattr(GreedyDecoder, "_grow", grown)
    document = replace(DOCUMENT, questions=(*DOCUMENT.questions, Question("q3", "Why?", ())))
    found = dict(GreedyDecoder(model, tokenizer, task).predict([document]))
    assert rounds == [3, 1]
    assert [(found[id_].text, found[id_].valid_json) for id_ in ("q1", "q2", "q3")] == [
        ("granite", True),
        ("", True),
        ("Perhaps.", False),
    ]
    assert found["q1"].completion == '{"enough": "yes"}\n{"answer": "granite"}'


def test_greedy_grows_the_second_completion_below_the_first(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second completion is what plain generation would write after the whole conversation so far."""
    model, plain = (
        tiny_llama(torch.float64, name, vocab_size=len(tokenizer), initializer_range=0.2)
        for name in ("palmette_sdpa", "sdpa")
    )
    task, question = task_with(tokenizer, Reasoning(), "two_turn"), DOCUMENT.questions[0]
    monkeypatch.setattr(type(task.prompt), "verdict", lambda self, raw: True)
    found = dict(GreedyDecoder(model, tokenizer, task, max_new_tokens=5).completions([(DOCUMENT, question)]))[0]
    opened = task.open_completion(DOCUMENT.text, question.text)
    assert opened.verdict is not None
    row = [*opened.root, *opened.document, *opened.question]
    row += [*opened.verdict.opening, *opened.verdict.yes, *opened.verdict.turn]
    completion: list[int] = []
    for _ in range(5):
        with torch.no_grad():
            best = int(plain(torch.tensor([[*row, *completion]])).logits[0, -1].argmax())
        if best == task.end_of_turn():
            break
        completion.append(best)
    assert found.rpartition("\n")[2] == tokenizer.decode(completion)


def test_reading_completions_of_two_turns() -> None:
    prompt = load_prompt("two_turn")
    assert prompt.read('{"enough": "no"}') == ParsedAnswer("", True)
    assert prompt.read('{"enough": "yes"}\n{"answer": "1882"}') == ParsedAnswer("1882", True)
    assert not prompt.read('{"enough": "yes"}').valid
    assert not prompt.read('{"enough": "maybe"}').valid
    with pytest.raises(DataError, match="has 'before_verdict' but no 'second_turn'"):
        checked(replace(prompt, second_turn=""), "mine")


@pytest.mark.parametrize("limit", [3, 7])
def test_free_reasoning_is_what_the_model_writes_by_itself(tokenizer: Any, limit: int) -> None:
    """Reasoning, then the forced opening, then the spans: each in a row of its own, without a cache."""
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2)
    task, question = task_with(tokenizer, Reasoning(), "json_think"), DOCUMENT.questions[0]
    opened = task.open_completion(DOCUMENT.text, question.text)
    before = (*opened.root, *opened.document, *opened.question)
    reasoning: tuple[int, ...] = ()
    for _ in range(limit):
        batch = PackedBatch.from_trees([[PrefixTree(Node((Segment((*before, *reasoning)),)))]])
        with torch.no_grad():
            best = int(logits_at(model, batch, torch.tensor([len(before) + len(reasoning) - 1])).argmax())
        if best == task.end_of_turn():
            break
        reasoning = (*reasoning, best)
    assert reasoning, "nothing to reason with"
    asked = replace(DOCUMENT, questions=(question,))
    decoder = SpanDecoder(model, tokenizer, load_prompt("json_think"), effort=EVERYTHING, reasoning_limit=limit)
    ((_, posterior),) = decoder.posteriors([asked])
    forced = (*before, *reasoning, *opened.opening)
    absent = logprob(model, forced, (*opened.abstain, opened.closing))
    for text, _, odds in posterior.spans:
        tokens = task.template.encoder.content(text)
        assert odds == pytest.approx(logprob(model, forced, (*tokens, opened.closing)) - absent, abs=1e-9)
    greedy = GreedyDecoder(model, tokenizer, task, max_new_tokens=4, reasoning_limit=limit)
    completion = dict(greedy.completions([(DOCUMENT, question)]))[0]
    assert completion.startswith(tokenizer.decode(list(reasoning)) + task.prompt.before_answer)


def test_reasoning_ends_where_the_model_opens_its_answer(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model opened itself is cut off and written in anew, so the wrapper has the tokens that were learned."""
    from palmette.decode import reasoning
    from palmette.decode.growth import grow

    model = tiny_llama(torch.float64, vocab_size=len(tokenizer))
    task = task_with(tokenizer, Reasoning(), "json_think")
    encode = task.template.encoder.content
    script = [*encode("So: "), *encode(task.prompt.before_answer), *encode("tower")]

    def scripted(cache: Any, slots: list[int], _: Any, **options: Any) -> Any:
        taken = iter(script)
        return grow(cache, slots, lambda logits, growing: [next(taken) for _ in growing], **options)

    monkeypatch.setattr(reasoning, "grow", scripted)
    asked = [(DOCUMENT, DOCUMENT.questions[0])]
    completion = dict(GreedyDecoder(model, tokenizer, task, max_new_tokens=3, reasoning_limit=99).completions(asked))[0]
    assert completion.startswith("So: " + task.prompt.before_answer)
    assert completion.count(task.prompt.before_answer) == 1


def test_what_cannot_be_is_refused(tokenizer: Any) -> None:
    model = tiny_llama(vocab_size=len(tokenizer))
    with pytest.raises(DataError, match="does not reason freely"):
        SpanDecoder(model, tokenizer, load_prompt("two_turn"), reasoning_limit=9)
    with pytest.raises(ModelError, match="cannot insert"):
        GenerationDecoder(model, tokenizer, task_with(tokenizer, Reasoning(), "two_turn"))
    with pytest.raises(ModelError, match="cannot insert"):
        GenerationDecoder(model, tokenizer, task_with(tokenizer, Reasoning(), "json_think"), reasoning_limit=9)
    with pytest.raises(DataError, match="asks for JSON alone"):
        GreedyDecoder(model, tokenizer, task_with(tokenizer, Reasoning()), reasoning_limit=9)


def test_a_server_is_asked_again_only_after_a_yes() -> None:
    prompt, said = (
        load_prompt("two_turn"),
        {"Of what?": '{"enough":"yes"}', "Who?": '{"enough": "no"}', "Why?": "Perhaps."},
    )

    def answer(request: dict[str, Any]) -> Act:
        messages = request["messages"]
        if len(messages) == 2:
            return says(next(completion for question, completion in said.items() if question in messages[1]["content"]))
        assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
        assert [message["content"] for message in messages[2:]] == [said["Of what?"], prompt.second_turn]
        return says('{"answer": "granite"}')

    document = replace(DOCUMENT, questions=(*DOCUMENT.questions, Question("q3", "Why?", ())))
    with ChatServer(answer) as server:
        found = dict(EndpointDecoder(client_of(server), prompt).predict([document]))
        assert len(server.asked) == 4
    assert [(found[id_].text, found[id_].valid_json) for id_ in ("q1", "q2", "q3")] == [
        ("granite", True),
        ("", True),
        ("Perhaps.", False),
    ]
    assert found["q1"].start == DOCUMENT.text.index("granite")
