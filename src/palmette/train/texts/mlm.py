"""Masked language modelling: an encoder learns to restore masked tokens of texts.

The loss is that of Devlin et al. (2019), "BERT", with the masks of transformers' `DataCollatorForLanguageModeling`: the
mean cross-entropy in nats over the chosen tokens of an optimizer step, however it is cut into batches. Texts are read
into memory. Not covered: data sets that are larger than that, whole-word masks, and adapters.

B pieces, T tokens of a piece, P learned positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import DataCollatorForLanguageModeling, set_seed

from palmette import processes, run
from palmette.corpus.sources import open_source
from palmette.corpus.steps import step_maker
from palmette.corpus.survey import survey
from palmette.corpus.texts import Text
from palmette.encoders.masked import MaskedModel, head_logits, keep_trained, load_masked
from palmette.encoders.names import pad
from palmette.errors import DataError, RecipeError
from palmette.files import expand
from palmette.model.loading import LoadedModel, dtype_name, fast_dtype, weights_hash
from palmette.numbers import count
from palmette.progress import Say, progress
from palmette.seeds import derive_seed
from palmette.train.job import Job
from palmette.train.loop import Part, run_steps
from palmette.train.recipes.masked import MlmRecipe
from palmette.train.steps.step import Tally

_MASKS_OF_HELD_OUT = 1  # a seed of its own, so that all measurements mask the same tokens


@dataclass(frozen=True)
class MaskedBatch:
    """Pieces with masks, and what was there.

    Attributes:
        token_BT: the tokens, masked.
        attention_BT: 0 at padding.
        row_P: the row of each learned position.
        column_P: its column.
        truth_P: the token that was there.
    """

    token_BT: torch.Tensor
    attention_BT: torch.Tensor
    row_P: torch.Tensor
    column_P: torch.Tensor
    truth_P: torch.Tensor

    def to(self, device: torch.device | str) -> MaskedBatch:
        """The same batch on another device."""
        return MaskedBatch(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class MlmJob(Job):
    """A job that learns masked tokens.

    Attributes:
        held_out: batches that are measured on.
    """

    held_out: tuple[MaskedBatch, ...]


class MaskedPlan:
    """The optimizer steps over pieces of texts, in a new order and with new masks in each epoch. `Plan` explains it.

    Args:
        pieces: tokens of each piece, with the special tokens around it.
        masks: chooses what is masked.
        pieces_per_step: pieces of a step.
        tokens_per_batch: most tokens of a forward pass, padding included.
        seed: random seed of order and masks.
    """

    def __init__(
        self, pieces: Sequence[list[int]], masks: Masks, *, pieces_per_step: int, tokens_per_batch: int, seed: int
    ) -> None:
        self.steps_per_epoch = -(-len(pieces) // pieces_per_step)
        self._pieces, self._masks, self._seed = pieces, masks, seed
        self._size, self._tokens = pieces_per_step, tokens_per_batch
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def step_batches(self, epoch: int, step: int) -> list[Any]:
        """The batches of one step."""
        if epoch != self._epoch:  # the order is drawn once an epoch
            generator = torch.Generator().manual_seed(derive_seed(self._seed, epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self._pieces), generator=generator)
        chosen = [self._pieces[index] for index in self._order[step * self._size : (step + 1) * self._size].tolist()]
        return self._masks.batches(chosen, derive_seed(derive_seed(self._seed, epoch), step), self._tokens)

    def save(self, folder: Path, step: int) -> None:
        """Write nothing, since a step depends on its number and the seed alone."""

    def load(self, folder: Path) -> None:
        """Read nothing, as `save` writes nothing."""


class Masks:
    """Chooses what is masked, as transformers' collator does.

    Args:
        tokenizer: the tokenizer.
        share: the share of the tokens that is learned.
    """

    def __init__(self, tokenizer: Any, share: float) -> None:
        self._tokenizer = tokenizer
        self._collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=share)

    def batches(self, pieces: Sequence[list[int]], seed: int, tokens_per_batch: int) -> list[MaskedBatch]:
        """Pieces with their masks, in batches of about the same length. At least one token is learned.

        What is masked depends on the pieces and on the seed, and not on the batches.
        """
        pieces = sorted(pieces, key=len, reverse=True)
        inputs = pad([{"input_ids": piece} for piece in pieces], self._tokenizer)
        token_BT, attention_BT = inputs["input_ids"], inputs["attention_mask"]
        self._collator.generator = torch.Generator().manual_seed(seed)
        while True:
            masked_BT, label_BT = self._collator.torch_mask_tokens(token_BT.clone())
            if (label_BT != -100).any():
                break
        batches, begin = [], 0
        while begin < len(pieces):
            length = len(pieces[begin])
            part = slice(begin, begin + max(1, tokens_per_batch // length))
            row_P, column_P = torch.nonzero(label_BT[part] != -100, as_tuple=True)
            truth_P = label_BT[part][row_P, column_P]
            batches.append(MaskedBatch(masked_BT[part, :length], attention_BT[part, :length], row_P, column_P, truth_P))
            begin = part.stop
        return batches


def prepare(recipe: MlmRecipe, say: Say) -> MlmJob:
    """Read the texts, load the encoder, and plan the steps. Write nothing.

    Args:
        recipe: the recipe.
        say: called with lines about what is learned.

    Raises:
        PalmetteError: a source cannot be read, nothing is left to learn, or the encoder is unfit.
    """
    data, settings, train = recipe.data, recipe.mlm, recipe.train
    sources = [
        open_source(name, columns=data.columns, limit=data.limit_documents, drop_bad=data.on_bad_record == "drop")
        for name in data.train
    ]
    encoder = load_masked(recipe.model.name, seed=train.seed, dtype=fast_dtype(recipe.model.dtype))
    set_seed(train.seed)
    if settings.piece_tokens > encoder.max_tokens:
        raise RecipeError(
            f"mlm.piece_tokens = {settings.piece_tokens} is more than {recipe.model.name} reads, {encoder.max_tokens}",
            "Lower mlm.piece_tokens.",
        )
    pieces = _Pieces(encoder, settings.piece_tokens, settings.held_out_share)
    found = survey(sources, step_maker(recipe.clean), pieces.add)
    if not pieces.learned:
        raise DataError(
            f"{', '.join(data.train)}: nothing is left to learn",
            "Give texts, or loosen the steps under `clean`. `palmette data corpus` says what they drop.",
        )
    held_out = pieces.held_out[: settings.held_out_pieces]
    say(f"{count(len(pieces.learned), 'piece')} to learn, {len(held_out)} held out")
    say(f"drawn at random: {', '.join(encoder.fresh) or 'nothing'}")
    masks = Masks(encoder.tokenizer, settings.masked_share)
    plan = MaskedPlan(
        pieces.learned,
        masks,
        pieces_per_step=settings.pieces_per_step,
        tokens_per_batch=train.tokens_per_batch,
        seed=train.seed,
    )
    name = str(expand(recipe.model.name).absolute()) if expand(recipe.model.name).is_dir() else recipe.model.name
    dtype = dtype_name(encoder.model.dtype)
    settled = recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": name, "dtype": dtype})})
    fingerprint = {
        "seed": train.seed,
        "model": {"name": name, "sha256": weights_hash(encoder.folder), "dtype": dtype},
        "drawn_at_random": list(encoder.fresh),
        "data": [source.describe() for source in sources],
        "corpus": [one.as_record() for one in found],
        "vocabulary": encoder.model.config.vocab_size,
        "pieces": len(pieces.learned),
    }
    measured = masks.batches(held_out, _MASKS_OF_HELD_OUT, train.tokens_per_batch) if held_out else []
    loaded = LoadedModel(encoder.model, encoder.tokenizer, name, encoder.folder)
    return MlmJob(settled, loaded, plan, len(pieces.learned), "pieces", fingerprint, tuple(measured))


def learn(job: MlmJob, folder: Path, checkpoint: Path | None, say: Say) -> None:
    """Train a job in its run folder, from a checkpoint if one is given, and measure before, meanwhile and after."""
    assert isinstance(job.recipe, MlmRecipe)
    step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    watch = _Watch(job.held_out, job.recipe.mlm.measure_every, step, say)
    part = Part("", run.CHECKPOINTS, run.METRICS_LOG, job.recipe.train.epochs)
    run_steps(
        job,
        folder,
        checkpoint,
        say,
        part,
        objective=masked_loss,
        measure=num_masked,
        before_step=watch.before_step,
        tally=watch.tally,
    )
    loss = watch.measure(job.loaded.model)
    if not job.fingerprint["drawn_at_random"]:
        return
    with processes.together():
        about = {"data": job.recipe.data.train, "held_out_loss": loss, "run": str(folder)}
        if processes.is_main() and keep_trained(job.loaded.model, job.loaded.folder, about):
            say(f"kept in the cache: `palmette mcmc --model {job.recipe.model.name}` writes with it")


def masked_loss(model: Any, batch: Any, denominator: float) -> torch.Tensor:
    """This batch's share of the step's cross-entropy over the learned tokens (nats)."""
    inputs = {"input_ids": batch.token_BT, "attention_mask": batch.attention_BT}
    logits_PV = head_logits(model, inputs, batch.row_P, batch.column_P)
    total = torch.nn.functional.cross_entropy(logits_PV.float(), batch.truth_P.to(logits_PV.device), reduction="sum")
    return total / denominator


def num_masked(batch: Any) -> float:
    """How many tokens of a batch are learned."""
    return float(len(batch.truth_P))


class _Pieces:
    """Pieces of texts: runs of tokens of about the same length, between the special tokens of the encoder."""

    def __init__(self, encoder: MaskedModel, piece_tokens: int, held_out_share: float) -> None:
        self._encoder, self._room, self._share = encoder, piece_tokens - 2, held_out_share
        self._number = 0
        self.learned: list[list[int]] = []
        self.held_out: list[list[int]] = []

    def add(self, text: Text) -> tuple[int, int]:
        """Cut a text into pieces. The result is the number of tokens that are learned, and that are held out."""
        tokens = self._encoder.content(text.text)
        num_pieces, before = -(-len(tokens) // self._room), (len(self.learned), len(self.held_out))
        for index in range(num_pieces):
            start, end = (len(tokens) * place // num_pieces for place in (index, index + 1))
            # Pieces spread evenly: one is held out each time that their number crosses a whole multiple of the share.
            held = int((self._number + 1) * self._share) > int(self._number * self._share)
            (self.held_out if held else self.learned).append(self._encoder.row(tokens[start:end]))
            self._number += 1
        sizes = [
            sum(len(piece) - 2 for piece in pieces[begin:])
            for pieces, begin in zip((self.learned, self.held_out), before, strict=True)
        ]
        return sizes[0], sizes[1]


class _Watch:
    """Measures the loss on held-out pieces before some of the steps, and once more at the end.

    Args:
        held_out: their batches.
        every: steps between two measurements.
        step: optimizer steps taken so far.
        say: called with a line for each measurement.
    """

    def __init__(self, held_out: Sequence[MaskedBatch], every: int, step: int, say: Say) -> None:
        self._held_out, self._every, self._step, self._say = held_out, every, step, say
        self.tally = Tally()

    def before_step(self, model: Any, _: list[Any]) -> None:
        """Measure, if it is time, with the weights that the step starts from."""
        if self._step % self._every == 0 if self._every else self._step == 0:
            self.measure(model)
        self._step += 1

    def measure(self, model: Any) -> float | None:
        """Measure now. The result is the loss, or None if nothing is held out."""
        if not self._held_out:
            return None
        model.eval()
        total = sum(map(num_masked, self._held_out))
        loss = 0.0
        with torch.no_grad(), progress(len(self._held_out), "scoring texts", "batches", passing=True) as bar:
            for batch in self._held_out:
                loss += float(masked_loss(model, batch.to(model.device), total))
                bar.update()
        if processes.is_main():
            self.tally.note("held_out_loss", loss)
        self._say(f"after {self._step} steps, held-out loss: {loss:.3f} nats")
        return loss
