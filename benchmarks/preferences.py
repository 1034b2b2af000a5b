"""Training on preferences with Palmette and with TRL, side by side in one run: DPO, reward models, and updates of GRPO
with 8 samples.

Each side trains in a process of its own, so that its memory is its own. They take turns; the one that waits is blocked
on a pipe. Both start from the same weights and take the same optimizer steps over the same tokens (checked by a hash),
and the same code measures on the same held-out prompts what they have learned. Where these losses differ by more than
rounding explains, there is no result. `benchmarks/preference_peers.py` says how TRL is set up; unless `--micro-batch`
says so, several sizes of its micro-batches are tried on a few steps and the fastest is kept. Sampling is part of
neither side. `benchmarks/preference_data.py` says what is trained on: prompts of about 300 tokens, completions of about
30.

Prints a table for each; the last lines are the ratios alone: Palmette over TRL, examples per second, medians. With
`--palmette-only`, for which TRL need not be there, they are Palmette's examples per second. An example is a pair, or
for GRPO a completion.

    python benchmarks/preferences.py [--kinds dpo reward grpo] [--documents 8] [--groups 2] [--samples 8] [--steps 2]
        [--repeats 3] [--data builtin:train] [--micro-batch 0] [--tokens-per-batch 4096] [--learned-head]
        [--palmette-only] [--json PATH]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from match import Contest, Result
from preference_data import Group, make_groups, with_old, write_groups
from preference_lessons import KINDS, PreferenceJob, score_old, tokens_of
from settings import GIB, Limits, fastest, tokens_that_fit
from side import PALMETTE
from train import (
    check_losses,
    compared,
    computed_by,
    matmul_peaks,
    most_apart,
    named,
    need_trl,
    positive,
    said_of,
    setting_lines,
    table,
)
from transformers import AutoConfig
from workload import spread

from palmette.config.sections import TrainSection
from palmette.data.records import Document
from palmette.data.source import read_source
from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.loading import fast_dtype
from palmette.model.tokenizer import load_tokenizer
from palmette.run import write_json
from palmette.tree.prefix_tree import PrefixTree

SCRIPT = "preference_peers.py"


@dataclass
class Race:
    """One kind of training on both sides.

    Attributes:
        kind: one of KINDS.
        setting: TRL's; None where Palmette runs alone.
        results: of all sides.
    """

    kind: str
    setting: str | None
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def untouched(self) -> float:
        """The held-out loss before training."""
        return float(self.results[PALMETTE].end["untouched"])

    @property
    def losses(self) -> dict[str, float]:
        """The held-out loss of each side after training."""
        return {side: result.end["loss"] for side, result in self.results.items()}

    def check(self) -> None:
        """Refuse sides that have learned something else; see `check_losses`."""
        check_losses(self.untouched, self.losses, f"held-out loss of {self.kind}")

    def learned(self) -> str:
        """What both sides have learned, in words."""
        told = ", ".join(f"{named(side)} {loss:.4f}" for side, loss in self.losses.items())
        lines = [f"held-out loss of {self.kind}: {self.untouched:.4f} before training, then {told}"]
        for side, result in self.results.items():
            turns = " ".join(f"{turn['training_loss']:.4f}" for turn in result.turns)
            lines.append(f"  training loss of {named(side)}: {result.warmup_loss:.4f} in the warm-up, by turns {turns}")
        ours = self.losses[PALMETTE]
        if abs(self.untouched - ours) <= most_apart(self.untouched, ours):
            lines.append(
                "  (so little was learned that the agreement of the two says little: raise --learning-rate or --steps)"
            )
        return "\n".join(lines)

    def said(self) -> str:
        """What the headline says, in words."""
        palmette = self.results[PALMETTE]
        if self.setting is None:
            return (
                f"{self.kind}: Palmette alone, medians of {len(palmette.turns)} turns, peak memory {peak_gib(palmette)}"
            )
        trl = self.results[self.setting]
        share = palmette.end["peak"] / trl.end["peak"]
        return (
            f"{self.kind}: Palmette over {named(self.setting)}, {compared(palmette, trl, 'examples')[0]}; "
            f"peak memory {peak_gib(palmette)} against {peak_gib(trl)}, {share:.2f} of it"
        )

    def headline(self) -> str:
        """The ratio alone."""
        palmette = self.results[PALMETTE]
        if self.setting is None:
            return f"examples/s {self.kind} {palmette.rate('examples'):.2f}"
        return f"ratio {self.kind} {compared(palmette, self.results[self.setting], 'examples')[1]:.1f}"


def peak_gib(result: Result) -> str:
    """A side's peak memory, in words."""
    return f"{result.end['peak'] / GIB:.2f} GiB"


def settings_to_try(limits: Limits, tokens: int) -> list[str]:
    """Settings whose micro-batches are all of one size, at most three: the largest ones of at most `tokens` tokens that
    fit into memory.

    DPO's and the reward model's losses are means over micro-batches, so with others a step would not be the same on
    both sides.

    >>> settings_to_try(Limits(fewest=8, most=8, longest=700, memory_tokens=5600), 4096)
    ['padded:4', 'padded:2', 'padded:1']
    """
    even = [size for size in limits.sizes() if limits.most % size == 0]
    small = [size for size in even if size * limits.longest <= tokens] or even[-1:]
    return [f"padded:{size}" for size in small[:3]]


def take_groups(
    options: argparse.Namespace, kind: str, documents: Sequence[Document], tokenizer: Any
) -> tuple[list[Group], list[Group]]:
    """What is trained on, and what is held out, which stays the same whatever is trained on."""
    num, step = completions_of(options, kind), documents_of(options, kind)
    groups = make_groups(documents, num, lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]))
    held_out = spread(groups, options.held_out)
    apart = {group.id for group in held_out}
    rest = [group for group in groups if group.id not in apart]
    return spread(rest, step * (1 + options.steps * options.repeats)), held_out


def completions_of(options: argparse.Namespace, kind: str) -> int:
    """Completions of a prompt."""
    return int(options.samples) if kind == "grpo" else 2


def documents_of(options: argparse.Namespace, kind: str) -> int:
    """Prompts of an optimizer step."""
    return int(options.groups if kind == "grpo" else options.documents)


def sizes_in_words(trees: Sequence[PrefixTree]) -> str:
    """How long prompts and completions are."""
    prompts = [len(tokens_of(tree.root)) for tree in trees]
    completions = [len(tokens_of(child)) for tree in trees for child in tree.root.children]
    return ", ".join(
        f"{what} of {statistics.median(lengths):.0f} ({min(lengths)} to {max(lengths)}) tokens"
        for what, lengths in (("prompts", prompts), ("completions", completions))
    )


def race(options: argparse.Namespace, kind: str, documents: Sequence[Document], tokenizer: Any) -> Race:
    """Choose TRL's setting and let the sides train."""
    groups, held_out = take_groups(options, kind, documents, tokenizer)
    step = documents_of(options, kind)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"data": str(folder / "train.json"), "held_out": str(folder / "held_out.json")}
        asked = {
            "kind": kind,
            "completions": completions_of(options, kind),
            "learning_rate": options.learning_rate,
            "tokens_per_batch": options.tokens_per_batch,
        }
        job = PreferenceJob(
            "", options.model, **files, folder="", documents=step, warmup=1, steps=options.steps, **asked
        )
        if kind == "grpo":
            groups, held_out = (with_old(part, score_old(job, part)) for part in (groups, held_out))
        write_groups(Path(job.data), groups)
        write_groups(Path(job.held_out), held_out)
        trees = job.trees(groups, tokenizer)
        print(
            f"\n{kind}: steps of {job.num_examples} examples, {len(groups)} {sizes_in_words(trees)}; "
            f"held out: {len(held_out)} prompts",
            flush=True,
        )
        setting = None if options.palmette_only else choose(options, job, groups, trees, folder / "trial")
        sides = [PALMETTE, *([setting] if setting else [])]
        if options.learned_head and kind != "reward":  # which has no output layer
            sides.append(f"{setting}:learned-head")
        return Race(kind, setting, Contest(folder, SCRIPT, job, options.repeats).play(sides))


def choose(
    options: argparse.Namespace, job: PreferenceJob, groups: list[Group], trees: list[PrefixTree], folder: Path
) -> str:
    """TRL's setting: the one asked for, or the fastest.

    Raises:
        SystemExit: none will do.
    """
    longest = max(tree.num_positions for tree in trees) * (1 if job.kind == "grpo" else 2)
    config = AutoConfig.from_pretrained(load_tokenizer(options.model).name_or_path)
    limits = Limits(job.num_examples, job.num_examples, longest, tokens_that_fit(config, fast_dtype()))
    if options.micro_batch:
        if job.num_examples % options.micro_batch:
            raise SystemExit(
                f"--micro-batch {options.micro_batch} does not divide the {job.num_examples} examples of a step"
            )
        if options.micro_batch * longest > limits.memory_tokens:
            raise SystemExit(
                f"--micro-batch {options.micro_batch}: its {options.micro_batch * longest} tokens are more than the "
                f"{limits.memory_tokens} that would fit into memory"
            )
        return f"padded:{options.micro_batch}"
    folder.mkdir()
    data = folder / "train.json"
    write_groups(data, groups[: 2 * job.documents])
    asked = {**asdict(job), "data": str(data), "steps": 1}
    tried = settings_to_try(limits, options.micro_batch_tokens)
    return fastest(Contest(folder, SCRIPT, PreferenceJob(**asked), 1), tried)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument(
        "--documents", type=positive, default=8, help="pairs of an optimizer step of DPO and reward models"
    )
    parser.add_argument("--groups", type=positive, default=2, help="prompts of an optimizer step of GRPO")
    parser.add_argument("--samples", type=positive, default=8, help="completions of a prompt of GRPO")
    parser.add_argument("--steps", type=positive, default=2, help="optimizer steps of a turn")
    parser.add_argument("--repeats", type=positive, default=3, help="turns of each side")
    parser.add_argument("--held-out", type=positive, default=8, help="prompts that the loss is measured on")
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="the peak, on both sides")
    parser.add_argument("--data", default="builtin:train", help="any source of documents with questions")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--micro-batch", type=int, default=0, help="examples of TRL's micro-batches; 0 tries some")
    parser.add_argument("--micro-batch-tokens", type=positive, default=6144, help="the most that is tried")
    parser.add_argument(
        "--tokens-per-batch",
        type=positive,
        default=TrainSection().tokens_per_batch,
        help="the most tokens of a forward pass of Palmette's: what its memory depends on",
    )
    parser.add_argument("--learned-head", action="store_true", help="add a patched TRL as a third side (see peers.py)")
    parser.add_argument("--palmette-only", action="store_true", help="leave TRL out")
    parser.add_argument("--json", type=Path, help="file for all results")
    options = parser.parse_args()
    if options.samples < 2:
        parser.error("--samples is 2 or more: a completion is held against the others to its prompt")
    if not options.learning_rate > 0:
        parser.error("--learning-rate is above 0")
    if options.micro_batch < 0:
        parser.error("--micro-batch is 0, to try some, or a number of examples")
    if options.palmette_only and (options.micro_batch or options.learned_head):
        parser.error("--palmette-only leaves TRL out: --micro-batch and --learned-head have no meaning then")
    return options


def main() -> None:
    """Measure and print."""
    options = arguments()
    if not options.palmette_only:
        need_trl()
    said, source, tokenizer = setting_lines(), read_source(options.data), load_tokenizer(options.model)
    said.append(f"{options.model}, {fast_dtype()}, {options.data} (sha256 {source.sha256[:12]})")
    said.append(f"Palmette's forward passes: at most {options.tokens_per_batch} tokens")
    print("\n".join(said))
    peaks = matmul_peaks()
    print(said_of(peaks), flush=True)
    races = []
    for kind in dict.fromkeys(options.kinds):
        found = race(options, kind, source.documents, tokenizer)
        print(table(found.results, peaks[fast_dtype()], "examples"))
        print(computed_by(found.results))
        print(found.learned(), flush=True)
        races.append(found)
    if options.json:
        peak = {str(name)[6:]: value for name, value in peaks.items()}
        kinds = {found.kind: asdict(found) for found in races}
        write_json(options.json, {"command": " ".join(sys.argv), "setting": said, "peak": peak, "kinds": kinds})
    for found in races:
        found.check()
    print("\n" + "\n".join([*(found.said() for found in races), *(found.headline() for found in races)]))


if __name__ == "__main__":
    main()
