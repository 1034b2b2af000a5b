"""Why chains of `palmette mcmc` mix as slowly as they do: the exact rates of small laws, kernel by kernel.

Each blank of a text may hold a few words only, the likeliest ones with all blanks masked. Then all texts can be
enumerated, and their law and the transition matrix of every kernel are known. From the eigenvalues follow

- how many steps make one effective value of the energy (its integrated autocorrelation time), and
- the relaxation time: steps after which the slowest difference between chains has shrunk to 1/e.

Two kernels that nobody could run tell the causes apart. "Ideal words" draws a word from the law itself, given all
other words, and so has no fault of its proposals. What it needs is due to the law: words that hold each other in place.

    python benchmarks/mixing.py --model runs/mlm "The ____ of the city was ____ in the ____."

A chain over all words of the vocabulary is slower than any of these, since it has more words to try. For steps that
change all blanks together, texts drawn from the proposals tell how often such a chain accepts: by importance weights
exp(-E) / q, they stand for the law.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass, replace

import numpy as np
import torch

from palmette.encoders.blanks import Blanks, read_blanks, words_of
from palmette.encoders.chain import Kernel
from palmette.encoders.masked import load_masked

_CHUNK = 64  # texts whose energies are computed together


@dataclass(frozen=True)
class Law:
    """All texts of a small law.

    Attributes:
        kernel: a kernel, with the words that are allowed.
        words: tokens of each blank.
        token_ST: the texts.
        energy_S: their energies (nats).
    """

    kernel: Kernel
    words: list[list[int]]
    token_ST: torch.Tensor
    energy_S: torch.Tensor

    def shares(self, temperature: float) -> np.ndarray:
        """The probabilities of the texts."""
        weight_S = np.exp(-(self.energy_S - self.energy_S.min()).numpy() / temperature)
        return np.asarray(weight_S / weight_S.sum())

    def blocks(self, size: int) -> list[tuple[int, ...]]:
        """The blanks that a step may change together."""
        return [tuple(range(first, first + size)) for first in range(len(self.words) - size + 1)]

    def texts(self) -> np.ndarray:
        """The numbers of the texts, with an axis for each blank."""
        return np.arange(len(self.token_ST)).reshape([len(words) for words in self.words])


def law_of(blanks: Blanks, kernel: Kernel, num_words: int) -> Law:
    """The law of a text whose blanks hold a few words each, the likeliest ones with all blanks masked."""
    free = torch.tensor(blanks.space.free)
    token_1T = torch.tensor([blanks.space.row])
    logq_FV = kernel.proposals(token_1T, free[None])[0]
    words = [logq_V.topk(num_words).indices.tolist() for logq_V in logq_FV]
    allowed_FV = torch.zeros_like(blanks.space.allowed_FV)
    for place, own in enumerate(words):
        allowed_FV[place, own] = True
    kernel = replace(kernel, space=replace(blanks.space, allowed_FV=allowed_FV))
    states = torch.tensor(list(itertools.product(*words)))
    token_ST = token_1T.repeat(len(states), 1)
    token_ST[:, free] = states
    energy_S = torch.cat([kernel.at(part).total_C for part in token_ST.split(_CHUNK)])
    return Law(kernel, words, token_ST, energy_S)


def accepted_together(kernel: Kernel, num: int) -> tuple[float, float]:
    """How steps that change all blanks together would do, over all words that are allowed.

    Args:
        kernel: the kernel.
        num: texts to draw.

    Returns:
        The share of such steps that a chain accepts once it samples the law, and the effective share of the texts:
        1 / num / (sum of p^2), where p are their normalised weights.
    """
    space, state = kernel.space, kernel.start(num)
    free = torch.tensor([space.free])
    (logq_FV,) = kernel.proposals(state.token_CT[:1], free)
    logq_N = logq_FV.gather(1, state.token_CT[:, free[0]].T).sum(0)
    weight_N = (-state.total_C - logq_N).softmax(0).numpy()
    accepted_NN = np.minimum(1.0, weight_N[None] / weight_N[:, None])
    return float((weight_N[:, None] * accepted_NN).sum() / num), float(1 / (weight_N**2).sum() / num)


def transitions(law: Law, size: int, proposal_temperature: float, temperature: float) -> np.ndarray:
    """The transition matrix (S, S) of steps that change `size` blanks in a row."""
    kernel = replace(law.kernel, proposal_temperature=proposal_temperature)
    matrix, texts = np.zeros((len(law.token_ST),) * 2), law.texts()
    blocks = law.blocks(size)
    for block in blocks:
        # Rows: what the other blanks hold. Columns: what the block holds.
        number = np.moveaxis(texts, block, range(-size, 0)).reshape(-1, np.prod([len(law.words[b]) for b in block]))
        columns = torch.tensor([[law.kernel.space.free[b] for b in block]]).repeat(len(number), 1)
        logq_RKV = kernel.proposals(law.token_ST[number[:, 0]], columns)
        parts = [logq_RKV[:, k, law.words[b]] for k, b in enumerate(block)]
        logq_RW = parts[0]
        for part in parts[1:]:
            logq_RW = (logq_RW[:, :, None] + part[:, None, :]).reshape(len(number), -1)
        for row, logq_W in zip(number, logq_RW, strict=True):
            energy_W = law.energy_S[row]
            old, new = energy_W[:, None], energy_W[None]
            chance = kernel.log_acceptance(old, new, logq_W[:, None], logq_W[None], temperature)
            matrix[np.ix_(row, row)] += (logq_W[None] + chance).exp().numpy() / len(blocks)
    return with_rest(matrix)


def ideal_words(law: Law, size: int, temperature: float) -> np.ndarray:
    """The transition matrix of steps that draw `size` blanks in a row from the law, given the others."""
    matrix, texts, shares = np.zeros((len(law.token_ST),) * 2), law.texts(), law.shares(temperature)
    blocks = law.blocks(size)
    for block in blocks:
        number = np.moveaxis(texts, block, range(-size, 0)).reshape(-1, np.prod([len(law.words[b]) for b in block]))
        for row in number:
            matrix[np.ix_(row, row)] += shares[row] / shares[row].sum() / len(blocks)
    return matrix


def with_rest(matrix: np.ndarray) -> np.ndarray:
    """A transition matrix in which what was refused, or was the same text, stays."""
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, 1 - matrix.sum(1))
    return matrix


def times(matrix: np.ndarray, shares: np.ndarray, energy: np.ndarray) -> tuple[float, float, float]:
    """Share of the steps that change the text, steps for an effective value of the energy, and the relaxation time.

    The matrix P is reversible, so D^(1/2) P D^(-1/2) is symmetric. Its eigenvectors give the autocorrelations of the
    energy at every lag, whose sum is that of geometric series.
    """
    root = np.sqrt(shares)
    symmetric = root[:, None] * matrix / root[None]
    value, vector = np.linalg.eigh((symmetric + symmetric.T) / 2)
    centred = energy - shares @ energy
    weight = (vector.T @ (root * centred)) ** 2
    weight, value = weight[:-1] / weight[:-1].sum(), value[:-1]  # all but the law itself
    moved = 1 - float(shares @ np.diag(matrix))
    return moved, float((weight * (1 + value) / (1 - value)).sum()), float(1 / -np.log(max(value[-1], 1e-9)))


def main() -> None:
    """Enumerate, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--model", required=True)
    parser.add_argument("--words", type=int, default=10, help="words of each blank")
    parser.add_argument("--drawn", type=int, default=240, help="texts drawn over all words")
    options = parser.parse_args()
    model = load_masked(options.model)
    blanks = read_blanks(model, options.text)
    print(f"all blanks together, {options.drawn} texts over all words:\n")
    print("| proposals at | accepted, % | effective texts, % |\n|---|---|---|")
    for heat in (1.0, 1.5):
        kernel = Kernel(model, blanks.space, seed=7, proposal_temperature=heat)
        accepted, effective = accepted_together(kernel, options.drawn)
        print(f"| {heat:g} | {100 * accepted:.0f} | {100 * effective:.0f} |", flush=True)
    print(f"\n{options.words} words for each blank:")
    law = law_of(blanks, Kernel(model, blanks.space), options.words)
    for words in law.words:
        print(", ".join(words_of(model, words)))
    energy = law.energy_S.numpy()
    for temperature in (1.0, 0.5):
        shares = law.shares(temperature)
        top = np.sort(shares)[::-1]
        print(f"\ntemperature {temperature:g}: {len(shares):,} texts. The likeliest has {100 * top[0]:.1f} %, ", end="")
        print(f"the likeliest ten {100 * top[:10].sum():.1f} %\n")
        print("| step | text changed, % | steps for an effective value | relaxation time, steps |\n|---|---|---|---|")
        num = len(law.words)
        matrices = {
            f"{size} of {num}, proposals at {heat:g}": transitions(law, size, heat, temperature)
            for size in range(1, num + 1)
            for heat in (1.0, 1.5, 2.0)
        }
        sizes = [f"{size} of {num}, proposals at 1" for size in range(1, num + 1)]
        matrices["any number, proposals at 1"] = np.mean([matrices[size] for size in sizes], axis=0)
        matrices |= {f"{size} of {num}, ideal words": ideal_words(law, size, temperature) for size in range(1, num)}
        for name, matrix in matrices.items():
            moved, steps, relaxation = times(matrix, shares, energy)
            print(f"| {name} | {100 * moved:.0f} | {steps:.1f} | {relaxation:.1f} |", flush=True)


if __name__ == "__main__":
    main()
