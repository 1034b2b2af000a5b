"""Chains of stages: each builds on what it names, nothing is done twice, Ctrl-C costs nothing, and a failure stops
only what builds on it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from palmette.config.recipes import Recipe
from palmette.errors import DataError, RecipeError
from palmette.model.loading import weights_hash
from palmette.pages.evaluation.folder import loss_of
from palmette.run import read_log
from palmette.studies.chain import runner as chain
from palmette.studies.chain.recipe import load_chain
from palmette.tasks.rewards import REWARDS
from palmette.train.steps.checkpoints import checkpoints
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.recipes import chain_file
from tests.support.rewards import letters
from tests.support.runs import adapter, assert_same, on_step


@pytest.fixture(autouse=True)
def letters_are_rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that tells completions of a random model apart."""
    monkeypatch.setitem(REWARDS, "letters", letters)


def verdict_file(path: Path, questions: int = 3) -> Path:
    """A good and a bad answer to each of the first questions of `squad_file`."""
    lines = [
        {"question": name, "completion": completion, "label": label}
        for name, good, bad in (("q1", "granite", "white"), ("q2", "no", "granite"), ("q3", "7:40", "3"))
        for completion, label in ((json.dumps({"answer": good}), True), (json.dumps({"answer": bad}), False))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[: 2 * questions]))
    return path


def settings(tiny_folder: Path, folder: Path) -> dict[str, Any]:
    """Fine-tuning, comparisons from verdicts, and what builds on them; a few steps each, with dropout."""
    data, verdicts = str(squad_file(folder / "data.json")), str(verdict_file(folder / "verdicts.jsonl"))
    held_out = str(verdict_file(folder / "held-out.jsonl", questions=2))
    train = {"epochs": 1, "trees_per_step": 1, "learning_rate": 0.01, "save_every": 1}
    rollouts = {"samples": 2, "max_new_tokens": 4}
    return {
        "stages": {
            "tuned": {
                "kind": "sft",
                "model": {"name": str(tiny_folder), "dtype": "float32"},
                "lora": {"rank": 2, "dropout": 0.2},
                "data": {"train": [data]},
                "train": train,
            },
            "pairs": {"kind": "preferences", "data": data, "verdicts": verdicts},
            "held-out": {"kind": "preferences", "data": data, "verdicts": held_out},
            "dpo": {"kind": "dpo", "start": "stage:tuned", "data": {"train": ["stage:pairs"]}, "train": train},
            "judge": {"kind": "reward", "start": "stage:tuned", "data": {"train": ["stage:pairs"]}, "train": train},
            "ppo": {
                "kind": "ppo",
                "start": "stage:tuned",
                "data": {"train": [data]},
                "rollouts": {**rollouts, "rewards": {}, "reward_model": "stage:judge"},
                "train": train,
            },
            "grpo": {
                "kind": "grpo",
                "start": "stage:dpo",
                "data": {"train": [data]},
                "rollouts": {**rollouts, "rewards": {"letters": 1.0}},
                "train": train,
            },
        },
        "evaluate": {"data": data, "decoders": ["greedy"], "samples": 2, "comparisons": "stage:held-out"},
    }


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain that was never stopped."""
    folder = tmp_path_factory.mktemp("chain")
    file = chain_file(folder / "c.yaml", settings(tiny_folder, folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REWARDS, "letters", letters)
        assert palmette(patch, "chain", file) == 0
    return folder / "c"


def manifest(place: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((place / "run" / "manifest.json").read_text())
    return values


def test_each_stage_builds_on_what_it_names(finished: Path) -> None:
    """By the hashes that the runs themselves wrote down, of files that are hashed here again."""
    seed = finished / "seed=0"
    tuned, dpo = (weights_hash(str(seed / name / "run" / "adapter")) for name in ("tuned", "dpo"))
    assert tuned != dpo
    started = {name: manifest(seed / name)["start"]["sha256"] for name in ("dpo", "judge", "ppo", "grpo")}
    assert started == {"dpo": tuned, "judge": tuned, "ppo": tuned, "grpo": dpo}
    judge = weights_hash(str(seed / "judge" / "run" / "adapter"))
    assert manifest(seed / "ppo")["reward_model"]["sha256"] == judge
    lines = (seed / "pairs" / "preferences.jsonl").read_text().splitlines()
    assert [json.loads(line)["rejected"] for line in lines] == [
        '{"answer": "white"}',
        '{"answer": "granite"}',
        '{"answer": "3"}',
    ]


def test_the_first_step_of_every_stage_learns(finished: Path) -> None:
    """Ten steps or fewer have one of warm-up, which has half of the peak of 0.01."""
    for stage in ("tuned", "dpo", "judge", "ppo", "grpo"):
        lines = read_log(finished / "seed=0" / stage / "run" / "metrics.jsonl")
        assert 1 <= len(lines) <= 10
        assert lines[0]["learning_rate"] == pytest.approx(0.005), stage


def test_the_table_holds_what_was_measured(finished: Path) -> None:
    record = json.loads((finished / "chain.json").read_text())
    assert [(row["name"], row["decoder"], row["seeds"]) for row in record["stages"]] == [
        (name, "greedy", [0]) for name in ("tuned", "dpo", "ppo", "grpo")
    ]
    by_name = {row["name"]: row["spreads"] for row in record["stages"]}
    for name, spreads in by_name.items():
        place = finished / "seed=0" / name
        assert spreads["exact"]["mean"] == json.loads((place / "greedy" / "metrics.json").read_text())["exact"]
        sampled = json.loads((place / "divergence.json").read_text())
        assert spreads["completion_kl"]["mean"] == sampled["completion_kl"]
        assert spreads["sampled_f1"]["mean"] == 100 * sampled["sampled_f1"]
        low, high = sampled["intervals"]["completion_kl"]
        (line,) = [one for one in (finished / "chain.md").read_text().splitlines() if one.startswith(f"| {name} | 0 |")]
        exact, *_, kl = (float(cell.split()[0]) for cell in line.split("|")[3:7])
        assert exact == pytest.approx(100 * sampled["sampled_exact"], abs=0.5)  # whole percents, of few questions
        assert kl == pytest.approx(sampled["completion_kl"], abs=max(0.05 * (high - low), 0.0006))
    assert by_name["tuned"]["completion_kl"]["mean"] == 0, "it is the reference"
    assert by_name["dpo"]["completion_kl"]["mean"] != 0
    ranking = json.loads((finished / "seed=0" / "judge" / "ranking.json").read_text())
    page = (finished / "chain.md").read_text()
    assert f"| judge | {100 * ranking['accuracy']:.1f} |" in page
    assert ranking["comparisons"] == 2
    assert record["rewards"]["judge"]["accuracy"]["mean"] == 100 * ranking["accuracy"]
    assert "| dpo | greedy | 1 |" in page
    assert (finished / "frontier.png").is_file()


def test_what_is_done_is_not_done_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "seed=0").rglob("adapter_model.safetensors")}
    assert len(before) == 5
    for name in ("measure", "measure_divergence", "score_comparisons", "draw_run"):
        monkeypatch.setattr(f"palmette.studies.chain.measuring.{name}", lambda *_, **__: pytest.fail("done again"))
    monkeypatch.setattr("palmette.studies.chain.runner.write_preferences", lambda *_, **__: pytest.fail("done again"))
    assert palmette(monkeypatch, "chain", finished.with_suffix(".yaml")) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_ctrl_c_and_on_again_is_the_chain_that_nobody_stopped(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped in DPO's second step of three."""
    shutil.copytree(finished / "seed=0" / "tuned", tmp_path / "c" / "seed=0" / "tuned")
    (tmp_path / "c" / "chain.yaml").write_text("")
    values = yaml.safe_load((finished / "chain.yaml").read_text())
    values = {
        "stages": {name: values["stages"][name] for name in ("tuned", "pairs", "dpo")},
        "evaluate": values["evaluate"],
    }
    values["evaluate"]["comparisons"] = None
    file = chain_file(tmp_path / "c.yaml", values)
    with monkeypatch.context() as patch:
        on_step(patch, 1, lambda: signal.raise_signal(signal.SIGINT))
        assert palmette(patch, "chain", file) == 130
    assert f"chain {file}" in capsys.readouterr().err
    run = tmp_path / "c" / "seed=0" / "dpo" / "run"
    assert [path.name for path in checkpoints(run / "checkpoints")] == ["checkpoint-1", "checkpoint-2"]
    assert palmette(monkeypatch, "chain", file) == 0
    assert_same(adapter(run), adapter(finished / "seed=0" / "dpo" / "run"))


def copied(finished: Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A finished chain elsewhere, and its recipe."""
    shutil.copytree(finished, folder)
    values: dict[str, Any] = yaml.safe_load((finished / "chain.yaml").read_text())
    return folder, {**values, "output": str(folder)}


def test_a_failure_stops_only_what_builds_on_it(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under a second seed, which is added later; the first is left as it was."""
    folder, values = copied(finished, tmp_path / "c")
    values["stages"] = {name: values["stages"][name] for name in ("tuned", "pairs", "held-out", "judge", "ppo", "dpo")}
    values["evaluate"] |= {"samples": None}
    file = chain_file(tmp_path / "c.yaml", {**values, "seeds": [0, 1]})
    before = (folder / "seed=0" / "dpo" / "greedy" / "metrics.json").stat().st_mtime_ns
    tried = []

    original = chain.train

    def broken(recipe: Recipe, say: Any) -> Any:
        if recipe.stage != "reward":
            return original(recipe, say)
        tried.append("judge")
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(chain, "train", broken)
        assert palmette(patch, "chain", file) == 1
    page = (folder / "chain.md").read_text()
    assert "- failed: judge, seed 1: MemoryError: no room" in page
    assert "- failed: ppo, seed 1: it builds on judge, which failed" in page
    assert "| dpo | greedy | 2 |" in page
    assert "| ppo | greedy | 1 |" in page, "the first seed's"
    assert not (folder / "seed=1" / "ppo" / "run").exists()
    assert tried == ["judge"]
    assert not torch.equal(*(next(iter(adapter(folder / f"seed={n}" / "dpo" / "run").values())) for n in (0, 1)))
    capsys.readouterr()
    assert palmette(monkeypatch, "chain", file) == 0
    page = (folder / "chain.md").read_text()
    assert "failed:" not in page
    assert "| ppo | greedy | 2 |" in page
    assert (folder / "seed=0" / "dpo" / "greedy" / "metrics.json").stat().st_mtime_ns == before


def test_what_another_process_has_just_tried_is_not_tried_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that was written down after this command began."""
    folder, values = copied(finished, tmp_path / "c")
    error = folder / "seed=0" / "dpo" / "error.json"
    error.write_text('{"error": "no room"}')
    os.utime(error, (time.time() + 600, time.time() + 600))
    assert palmette(monkeypatch, "chain", chain_file(tmp_path / "c.yaml", values)) == 1
    page = (folder / "chain.md").read_text()
    assert "failed: dpo, seed 0: no room" in page
    assert "failed: grpo, seed 0: it builds on dpo" in page
    os.utime(error, (1, 1))
    os.utime(folder / "seed=0" / "grpo" / "error.json", (1, 1))
    assert palmette(monkeypatch, "chain", tmp_path / "c.yaml") == 0
    assert "failed" not in (folder / "chain.md").read_text()


def test_what_cannot_be_measured_leaves_all_else(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampled completions that cannot be scored; answers, and what builds on the stage, stay."""
    folder, values = copied(finished, tmp_path / "c")
    values["evaluate"] |= {"samples": 3}
    file = chain_file(tmp_path / "c.yaml", values)

    def broken(*_: Any) -> None:
        raise DataError("it has two turns", "Take one.")

    with monkeypatch.context() as patch:
        patch.setattr("palmette.studies.chain.measuring.measure_divergence", broken)
        assert palmette(patch, "chain", file) == 1
    page = (folder / "chain.md").read_text()
    assert "- not measured: dpo, seed 0: divergence.json: it has two turns" in page
    for name in ("tuned", "dpo", "ppo", "grpo"):
        assert f"| {name} | greedy | 1 |" in page
    assert palmette(monkeypatch, "chain", file) == 0
    assert "not measured" not in (folder / "chain.md").read_text()


def test_what_is_measured_of_something_else_is_measured_anew(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another reference, other comparisons; answers, which do not depend on them, are kept."""
    folder, values = copied(finished, tmp_path / "c")
    monkeypatch.setattr("palmette.studies.chain.measuring.measure", lambda *_: pytest.fail("answered again"))
    other = tmp_path / "one.jsonl"
    other.write_text((folder / "seed=0" / "held-out" / "preferences.jsonl").read_text().splitlines()[0] + "\n")
    values["evaluate"] |= {"comparisons": str(other)}
    file = chain_file(tmp_path / "c.yaml", {**values, "reference": "dpo"})
    assert palmette(monkeypatch, "chain", file) == 0
    found = {
        name: json.loads((folder / "seed=0" / name / "divergence.json").read_text())["completion_kl"]
        for name in ("tuned", "dpo")
    }
    assert found["dpo"] == 0
    assert found["tuned"] != 0
    assert json.loads((folder / "seed=0" / "judge" / "ranking.json").read_text())["comparisons"] == 1
    values["evaluate"] |= {"comparisons": "stage:pairs"}
    capsys.readouterr()
    assert palmette(monkeypatch, "chain", chain_file(tmp_path / "c.yaml", {**values, "reference": "dpo"})) == 1
    assert "is what the reward model was trained on" in " ".join(capsys.readouterr().err.split())


def test_what_was_built_on_may_not_change(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a stage's result nor a file; settings may, where the stage has not begun."""
    folder, values = copied(finished, tmp_path / "c")
    file = chain_file(tmp_path / "c.yaml", values)
    preferences = folder / "seed=0" / "pairs" / "preferences.jsonl"
    kept = preferences.read_text()
    preferences.write_text(kept.replace("white", "black"))
    assert palmette(monkeypatch, "chain", file) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert "'pairs' was rebuilt or changed since the stage 'dpo' was begun, which builds on it" in shown
    assert f"To build 'dpo' again from it, remove {folder / 'seed=0' / 'dpo'}." in shown
    preferences.write_text(kept)
    shutil.rmtree(folder / "seed=0" / "grpo")
    values["stages"]["grpo"]["train"]["epochs"] = 2
    assert palmette(monkeypatch, "chain", chain_file(tmp_path / "c.yaml", values)) == 0
    values["stages"]["grpo"]["train"]["epochs"] = 5
    assert palmette(monkeypatch, "chain", chain_file(tmp_path / "c.yaml", values)) == 2
    assert "was begun with train.epochs = 2, and now it is 5" in capsys.readouterr().err
    values["stages"]["grpo"]["train"]["epochs"] = 2
    verdicts = Path(values["stages"]["pairs"]["verdicts"])
    other = tmp_path / "other.jsonl"
    other.write_text(verdicts.read_text())
    values["stages"]["pairs"]["verdicts"] = str(other)
    built_on = folder / "seed=0" / "pairs" / "built_on.json"
    built_on.write_text(built_on.read_text().replace(str(verdicts), str(other)))
    asked = folder / "seed=0" / "pairs" / "stage.json"
    asked.write_text(asked.read_text().replace(str(verdicts), str(other)))
    file = chain_file(tmp_path / "c.yaml", values)
    assert palmette(monkeypatch, "chain", file) == 0
    other.write_text(other.read_text().replace("granite", "marble"))
    assert palmette(monkeypatch, "chain", file) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert f"'{other}' has changed since the stage 'pairs' was begun" in shown


def test_a_finished_run_may_begin_a_chain(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is measured where the chain is, and left as it was."""
    before = finished / "seed=0" / "tuned" / "run"
    values: dict[str, Any] = yaml.safe_load((finished / "chain.yaml").read_text())
    files = sorted(path.name for path in before.iterdir())
    dpo = {**values["stages"]["dpo"], "data": {"train": [str(finished / "seed=0" / "pairs" / "preferences.jsonl")]}}
    judge = {"kind": "run", "run": str(finished / "seed=0" / "judge" / "run")}
    ppo = {**values["stages"]["ppo"], "start": "stage:tuned"}
    stages = {"judge": judge, "tuned": {"kind": "run", "run": str(before)}, "dpo": dpo, "ppo": ppo}
    evaluate = {**values["evaluate"], "comparisons": str(finished / "seed=0" / "held-out" / "preferences.jsonl")}
    file = chain_file(tmp_path / "c.yaml", {"stages": stages, "evaluate": evaluate})
    assert palmette(monkeypatch, "chain", file) == 0
    place = tmp_path / "c" / "seed=0"
    assert sorted(path.name for path in before.iterdir()) == files
    assert (place / "tuned" / "greedy" / "metrics.json").is_file()
    assert_same(adapter(place / "dpo" / "run"), adapter(finished / "seed=0" / "dpo" / "run"))
    assert_same(adapter(place / "ppo" / "run"), adapter(finished / "seed=0" / "ppo" / "run"))
    ranked = [json.loads((folder / "judge" / "ranking.json").read_text()) for folder in (place, finished / "seed=0")]
    assert ranked[0]["accuracy"] == ranked[1]["accuracy"]
    record = json.loads((tmp_path / "c" / "chain.json").read_text())
    assert record["chain"]["reference"] == "tuned", "a reward model is no policy"
    with pytest.raises(RecipeError, match="asks for a reward model"):
        load_chain(
            chain_file(
                tmp_path / "e.yaml",
                {"stages": {"tuned": stages["tuned"], "ppo": {**ppo, "rollouts": {"reward_model": "stage:tuned"}}}},
            )
        )
    stages["tuned"]["run"] = str(tmp_path)
    assert palmette(monkeypatch, "chain", chain_file(tmp_path / "d.yaml", {"stages": stages})) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_only_losses_in_nats_per_token_are_shown_beside_answers(finished: Path) -> None:
    seed = finished / "seed=0"
    assert [step for step, _ in loss_of(seed / "tuned" / "run")] == [1, 2]
    assert loss_of(seed / "grpo" / "run") == loss_of(seed / "dpo" / "run") == loss_of(seed) == []
    assert "<h1>GRPO, grpo</h1>" in (seed / "grpo" / "run" / "training.html").read_text()
