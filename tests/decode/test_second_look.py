"""A second look at each span, whether the document states it: learned, weighed exactly, and bounded."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from palmette.data.records import Answer, Document, Question
from palmette.decode.posterior import Decision, SpanPosterior
from palmette.decode.search import Search
from palmette.decode.span_decoder import Effort, SpanDecoder
from palmette.decode.trie import SpanTrie
from palmette.errors import DataError
from palmette.model.forward import score_tokens
from palmette.tasks.document_trees import document_trees
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import checked, load_prompt
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree, lay_out
from tests.support.models import tiny_llama
from tests.support.span_decoding import LEARNED, fitted, stock
from tests.support.span_decoding import TEXT as LEARNED_TEXT
from tests.support.tasks import DOCUMENT
from tests.support.templates import TEMPLATES

PROMPT = load_prompt("reader")
EVERYTHING = Effort(max_words=4, max_passes=None, tokens_per_pass=None)
TEXT = 'white tower\ngranite, "granite" or white granite? The tower'
QUESTIONS = (
    Question("stated", "Of what?", (Answer("granite", 13),), plausible=(Answer("white", 0), Answer("tower", 6))),
    Question("absent", "Who?", (), plausible=(Answer("white granite", 34),)),
    Question("bare", "Why?", ()),
)
SMALL = Document("d", TEXT, QUESTIONS)


def test_each_candidate_is_looked_at_below_its_question(tokenizer: Any) -> None:
    """The right answer is stated, plausible ones are not. Of these branches only the verdict is learned."""
    task = ExtractiveQa(ChatTemplate(tokenizer), PROMPT)
    stated, absent, bare = task.training_tree(SMALL).root.children
    learned = [
        ["".join(f"[{s.text}]" if s.learn else s.text for s in child.segments) for child in node.children]
        for node in (stated, absent)
    ]
    assert learned == [
        ["[granite][<|im_end|>]", "granite\n[yes]", "white\n[no]", " tower\n[no]"],
        ["[?][<|im_end|>]", " white granite\n[no]"],
    ]
    assert not bare.children


def test_a_plausible_answer_that_is_accepted_too_is_not_denied(tokenizer: Any) -> None:
    question = replace(QUESTIONS[0], plausible=(Answer('"granite"', 22),))
    (node,) = (
        ExtractiveQa(ChatTemplate(tokenizer), PROMPT).training_tree(replace(SMALL, questions=(question,))).root.children
    )
    assert [child.segments[-1].text for child in node.children] == ["<|im_end|>", "yes"]


def test_looks_change_no_other_token(tokenizer: Any) -> None:
    """The completions are scored as without looks, and each verdict as in a row of its own."""
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2)
    task = ExtractiveQa(ChatTemplate(tokenizer), PROMPT)
    plain = ExtractiveQa(ChatTemplate(tokenizer), replace(PROMPT, look=""))

    def learned(tree: PrefixTree) -> list[tuple[str, int, float]]:
        """The branch, the token and the log-probability of each learned token."""
        batch, row = PackedBatch.from_trees([[tree]]), lay_out(tree)
        scores = score_tokens(model, batch)
        columns = scores.column_P.tolist()
        names = [row.nodes[row.node[column]][1] for column in columns]
        return list(zip(names, [row.token[c] for c in columns], scores.logprob_P.tolist(), strict=True))

    found, without = learned(task.training_tree(SMALL)), learned(plain.training_tree(SMALL))
    answers = [entry for entry in found if "/look/" not in entry[0]]
    assert answers == [(name, token, pytest.approx(value, abs=1e-9)) for name, token, value in without]
    opened, encode = task.open_completion(TEXT, "Of what?"), task.template.encoder.content
    prompt = [*opened.root, *opened.document, *opened.question]
    for number, (span, verdict) in enumerate([("granite", "yes"), ("white", "no"), (" tower", "no")], start=1):
        row, said = [*prompt, *encode(span), *encode("\n")], encode(verdict)
        with torch.no_grad():
            logits = stock(model)(input_ids=torch.tensor([[*row, *said]])).logits[0, len(row) - 1 : -1]
        logprobs = logits.log_softmax(-1)[range(len(said)), said].tolist()
        looked = [(token, value) for name, token, value in found if name == f"stated/look/{number}"]
        assert looked == [(t, pytest.approx(v, abs=1e-9)) for t, v in zip(said, logprobs, strict=True)]


def test_a_long_document_is_split_with_its_looks(tokenizer: Any) -> None:
    task = ExtractiveQa(ChatTemplate(tokenizer), PROMPT)
    whole = task.training_tree(SMALL)
    trees, left_out = document_trees(task, SMALL, max_tokens=whole.num_tokens - 1)
    assert not left_out
    assert len(trees) == 2
    assert all(tree.num_tokens < whole.num_tokens for tree in trees)


@pytest.mark.parametrize("style", sorted(TEMPLATES))
def test_the_posterior_equals_brute_force(style: str) -> None:
    """P(span, stated) and P("?") + P(span, not stated) of all spans: each factor in a row of its own."""
    template = TEMPLATES[style]
    tokenizer = template._tokenizer
    task = ExtractiveQa(template, PROMPT)
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.3)
    question = Question("q", "Of what?")
    opened = task.open_completion(TEXT, question.text)
    assert opened.look is not None
    prompt = [*opened.root, *opened.document, *opened.question, *opened.opening]
    decoder = SpanDecoder(model, tokenizer, PROMPT, effort=EVERYTHING, template=template)
    ((_, posterior),) = decoder.posteriors([Document("d", TEXT, (question,))])
    trie = decoder.reading(Document("d", TEXT, ()), decoder.windows(TEXT), 0).trie
    plain = stock(model)

    def scored(tail: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return plain(input_ids=torch.tensor([[*prompt, *tail]])).logits[0, len(prompt) - 1 :].log_softmax(-1)

    stated: dict[str, float] = {}
    absent = 0.0
    for string, text in enumerate(trie.strings):
        tokens = [trie.token[node] for node in trie.path_to(string)]
        logprobs = scored([*tokens, *opened.look.cue])
        said = math.exp(sum(float(logprobs[i, token]) for i, token in enumerate([*tokens, opened.closing])))
        yes, no = (math.exp(float(logprobs[-1, token])) for token in (opened.look.yes, opened.look.no))
        share = yes / (yes + no) if string else 0.0
        stated[text] = stated.get(text, 0.0) + said * share
        absent += said * (1.0 - share)
    assert len(posterior.spans) > 5
    for text, _, odds in posterior.spans:
        assert math.exp(odds) == pytest.approx(stated[text] / absent, rel=1e-6)


def test_what_is_certified_is_right(tokenizer: Any) -> None:
    """A search that was cut short gives what the whole search gives wherever it says so."""
    model = fitted(tokenizer, prompt="reader")
    whole, quick = (
        SpanDecoder(model, tokenizer, PROMPT, effort=effort).answer(LEARNED_TEXT, list(LEARNED))
        for effort in (EVERYTHING, Effort(max_words=4, max_passes=3, tokens_per_pass=12))
    )
    pairs = [(wanted, found) for wanted, found in zip(whole, quick, strict=True) if found.certified]
    assert {bool(found.text) for _, found in pairs} == {True, False}
    assert all((found.text, found.refusal) == (wanted.text, wanted.refusal) for wanted, found in pairs)


@pytest.mark.parametrize("seed", range(40))
def test_unscored_strings_are_bounded(seed: int) -> None:
    """Whatever the looks at the strings that were not scored would say, the odds lie within the bounds."""
    rng = random.Random(seed)
    trie = SpanTrie()
    trie.add((1,), "?", -1)
    for index in range(8):
        trie.add([rng.randint(2, 4) for _ in range(rng.randint(1, 3))], f"s{index}", index, foreign=rng.random() < 0.3)
    share = {node: rng.random() for node in range(len(trie))}
    end = {node: rng.random() for node in range(len(trie))}
    says = {node: rng.gauss(0, 2) for node in range(len(trie))}

    def absorb(search: Search, node: int) -> None:
        """Probabilities: those of the children and that of ending, in proportion to the numbers drawn above."""
        children = trie.children[node]
        total = end[node] + math.fsum(share[child] for child in children.values())
        logprobs = {token: math.log(share[child] / total) for token, child in children.items()}
        search.absorb(node, logprobs, math.log(end[node] / total), says[node] if search.is_looked_at(node) else None)

    whole, part = Search(trie, looks=True), Search(trie, looks=True)
    for node in range(len(trie)):
        absorb(whole, node)
    some = {0, *trie.path_to(0)}
    for node in range(1, len(trie)):
        if trie.parent[node] in some and rng.random() < 0.6:
            some.add(node)
    for node in sorted(some):
        absorb(part, node)
    true, known = whole.evidence, part.evidence
    assert known.scored - known.slack <= true.scored + 1e-9
    assert true.scored <= known.answered + 1e-9
    assert true.best <= max(known.best, known.rivals) + 1e-9
    exact = {text: odds for text, _, odds in SpanPosterior.merge([whole.scores()]).spans}
    for text, (_, odds) in part.scores().spans.items():
        assert odds - known.slack - 1e-9 <= exact[text]
    decided, certain = Decision().verdict(known)
    if certain:
        assert decided == Decision().verdict(true)[0]


def test_a_look_needs_a_bare_prompt() -> None:
    with pytest.raises(DataError, match="is not bare"):
        checked(replace(load_prompt("plain"), look="\n"), "mine")


def test_a_prompt_without_a_look_takes_none(tokenizer: Any) -> None:
    task = ExtractiveQa(ChatTemplate(tokenizer), load_prompt("echo"))
    assert task.open_completion(DOCUMENT.text, "Who?").look is None
    assert all(not child.children for child in task.training_tree(SMALL).root.children)
