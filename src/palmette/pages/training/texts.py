"""The figures of training on texts."""

from __future__ import annotations

import math

from palmette.pages.training.figures import LEARNING, Figure, Groups, Guide, loss_figure
from palmette.pages.training.run import TrainingRun


def pretrain_figures(run: TrainingRun) -> Groups:
    """The loss on what is learned and on what is held out."""
    held_out = Figure(
        ("held_out_loss",),
        "Loss on held-out texts",
        "nats a token, every few steps",
        "How improbable the model finds texts that it does not learn. It should fall with the loss. If it rises while "
        "the loss falls, the model learns the texts by heart: stop earlier, or give more texts. held_out.jsonl has it "
        "by source, as perplexity.",
    )
    reading = (
        "How improbable the model finds the next token. A model that was trained before begins at 2 to 4 and falls "
        "slowly. One with random weights begins near the logarithm of the size of its vocabulary."
    )
    return {LEARNING: [held_out, loss_figure("loss (nats per learned token)", reading, _of_vocabulary(run))]}


def mlm_figures(run: TrainingRun) -> Groups:
    """The loss on masked tokens of what is learned and of what is held out."""
    held_out = Figure(
        ("held_out_loss",),
        "Loss on held-out texts",
        "nats a masked token, every few steps",
        "How improbable the model finds masked tokens of texts that it does not learn. It should fall with the loss.",
    )
    reading = (
        "How improbable the model finds masked tokens. With a new head it begins near the logarithm of the size of the "
        "vocabulary, and BERT ends near 2."
    )
    return {LEARNING: [held_out, loss_figure("loss (nats per masked token)", reading, _of_vocabulary(run))]}


def _of_vocabulary(run: TrainingRun) -> tuple[Guide, ...]:
    size = run.manifest.get("vocabulary")
    return (Guide(math.log(size), "all tokens alike"),) if isinstance(size, int) and size > 1 else ()
