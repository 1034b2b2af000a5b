"""What is measured while texts are learned: perplexity on held-out pieces, and texts that the model writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palmette import processes, run
from palmette.config.recipes import Recipe
from palmette.inference.perplexity import SourceScore, score_sources
from palmette.progress import Say
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.sampling import Sampling
from palmette.tasks.text_pieces import TextPieces
from palmette.train.recipes.texts import PretrainSection
from palmette.train.steps.step import Tally
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import PrefixTree
from palmette.tree.segments import decode_tokens

HELD_OUT, WRITTEN = "held_out.jsonl", "written.jsonl"
PERPLEXITY = "perplexity"


class Watch:
    """Measures before some of the steps, and once more at the end. All processes measure, and the main one writes.

    Perplexities by source go to `held_out.jsonl`, texts to `written.jsonl`, a line for each. The log of the run gets
    the loss over all held-out tokens.

    Args:
        folder: the run folder.
        recipe: says what is measured, and how batches are packed.
        settings: its `pretrain` section.
        pieces: the tokenizer's beginning and end of texts.
        tokenizer: the tokenizer.
        held_out: held-out pieces, named by their sources.
        step: optimizer steps taken so far. Lines of later ones are dropped, since these steps are taken again.
        say: called with a line for each measurement.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        settings: PretrainSection,
        pieces: TextPieces,
        tokenizer: Any,
        held_out: Sequence[PrefixTree],
        *,
        step: int,
        say: Say,
    ) -> None:
        self._folder, self._train, self._settings, self._say = folder, recipe.train, settings, say
        self._pieces, self._tokenizer, self._held_out = pieces, tokenizer, list(held_out)
        self.step = step
        self.tally = Tally()
        for name in (HELD_OUT, WRITTEN):
            if processes.is_main() and (folder / name).is_file():
                lines = [line for line in run.read_log(folder / name) if line["step"] < step]
                run.write_text(folder / name, "".join(_line(line) + "\n" for line in lines))

    def before_step(self, model: Any, _: list[PackedBatch]) -> None:
        """Measure, if it is time, with the weights that the step starts from."""
        every = self._settings.measure_every
        due = self.step % every == 0 if every else self.step == 0
        if due:
            self.measure(model)
        self.step += 1

    def measure(self, model: Any) -> list[SourceScore]:
        """Measure now, after so many steps."""
        scores = []
        if self._held_out:
            scores = score_sources(
                model,
                self._held_out,
                row_tokens=self._train.row_tokens,
                tokens_per_batch=self._train.tokens_per_batch,
            )
            self.tally.note("held_out_loss", sum(one.nll for one in scores) / sum(one.num_tokens for one in scores))
            for one in scores:
                values = {"source": one.source, "tokens": one.num_tokens, "loss": one.loss, PERPLEXITY: one.perplexity}
                self._append(HELD_OUT, {"step": self.step, **values})
            shown = ", ".join(f"{one.perplexity:,.2f} on {one.source}" for one in scores)
            self._say(f"after {self.step} steps, held-out perplexity: {shown}")
        self._write(model)
        return scores

    def _write(self, model: Any) -> None:
        """Let the model continue the prompts. Each sample depends on the seed and on its prompt alone."""
        prompts, settings = self._settings.prompts, self._settings
        if not prompts:
            return
        tokens = [(self._pieces.opening, *self._pieces.encoder.content(prompt)) for prompt in prompts]
        sampler = Sampler(model, self._tokenizer, end_tokens=[self._pieces.end])
        sampling = Sampling(
            temperature=settings.temperature, max_new_tokens=settings.sample_tokens, seed=self._train.seed
        )
        for prompt, (sample,) in zip(prompts, sampler.sample(tokens, 1, sampling), strict=True):
            text = decode_tokens(self._tokenizer, sample.tokens)
            self._append(WRITTEN, {"step": self.step, "prompt": prompt, "text": text})

    def _append(self, name: str, values: dict[str, Any]) -> None:
        if processes.is_main():
            run.append_line(self._folder / name, _line(values))


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False)
