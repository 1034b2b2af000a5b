"""Steps of TRL's SFTTrainer on the same model and the same questions, one row a question.

Padded micro-batches, stock "sdpa" attention, no gradient checkpointing. `benchmarks/peers.py` says what else is chosen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec

from counts import tree_rows

from gpu.parts import Row, Skipped
from gpu.shapes import device
from gpu.training import STEPS, TOKENS_PER_BATCH, Times, paragraphs, plan_of, prepare, steps
from palmette.synth.tokenizer import train_tokenizer


def measure(size: str, tiny: bool) -> Iterator[Row]:
    """Questions a second of both.

    Raises:
        Skipped: TRL is not installed.
    """
    if find_spec("trl") is None:
        raise Skipped("TRL is not installed: pip install --no-deps trl")
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    subject = prepare(size, tiny, quantized=False)
    trees = paragraphs(subject)
    rows = [row for tree in trees for row in tree_rows(tree)]
    own = len(rows) / steps(subject, plan_of(subject, trees), checkpointing=False)[-1]
    yield Row(f"{subject.name}: Palmette", own, "questions/s")
    # As many micro-batches in every step, all of one size, so that the last one of a step does not reach into the next.
    most = max(1, TOKENS_PER_BATCH // len(rows[0][0]))
    size_of = max(number for number in range(1, most + 1) if len(rows) % number == 0)
    subject.model.get_base_model().set_attn_implementation("sdpa")
    data = Dataset.from_dict({"input_ids": [list(row[0]) for row in rows], "labels": [list(row[1]) for row in rows]})
    times = Times()
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=size_of,
            gradient_accumulation_steps=len(rows) // size_of,
            num_train_epochs=1 + STEPS,
            max_length=None,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=device() == "cpu",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        tokenizer = train_tokenizer(["a text"], 300)
        SFTTrainer(subject.model, config, train_dataset=data, processing_class=tokenizer, callbacks=[times]).train()
    taken = [after - before for before, after in zip(times.at, times.at[1:], strict=False)]
    rival = len(rows) / min(taken[1:])
    yield Row(f"{subject.name}: TRL, micro-batches of {size_of}", rival, "questions/s")
    yield Row(f"{subject.name}: Palmette over TRL", own / rival, "times")
