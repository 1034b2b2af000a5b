"""What training on questions takes from an encoder: its pseudo-perplexity with the old head put back.

An encoder with a head for masked tokens (`palmette train mlm`) is trained on extractive questions (`palmette baseline
encoder --encoder RUN/model`). That drops the head. Here the old head is put on the new encoder. Its output layer is
tied to the word embeddings, so these are those of the new encoder.

    python benchmarks/encoder_forgetting.py --before runs/mlm --after runs/encoder --texts paragraphs.jsonl

The interval of a ratio is a bootstrap over texts. The last rows are texts that each encoder writes by annealing.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from palmette.corpus.sources import open_source
from palmette.corpus.texts import Text
from palmette.encoders.blanks import read_blanks, words_of
from palmette.encoders.chain import Kernel
from palmette.encoders.masked import MaskedModel, load_masked, text_energies
from palmette.evaluate.bootstrap import ratio_intervals

_TEXTS = ("The ____ of the city was ____ in the ____.", "She ____ the ____ and went to the ____.")


def main() -> None:
    """Measure, and print a table of figures and one of texts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="a run of palmette train mlm")
    parser.add_argument("--after", required=True, nargs="+", type=Path, help="runs of palmette baseline encoder")
    parser.add_argument("--texts", required=True)
    parser.add_argument("--limit", type=int, default=20, help="texts")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each text that count, the first ones")
    parser.add_argument("--steps", type=int, default=80, help="steps of each text that a model writes")
    options = parser.parse_args()
    model = load_masked(options.before)
    texts = []
    for one in islice(open_source(options.texts).open(), options.limit):
        assert isinstance(one, Text)
        texts.append(str(model.tokenizer.decode(model.content(one.text)[: options.tokens])))
    print("| encoder | pseudo-perplexity | times that before |\n|---|---|---|")
    before = np.array(text_energies(model, texts))
    print(f"| before | {np.exp(before[0].sum() / before[1].sum()):.1f} | |", flush=True)
    written = {"before": [written_by(model, text, options.steps) for text in _TEXTS]}
    for run in options.after:
        body = {
            name: value.float()
            for name, value in load_file(run / "model" / "model.safetensors").items()
            if not name.startswith("qa_outputs")
        }
        missing = model.model.load_state_dict(body, strict=False)
        assert not missing.unexpected_keys
        after = np.array(text_energies(model, texts))
        ratio, low, high = times_more(before, after)
        print(
            f"| {run.name} | {np.exp(after[0].sum() / after[1].sum()):.1f} | {ratio:.2f} ({low:.2f} to {high:.2f}) |",
            flush=True,
        )
        written[run.name] = [written_by(model, text, options.steps) for text in _TEXTS]
    print(f"\n| encoder | {' | '.join('writes' for _ in _TEXTS)} |\n|---|{'---|' * len(_TEXTS)}")
    for name, found in written.items():
        print(f"| {name} | {' | '.join(found)} |")


def times_more(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """The ratio of two pseudo-perplexities of the same texts, with a 95 % interval over texts."""
    difference, num_tokens = after[0] - before[0], before[1]
    names = [str(number) for number in range(len(difference))]
    low, high = np.exp(ratio_intervals({"nats": (difference, num_tokens)}, names)["nats"])
    return float(np.exp(difference.sum() / num_tokens.sum())), float(low), float(high)


@torch.inference_mode()
def written_by(model: MaskedModel, text: str, steps: int) -> str:
    """The last text of a chain whose temperature falls to 0.2."""
    blanks = read_blanks(model, text)
    kernel = Kernel(model, blanks.space, seed=1)
    state = kernel.start(1)
    for step in range(1, steps + 1):
        state, _ = kernel.step(state, step, 0.2 ** (step / steps))
    return blanks.text(words_of(model, state.token_CT[0, list(blanks.space.free)].tolist()))


if __name__ == "__main__":
    main()
