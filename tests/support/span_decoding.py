"""A tiny model that has learned a few answers, and every span of a document scored by itself."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch

from palmette.data.records import Answer, Document, Question
from palmette.decode.effort import Effort
from palmette.model.forward import score_tokens
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import json_escape, load_prompt
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from tests.support.models import tiny_llama
from tests.support.spans import plain_spans

EVERYTHING = Effort(max_words=4, max_passes=None, tokens_per_pass=None)


QUESTIONS = ["Who?", "What is the tower built of?"]


TEXT = "The tower is granite, and white. The ferry leaves at 7:40 from pier 3, but not in winter."


# Learned by heart by the model of these tests, so that it is sure of itself now and then, as a trained one is.
LEARNED = {
    "What is the tower built of?": "granite",
    "When does the ferry leave?": "7:40",
    "Where from?": "pier 3",
    "Who built it?": "?",
    "What colour is the ferry?": "?",
    "Who?": "?",
}


def fitted(tokenizer: Any, prompt: str = "plain", **changes: Any) -> Any:
    """A tiny model that has learned a few answers about one text."""
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2, **changes)
    task = ExtractiveQa(ChatTemplate(tokenizer), load_prompt(prompt))
    questions = tuple(Question(q, q, (Answer(a, TEXT.find(a)),) if a != "?" else ()) for q, a in LEARNED.items())
    batch = PackedBatch.from_trees([[task.training_tree(Document("d", TEXT, questions))]])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        (-score_tokens(model, batch).logprob_P.mean()).backward()
        optimizer.step()
    return model.requires_grad_(False)


def stock(model: Any) -> Any:
    """The same weights with the attention of transformers."""
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("sdpa")
    return plain


def brute_force(
    model: Any,
    task: ExtractiveQa,
    document: str,
    question: str,
    max_words: int,
    lead: str = "",
    *,
    spans: Iterable[str] | None = None,
) -> dict[str, float]:
    """Log-probability of "?" and of each span with the closing's first token, each in a row of its own, without a
    cache.
    """
    encoder = task.template.encoder
    asked = Question("q", question)
    prompt = task.prompt_tokens(Document("d", document, (asked,)), asked) + list(encoder.content(lead + '{"answer": "'))
    scores = {}
    for text in dict.fromkeys(("?", *(plain_spans(document, max_words) if spans is None else spans))):
        tail = [*encoder.content(json_escape(text)), encoder.content('"}')[0]]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + tail])).logits[0, len(prompt) - 1 : -1]
        scores[text] = float(torch.log_softmax(logits, -1)[range(len(tail)), tail].sum())
    return scores


def check_offsets(document: str, prediction: Any) -> None:
    for candidate in prediction.candidates:
        assert document[candidate.start : candidate.end] == candidate.text
    if prediction.text:
        assert document[prediction.start : prediction.end] == prediction.text
    else:
        assert prediction.start is prediction.end is None
