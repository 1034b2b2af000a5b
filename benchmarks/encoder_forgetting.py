"""What training on questions takes from an encoder: its pseudo-perplexity with the old head put back.

An encoder with a head for masked tokens (`palmette train mlm`) is trained on extractive questions (`palmette baseline
encoder --encoder RUN/model`). That drops the head. Here the old head is put on the new encoder. Its output layer is
tied to the word embeddings, so these are those of the new encoder.

    python benchmarks/encoder_forgetting.py --before runs/mlm --after runs/encoder --texts paragraphs.jsonl
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file

from palmette.corpus.sources import open_source
from palmette.corpus.texts import Text
from palmette.encoders.blanks import read_blanks, words_of
from palmette.encoders.chain import Kernel
from palmette.encoders.masked import MaskedModel, load_masked, pseudo_perplexity

_TEXT = "The ____ of the city was ____ in the ____."


def main() -> None:
    """Measure and print a table, and a text of each model by annealing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="a run of palmette train mlm")
    parser.add_argument("--after", required=True, nargs="+", type=Path, help="runs of palmette baseline encoder")
    parser.add_argument("--texts", required=True)
    parser.add_argument("--limit", type=int, default=10, help="texts, of which the first 100 tokens count")
    parser.add_argument("--steps", type=int, default=80, help="steps of the text that each model writes")
    options = parser.parse_args()
    model = load_masked(options.before)
    texts = []
    for one in islice(open_source(options.texts).open(), options.limit):
        assert isinstance(one, Text)
        texts.append(str(model.tokenizer.decode(model.content(one.text)[:100])))
    print("| encoder | pseudo-perplexity | a text of low energy |\n|---|---|---|")
    print(f"| before | {pseudo_perplexity(model, texts):.1f} | {written(model, options.steps)} |", flush=True)
    for run in options.after:
        body = {
            name: value.float()
            for name, value in load_file(run / "model" / "model.safetensors").items()
            if not name.startswith("qa_outputs")
        }
        missing = model.model.load_state_dict(body, strict=False)
        assert not missing.unexpected_keys
        print(f"| {run.name} | {pseudo_perplexity(model, texts):.1f} | {written(model, options.steps)} |", flush=True)


@torch.inference_mode()
def written(model: MaskedModel, steps: int) -> str:
    """The last text of a chain whose temperature falls to 0.2."""
    blanks = read_blanks(model, _TEXT)
    kernel = Kernel(model, blanks.space, seed=1)
    state = kernel.start(1)
    for step in range(1, steps + 1):
        state, _ = kernel.step(state, step, 0.2 ** (step / steps))
    return blanks.text(words_of(model, state.token_CT[0, list(blanks.space.free)].tolist()))


if __name__ == "__main__":
    main()
