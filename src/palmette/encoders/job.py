"""Chains that are run in a folder, and continue where they were stopped.

Every step is a line of `trace.jsonl`, with the words and energies of all chains. A step depends on the line before it
and on the seed alone. So the log is the state: a job that was killed goes on from its last whole line, to the same
texts as if it had not stopped. (With another number of threads, sums may round otherwise.) So a finished job can be
given more steps too, unless its law changes with them, as while annealing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from palmette import __version__, run
from palmette.encoders.blanks import Blanks, read_blanks, words_of
from palmette.encoders.chain import Extra, Kernel, State
from palmette.encoders.masked import MaskedModel, load_masked
from palmette.encoders.reader import AnswerEnergy, answer_energy
from palmette.encoders.settings import McmcSettings
from palmette.encoders.way import Pull, read_way
from palmette.errors import RunError
from palmette.inference.fingerprint import base_fingerprint
from palmette.lock import locked
from palmette.numbers import count
from palmette.progress import Say, progress

TRACE, RESULT, JOB = "trace.jsonl", "result.json", "job.json"


@dataclass(frozen=True)
class Chains:
    """Chains that are ready to run.

    Attributes:
        settings: the settings.
        model: the masked language model.
        blanks: the text.
        kernels: what is sampled at each point. There is one point unless the settings name another text.
    """

    settings: McmcSettings
    model: MaskedModel
    blanks: Blanks
    kernels: tuple[Kernel, ...]


def prepare_chains(settings: McmcSettings, say: Say) -> Chains:
    """Load the models, and read the texts.

    Args:
        settings: the settings.
        say: called with lines of news.

    Raises:
        DataError: the texts make no sense for the model.
        PalmetteError: a model cannot be loaded.
    """
    model = load_masked(settings.model)
    if model.note:
        say(model.note)
    extras: list[Extra | None] = [None]
    if settings.to is not None:
        blanks, goal_F = read_way(model, settings.text, settings.to)
        assert blanks.start_F is not None
        shares = [index / (settings.points + 1) for index in range(settings.points + 2)]
        extras = [Pull(blanks.space.free, blanks.start_F, goal_F, settings.pull, share) for share in shares]
    else:
        blanks = read_blanks(model, settings.text, settings.keep)
    num = len(blanks.space.free)
    if settings.question is not None:
        extras = [answer_energy(model, blanks, settings.reader, settings.question, settings.blank, settings.weight)]
    say(f"{count(num, 'word')} of the text may change, to {int(blanks.space.allowed_FV.any(0).sum()):,} words")
    if blanks.kept:
        say(f"these stay, since {settings.model} writes them in several pieces: {', '.join(blanks.kept)}")
    kernel = Kernel(
        model,
        blanks.space,
        seed=settings.seed,
        rule=settings.rule,
        block=settings.most_words,
        proposal_temperature=settings.proposal_temperature,
    )
    size = blanks.space.allowed_FV.shape[1]
    kernels = [
        replace(kernel, extra=extra, tilt_FV=extra.tilt(size) if isinstance(extra, Pull) else None) for extra in extras
    ]
    return Chains(settings, model, blanks, tuple(kernels))


def run_chains(chains: Chains, out: Path) -> Iterator[dict[str, Any]]:
    """Run chains in a folder, and continue them if they were stopped. Their lines are yielded as they are written.

    Args:
        chains: the chains.
        out: the folder. If it exists, it must hold the same job, unfinished or with fewer steps.

    Raises:
        RunError: the folder holds something else, is written by another process, or cannot be written.
    """
    with _held(out):
        _begin(chains, out)
        lines = run.read_log(out / TRACE) if (out / TRACE).is_file() else []
        # A last line that was cut off is written again.
        run.write_text(out / TRACE, "".join(json.dumps(line) + "\n" for line in lines))
        yield from lines
        settings = chains.settings
        total = settings.steps * len(chains.kernels)
        last = lines[-1]["step"] if lines else 0
        state = (
            _state_of(chains, lines[-1]) if lines else chains.kernels[0].start(settings.chains, chains.blanks.start_F)
        )
        if not lines:
            yield _write(out, _line(chains, state, 0, torch.zeros(settings.chains, dtype=torch.bool)))
        with contextlib.closing(progress(total, "chains", "steps", done=last)) as bar:
            for number in range(last + 1, total + 1):
                point, step = divmod(number - 1, settings.steps)
                kernel = chains.kernels[point]
                if step == 0:
                    state = kernel.at(state.token_CT)  # other things are asked here than at the point before
                state, accepted_C = kernel.step(state, number, settings.temperature_at(step + 1))
                yield _write(out, _line(chains, state, number, accepted_C))
                bar.update()


@contextlib.contextmanager
def _held(out: Path) -> Iterator[None]:
    with locked(out, wait=False) as mine:
        if not mine:
            raise RunError(f"another process is writing {out}", "Wait for it, or give another folder.")
        yield


def _begin(chains: Chains, out: Path) -> None:
    """Write what the job is, or check that it is the one that was begun. It may have been begun with fewer steps."""
    now = _identity(chains)
    content = {**run.environment(), "job": now}
    if not out.exists():
        with run.whole_folder(out) as staging:
            run.write_json(staging / JOB, content)
        return
    if not (out / JOB).is_file():
        raise RunError(f"{out} exists already, and is no folder of `palmette mcmc`", "Choose another name.")
    before = json.loads((out / JOB).read_text(encoding="utf-8"))["job"]
    steps = chains.settings.steps
    grows = chains.settings.can_grow and before["settings"]["steps"] < steps
    if grows:
        before["settings"]["steps"] = steps
    run.check_same(before, now, where=out, way_out="Give the same options to go on, or another folder.")
    if grows:
        (out / RESULT).unlink(missing_ok=True)
        run.write_json(out / JOB, content)
    elif (out / RESULT).is_file():
        raise RunError(
            f"{out} is finished", f"Give {'more --steps, or ' if chains.settings.can_grow else ''}another folder."
        )


def _identity(chains: Chains) -> dict[str, Any]:
    """What the steps depend on: the settings, and the files of all models."""
    commit = getattr(chains.model.model.config, "_commit_hash", None)
    extra = chains.kernels[0].extra
    return {
        "palmette": __version__,
        "encoder": base_fingerprint(chains.model.folder, commit),
        "reader": extra.identity if isinstance(extra, AnswerEnergy) else None,
        "settings": asdict(chains.settings),
    }


def _line(chains: Chains, state: State, number: int, accepted_C: torch.Tensor) -> dict[str, Any]:
    """A line of the trace: 0 is where chains start."""
    return {
        "step": number,
        "tokens": state.token_CT[:, list(chains.blanks.space.free)].tolist(),
        "energy": state.energy_C.tolist(),
        "extra": state.extra_C.tolist(),
        "accepted": accepted_C.int().tolist(),
    }


def _state_of(chains: Chains, line: dict[str, Any]) -> State:
    token_CT = torch.tensor([chains.blanks.space.row] * chains.settings.chains)
    token_CT[:, list(chains.blanks.space.free)] = torch.tensor(line["tokens"])
    energy_C, extra_C = (torch.tensor(line[name], dtype=torch.float64) for name in ("energy", "extra"))
    return State(token_CT, energy_C, extra_C)


def _write(out: Path, line: dict[str, Any]) -> dict[str, Any]:
    run.append_line(out / TRACE, json.dumps(line))
    return line


def text_of(chains: Chains, tokens: list[int]) -> str:
    """A text of a chain, from the tokens of the words that may change."""
    return chains.blanks.text(words_of(chains.model, tokens))
