"""`palmette mcmc`: chains in a folder, their exact resume, and the command with its page."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from palmette.encoders import job
from palmette.encoders.blanks import read_blanks, words_of
from palmette.encoders.chain import Kernel
from palmette.encoders.job import prepare_chains, run_chains
from palmette.encoders.masked import energies
from palmette.encoders.settings import McmcSettings
from palmette.encoders.summary import summarize, write_result
from palmette.errors import DataError, RunError
from tests.support.command import palmette
from tests.support.masked import tiny_bert
from tests.support.runs import quiet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny masked language model, saved."""
    folder = tmp_path_factory.mktemp("masked")
    tiny = tiny_bert(initializer_range=0.4)
    tiny.model.float().save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return folder


def settings_of(folder: Path, **changes: Any) -> McmcSettings:
    return replace(McmcSettings(str(folder), "The ____ is ____ on a ____.", steps=30), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"block": 2, "temperature": 0.7},
        {"anneal_to": 0.2},
        {"text": "The tower is high.", "to": "A pier was red.", "points": 1, "steps": 8},
    ],
)
@pytest.mark.parametrize("stopped", [1, 9, 17])
def test_a_job_that_was_killed_goes_on_as_if_it_had_not_stopped(
    folder: Path, tmp_path: Path, changes: dict[str, Any], stopped: int
) -> None:
    """Even in the middle of a line. The traces are the same byte for byte."""
    chains = prepare_chains(settings_of(folder, **changes), quiet)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    lines = list(run_chains(chains, whole))
    list(itertools.islice(run_chains(chains, broken), stopped))
    with (broken / job.TRACE).open("a") as stream:
        stream.write('{"step": 99, "tok')
    assert list(run_chains(chains, broken)) == lines
    assert (broken / job.TRACE).read_bytes() == (whole / job.TRACE).read_bytes()
    assert len({str(line["tokens"]) for line in lines}) > 3
    assert [line["step"] for line in lines] == list(range(len(chains.kernels) * chains.settings.steps + 1))


def test_a_job_goes_on_with_the_same_settings_only(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    list(itertools.islice(run_chains(prepare_chains(settings_of(folder), quiet), out), 3))
    with pytest.raises(RunError, match=r"was begun with settings\.seed = 0, and now it is 1"):
        next(run_chains(prepare_chains(settings_of(folder, seed=1), quiet), out))
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match="exists already, and is no folder of `palmette mcmc`"):
        next(run_chains(prepare_chains(settings_of(folder), quiet), tmp_path / "other"))


def test_a_job_begun_with_other_files_of_its_models_is_refused(folder: Path, sft_run: Path, tmp_path: Path) -> None:
    """The encoder, its tokenizer and the reader can change under the same names."""
    encoder, reader, out = tmp_path / "encoder", tmp_path / "reader", tmp_path / "out"
    shutil.copytree(folder, encoder)
    shutil.copytree(sft_run, reader)
    settings = settings_of(encoder, text="The ____ is red.", question="What is red?", reader=str(reader))
    list(itertools.islice(run_chains(prepare_chains(settings, quiet), out), 3))
    next(run_chains(prepare_chains(settings, quiet), out))
    weights = reader / "adapter" / "adapter_model.safetensors"
    save_file({name: 2 * value for name, value in load_file(weights).items()}, weights)
    with pytest.raises(RunError, match=r"was begun with reader\.adapter_sha256 = "):
        next(run_chains(prepare_chains(settings, quiet), out))
    shutil.copy2(sft_run / "adapter" / "adapter_model.safetensors", weights)
    (encoder / "tokenizer_config.json").write_text((encoder / "tokenizer_config.json").read_text().replace("64", "63"))
    with pytest.raises(RunError, match=r"was begun with encoder\.files\.tokenizer_config\.json = "):
        next(run_chains(prepare_chains(settings, quiet), out))


def test_a_finished_job_takes_more_steps(folder: Path, tmp_path: Path) -> None:
    """The trace is that of a job that had them from the beginning, byte for byte."""
    few, many = (prepare_chains(settings_of(folder, steps=steps), quiet) for steps in (9, 20))
    grown, whole = tmp_path / "grown", tmp_path / "whole"
    write_result(few, summarize(few, list(run_chains(few, grown))), grown)
    assert list(run_chains(many, grown)) == list(run_chains(many, whole))
    assert (grown / job.TRACE).read_bytes() == (whole / job.TRACE).read_bytes()
    assert not (grown / job.RESULT).exists()
    with pytest.raises(RunError, match=r"was begun with settings\.steps = 20, and now it is 9"):
        next(run_chains(few, grown))


def test_annealing_cannot_take_more_steps(folder: Path, tmp_path: Path) -> None:
    """Its temperature at every step depends on their number."""
    few, many = (prepare_chains(settings_of(folder, steps=steps, anneal_to=0.2), quiet) for steps in (9, 20))
    list(run_chains(few, tmp_path / "out"))
    with pytest.raises(RunError, match=r"was begun with settings\.steps = 9, and now it is 20"):
        next(run_chains(many, tmp_path / "out"))


def test_the_summary_counts_what_the_trace_holds(folder: Path, tmp_path: Path) -> None:
    """Two chains of four steps, written by hand. The last two steps count: 4 proposals, 3 accepted, 2 changes."""
    chains = prepare_chains(settings_of(folder, text="The ____.", chains=2, steps=4), quiet)
    tower, pier = chains.model.tokenizer.convert_tokens_to_ids(["tower", "pier"])
    taken = [([tower, tower], [1, 1]), ([tower, tower], [1, 1]), ([tower, pier], [1, 1]), ([pier, pier], [1, 0])]
    energy = {tower: 3.0, pier: 2.0}
    lines: list[dict[str, Any]] = [
        {
            "step": step,
            "tokens": [[token] for token in tokens],
            "energy": [energy[token] for token in tokens],
            "extra": [0.5, 0.5],
            "accepted": accepted,
        }
        for step, (tokens, accepted) in enumerate([([tower, tower], [0, 0]), *taken])
    ]
    (point,) = summarize(chains, lines)
    found = point.diagnostics
    assert (found.steps, found.acceptance, found.moved, found.mean_energy) == (2, 0.75, 0.5, 0.5 + 9 / 4)
    assert found.first_best == (4 + 3) / 2
    assert found.r_hat is None
    assert [(one.text, one.energy, one.visits) for one in point.samples] == [("The pier.", 2, 3), ("The tower.", 3, 1)]


def test_annealing_finds_the_text_of_lowest_energy(folder: Path, tmp_path: Path) -> None:
    """Of all 15 x 15 texts that two blanks allow, enumerated."""
    settings = settings_of(folder, text="The ____ is ____.", steps=150, anneal_to=0.05)
    chains = prepare_chains(settings, quiet)
    (point,) = summarize(chains, list(run_chains(chains, tmp_path / "out")))
    words = torch.nonzero(chains.blanks.space.allowed_FV[0])[:, 0].tolist()
    pairs = list(itertools.product(words, repeat=2))
    token_BT = torch.tensor([chains.blanks.space.row] * len(pairs))
    token_BT[:, list(chains.blanks.space.free)] = torch.tensor(pairs)
    energy_B = energies(chains.model, token_BT, chains.blanks.space.counted)
    best = pairs[int(energy_B.argmin())]
    assert point.samples[0].text == chains.blanks.text(words_of(chains.model, best))
    assert settings.temperature_at(1) == 1.0
    assert settings.temperature_at(150) == pytest.approx(0.05)


def test_a_way_ends_at_both_texts(folder: Path, tmp_path: Path) -> None:
    """With a pull of 60 nats, more than any energy of these texts differs by."""
    settings = settings_of(folder, text="The tower is high.", to="A pier is red.", pull=60.0, points=1, steps=40)
    chains = prepare_chains(settings, quiet)
    points = summarize(chains, list(run_chains(chains, tmp_path / "out")))
    assert [point.share for point in points] == [0.0, 0.5, 1.0]
    assert points[0].samples[0].text == "the tower is high."
    assert points[2].samples[0].text == "a pier is red."


class Reader:
    """Gives the word "pier" 0.8, any other single word 0.1, and the rest to no answer."""

    def posteriors(self, documents: Any) -> Any:
        from palmette.decode.posterior import SpanPosterior

        (document,) = documents
        (question,) = document.questions
        assert question.text == "Where?"
        word = document.text.split()[1].rstrip(".")
        odds = torch.logit(torch.tensor(0.8 if word == "pier" else 0.1, dtype=torch.float64)).item()
        yield question.id, SpanPosterior(((word, 4, odds),), float("-inf"), float("-inf"), float("-inf"), 1)


def test_a_reader_tilts_the_law_to_its_answers(folder: Path) -> None:
    """-log 0.8 or -log 0.1 is added, times the weight."""
    from palmette.encoders.reader import AnswerEnergy

    model = job.load_masked(str(folder))
    blanks = read_blanks(model, "The ____.")
    extra = AnswerEnergy(model, blanks, Reader(), "Where?", 0, 2.0)  # type: ignore[arg-type]
    token_CT = torch.tensor([blanks.space.row] * 2)
    token_CT[:, 2] = torch.tensor(model.tokenizer.convert_tokens_to_ids(["pier", "tower"]))
    expected = -2 * torch.log(torch.tensor([0.8, 0.1], dtype=torch.float64))
    assert torch.allclose(extra(token_CT), expected, atol=1e-9)
    state = Kernel(model, blanks.space, extra=extra).at(token_CT)
    assert torch.allclose(state.total_C - state.energy_C, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "Where?", "blank": 7}, "blank 7 is asked about, and 3 words may change"),
        ({"to": "A pier.", "question": "Where?"}, "--to goes from one text to another, and --question was given too"),
        ({"rule": "gibbs", "anneal_to": 0.5}, "--gibbs accepts every proposal, so --anneal-to would have no effect"),
        (
            {"rule": "gibbs", "temperature": 0.5},
            "so --temperature would have no effect",
        ),
        ({"anneal_to": 2.0}, "--anneal-to 2.0 is above --temperature 1.0"),
        ({"rule": "gibbs", "question": "Where?"}, "--gibbs accepts every proposal, so --question would have no effect"),
    ],
)
def test_settings_that_make_no_sense_are_explained(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare_chains(settings_of(folder, **changes), quiet)


def test_the_command_writes_texts_and_a_page(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chains are stopped by Ctrl-C, and the same command finishes. Then it is refused, since it is finished."""
    out = tmp_path / "out"
    words = ["mcmc", "The ____ is ____.", "--model", folder, "--steps", "24", "--out", out]
    step = Kernel.step

    def stopped(self: Kernel, state: Any, number: int, temperature: float) -> Any:
        if number == 10:
            raise KeyboardInterrupt
        return step(self, state, number, temperature)

    monkeypatch.setattr(Kernel, "step", stopped)
    assert palmette(monkeypatch, *words) == 130
    assert "The same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(Kernel, "step", step)
    assert palmette(monkeypatch, *words) == 0
    shown = capsys.readouterr()
    assert "2 words of the text may change, to 17 words" in shown.err
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert sum(row["visits"] for row in rows) == 4 * 12
    assert [row["energy"] for row in rows] == sorted(row["energy"] for row in rows)
    assert all(row["text"].startswith("The ") and " is " in row["text"] for row in rows)
    assert rows[0]["text"] in shown.out
    assert 0 < json.loads((out / "result.json").read_text())["points"][0]["acceptance"] <= 1
    page = (out / "mcmc.html").read_text()
    assert rows[0]["text"] in page
    assert page.count('<svg class="chart"') == 4
    assert palmette(monkeypatch, *words) == 2
    assert "is finished" in capsys.readouterr().err
