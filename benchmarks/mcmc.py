"""Blanks filled by Metropolis-Hastings, against filling them one by one, all at once, and by Gibbs.

Sentences of a file of texts lose every third word. Each way fills them. Measured are the pseudo-perplexity of the
texts under the model itself, their perplexity under a causal model that saw none of this, and distinct-1 and distinct-2
(Li et al., 2016): different words and pairs of words, as a share of all that were filled in, over all sentences.
Both perplexities have 95 % intervals by bootstrap over sentences.

    python benchmarks/mcmc.py --model runs/mlm --texts paragraphs.jsonl

A small number of sentences is one look, and no proof. The table says how many there were.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from palmette.corpus.sources import open_source
from palmette.corpus.texts import Text
from palmette.encoders.blanks import Blanks, read_blanks, words_of
from palmette.encoders.chain import Kernel
from palmette.encoders.masked import MaskedModel, load_masked, text_energies
from palmette.errors import DataError
from palmette.evaluate.bootstrap import ratio_intervals
from palmette.inference.perplexity import score_sources
from palmette.model.loading import LoadedModel, load_model
from palmette.tasks.text_pieces import TextPieces

_SENTENCE = re.compile(r"[A-Z][^.!?]{40,110}[.!?](?=\s|$)")
_EVERY = 3  # every third word is a blank


@dataclass(frozen=True)
class Task:
    """A sentence with blanks."""

    truth: str
    blanks: Blanks
    words: tuple[str, ...]  # the words that were there


@dataclass(frozen=True)
class Filled:
    """A sentence with its blanks filled."""

    text: str
    words: tuple[str, ...]


Fill = Callable[[MaskedModel, Task, int], list[Filled]]  # model, sentence, seed -> one or several fillings


def tasks_of(model: MaskedModel, source: str, limit: int) -> list[Task]:
    """The first sentence of each text that has three blanks or more, all of single tokens."""
    found = []
    for text in open_source(source).open():
        assert isinstance(text, Text)
        for sentence in _SENTENCE.findall(text.text):
            try:
                whole = read_blanks(model, sentence)
            except DataError:
                continue
            assert whole.start_F is not None
            words = words_of(model, whole.start_F.tolist())
            chosen = range(_EVERY - 1, len(words), _EVERY)
            if len(chosen) < 3 or whole.kept:
                continue
            given = [("____" if index in chosen else word) for index, word in enumerate(words)]
            found.append(
                Task(whole.text(words), read_blanks(model, whole.text(given)), tuple(words[i] for i in chosen))
            )
            break
        if len(found) == limit:
            break
    return found


def kernel_of(model: MaskedModel, task: Task, seed: int, rule: str = "metropolis") -> Kernel:
    """A kernel for the blanks of a sentence."""
    return Kernel(model, task.blanks.space, seed=seed, rule="gibbs" if rule == "gibbs" else "metropolis")


def filled(model: MaskedModel, task: Task, token_CT: torch.Tensor) -> list[Filled]:
    """The texts of rows of tokens."""
    rows = [tuple(words_of(model, row)) for row in token_CT[:, list(task.blanks.space.free)].tolist()]
    return [Filled(task.blanks.text(words), words) for words in rows]


def chains(rule: str, steps: int, num: int, end: float = 1.0) -> Fill:
    """The last texts of chains, whose temperature falls from 1 to `end`."""

    def fill(model: MaskedModel, task: Task, seed: int) -> list[Filled]:
        kernel = kernel_of(model, task, seed, rule)
        if rule == "gibbs":  # which needs no energies
            kernel = replace(kernel, space=replace(kernel.space, counted=()))
        state = kernel.start(num)
        for number in range(1, steps + 1):
            state, _ = kernel.step(state, number, end ** (number / steps))
        return filled(model, task, state.token_CT)

    return fill


def independent(num: int) -> Fill:
    """Every blank drawn by itself, from one pass with all of them masked: what chains start from."""

    def fill(model: MaskedModel, task: Task, seed: int) -> list[Filled]:
        return filled(model, task, kernel_of(model, task, seed).start(num).token_CT)

    return fill


def likeliest(model: MaskedModel, task: Task, _: int) -> list[Filled]:
    """The likeliest word of every blank, from one pass with all of them masked."""
    kernel = kernel_of(model, task, 0)
    token_CT = torch.tensor([task.blanks.space.row])
    free = torch.tensor([task.blanks.space.free])
    token_CT[:, free[0]] = kernel.proposals(token_CT, free).argmax(-1)
    return filled(model, task, token_CT)


def left_to_right(model: MaskedModel, task: Task, _: int) -> list[Filled]:
    """The likeliest word of one blank after the other, while those to its right are masked."""
    token_CT, free = torch.tensor([task.blanks.space.row]), task.blanks.space.free
    token_CT[:, list(free)] = model.mask
    kernel = kernel_of(model, task, 0)
    for column in free:
        token_CT[:, column] = kernel.proposals(token_CT, torch.tensor([[column]])).argmax(-1)[:, 0]
    return filled(model, task, token_CT)


def distinct(found: Sequence[Filled], size: int) -> float:
    """Different n-grams of the words that were filled in, as a share of all of them."""
    grams = [one.words[at : at + size] for one in found for at in range(len(one.words) - size + 1)]
    return len(set(grams)) / len(grams)


def causal_nats(loaded: LoadedModel, texts: Sequence[str]) -> np.ndarray:
    """The nats of each text under a causal model, and its tokens: (2, texts)."""
    pieces = TextPieces(loaded.tokenizer, 256)
    trees = [tree for number, text in enumerate(texts) for tree in pieces.trees(str(number), text)]
    scores = score_sources(loaded.model, trees, row_tokens=1024, tokens_per_batch=1024)
    return np.array([[score.nll for score in scores], [score.num_tokens for score in scores]])


def perplexity(nats: np.ndarray, sentences: Sequence[str], digits: int) -> str:
    """exp of the nats a token, with its interval."""
    low, high = np.exp(ratio_intervals({"nats": (nats[0], nats[1])}, sentences)["nats"])
    return f"{np.exp(nats[0].sum() / nats[1].sum()):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--sentences", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--chains", type=int, default=1)
    parser.add_argument("--causal", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--without", nargs="*", default=[], help="ways to leave out, by their names")
    options = parser.parse_args()
    model, causal = load_masked(options.model), load_model(options.causal)
    tasks = tasks_of(model, options.texts, options.sentences)
    blanks = sum(len(task.words) for task in tasks)
    print(f"{len(tasks)} sentences, {blanks} blanks, {options.chains} chains of {options.steps} steps\n", flush=True)
    ways: dict[str, Fill] = {
        "as written": lambda _model, task, _seed: [Filled(task.truth, task.words)],
        "Metropolis-Hastings": chains("metropolis", options.steps, options.chains),
        "Metropolis-Hastings, annealed": chains("metropolis", options.steps, options.chains, 0.1),
        "Gibbs": chains("gibbs", options.steps, options.chains),
        "all at once, drawn": independent(options.chains),
        "all at once, likeliest": likeliest,
        "left to right, likeliest": left_to_right,
    }
    chosen = {name: way for name, way in ways.items() if name not in options.without}
    print("| way | pseudo-perplexity | causal perplexity | distinct-1 | distinct-2 | word as written, % | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, way in chosen.items():
        began, found, first, right, sentences = time.perf_counter(), [], [], [], []
        for number, task in enumerate(tasks):
            several = way(model, task, number)
            found += several
            sentences += [str(number)] * len(several)
            first.append(several[0])  # as many from each way
            right += [a == b for one in several for a, b in zip(one.words, task.words, strict=True)]
        seconds, texts = time.perf_counter() - began, [one.text for one in found]
        figures = (
            perplexity(np.array(text_energies(model, texts)), sentences, 1),
            perplexity(causal_nats(causal, texts), sentences, 0),
            f"{distinct(first, 1):.2f}",
            f"{distinct(first, 2):.2f}",
            f"{100 * sum(right) / len(right):.0f}",
            f"{seconds:.0f}",
        )
        print(f"| {name} | {' | '.join(figures)} |", flush=True)
    for task in tasks[:3]:
        print(f"\nas written: {task.truth}")
        for name in set(chosen) & {"Metropolis-Hastings", "all at once, drawn", "left to right, likeliest"}:
            print(f"{name}: {ways[name](model, task, 0)[0].text}")


if __name__ == "__main__":
    main()
