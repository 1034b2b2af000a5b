"""Chains of stages: each builds on what it names, nothing is done twice, Ctrl-C costs nothing, and a failure stops only what builds on it."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from palmette.cli.chain_recipe import load_chain
from palmette.cli.evaluate import loss_of
from palmette.data.records import Question
from palmette.errors import RecipeError
from palmette.model.loading import weights_hash
from palmette.tasks.qa_prompt import Reply
from palmette.tasks.rewards import REWARDS
from palmette.train.step import checkpoints
from tests.conftest import squad_file
from tests.test_cli import palmette
from tests.test_sft import adapter, assert_same, on_step


@pytest.fixture(autouse=True)
def letters_are_rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that tells replies of a random model apart."""
    monkeypatch.setitem(REWARDS, "letters", _letters)


def _letters(reply: Reply, _: Question) -> float:
    return sum("a" <= character <= "z" for character in reply.text) / max(len(reply.text), 1)


def verdict_file(path: Path) -> Path:
    """A good and a bad answer to each question of `squad_file`."""
    lines = [
        {"question": name, "reply": reply, "label": label}
        for name, good, bad in (("q1", "granite", "white"), ("q2", "no", "granite"), ("q3", "7:40", "3"))
        for reply, label in ((json.dumps({"answer": good}), True), (json.dumps({"answer": bad}), False))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def settings(tiny_folder: Path, folder: Path) -> dict[str, Any]:
    """Fine-tuning, comparisons from verdicts, and what builds on them; a few steps each, with dropout."""
    data, verdicts = str(squad_file(folder / "data.json")), str(verdict_file(folder / "verdicts.jsonl"))
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
        "evaluate": {"data": data, "decoders": ["greedy"], "samples": 2, "comparisons": "stage:pairs"},
    }


def chain_file(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"output": str(path.with_suffix("")), **values}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain that was never stopped."""
    folder = tmp_path_factory.mktemp("chain")
    file = chain_file(folder / "c.yaml", settings(tiny_folder, folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REWARDS, "letters", _letters)
        assert palmette(patch, "train", "rlhf", file) == 0
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
        assert spreads["reply_kl"]["mean"] == sampled["reply_kl"]
        assert spreads["sampled_f1"]["mean"] == 100 * sampled["sampled_f1"]
        low, high = sampled["intervals"]["reply_kl"]
        line = f"| {name} | 0 | {100 * sampled['sampled_exact']:.1f} ("
        assert line in (finished / "chain.md").read_text()
        assert f"| {sampled['reply_kl']:.3f} ({low:.3f} to {high:.3f}) |" in (finished / "chain.md").read_text()
    assert by_name["tuned"]["reply_kl"]["mean"] == 0, "it is the reference"
    assert by_name["dpo"]["reply_kl"]["mean"] != 0
    ranking = json.loads((finished / "seed=0" / "judge" / "ranking.json").read_text())
    page = (finished / "chain.md").read_text()
    assert f"| judge | {100 * ranking['accuracy']:.1f} |" in page
    assert ranking["comparisons"] == 3
    assert "| dpo | greedy | 1 |" in page
    assert (finished / "frontier.png").is_file()


def test_what_is_done_is_not_done_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "seed=0").rglob("adapter_model.safetensors")}
    assert len(before) == 5
    for name in ("measure", "measure_divergence", "score_comparisons", "write_preferences"):
        monkeypatch.setattr(f"palmette.cli.chain.{name}", lambda *_, **__: pytest.fail("done again"))
    assert palmette(monkeypatch, "train", "rlhf", finished.with_suffix(".yaml")) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_ctrl_c_and_on_again_is_the_chain_that_nobody_stopped(
    finished: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped in DPO's second step of three."""
    shutil.copytree(finished / "seed=0" / "tuned", tmp_path / "c" / "seed=0" / "tuned")
    (tmp_path / "c" / "chain.yaml").write_text("")
    values = settings(tiny_folder, tmp_path)
    for later in ("judge", "ppo", "grpo"):
        del values["stages"][later]
    # The stage that was copied was measured on the same questions, in a file of another name.
    asked = tmp_path / "c" / "seed=0" / "tuned" / "stage.json"
    asked.write_text(asked.read_text().replace(str(finished.parent), str(tmp_path)))
    file = chain_file(tmp_path / "c.yaml", values)
    with monkeypatch.context() as patch:
        on_step(patch, 1, lambda: signal.raise_signal(signal.SIGINT))
        assert palmette(patch, "train", "rlhf", file) == 130
    assert f"train rlhf {file}" in capsys.readouterr().err
    run = tmp_path / "c" / "seed=0" / "dpo" / "run"
    assert [path.name for path in checkpoints(run / "checkpoints")] == ["checkpoint-1", "checkpoint-2"]
    assert palmette(monkeypatch, "train", "rlhf", file) == 0
    assert_same(adapter(run), adapter(finished / "seed=0" / "dpo" / "run"))


def test_a_failure_stops_only_what_builds_on_it(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = settings(tiny_folder, tmp_path)
    stages = values["stages"]
    values["stages"] = {name: stages[name] for name in ("tuned", "pairs", "judge", "ppo", "dpo")}
    values["evaluate"] |= {"samples": None}
    file = chain_file(tmp_path / "c.yaml", values)

    def broken(*_: Any) -> None:
        raise MemoryError("no room")

    import palmette.cli.chain as chain

    with monkeypatch.context() as patch:
        patch.setitem(chain._TRAINERS, "reward", (broken, broken))
        assert palmette(patch, "train", "rlhf", file) == 1
    page = (tmp_path / "c" / "chain.md").read_text()
    assert "- failed: judge, seed 0: MemoryError: no room" in page
    assert "- failed: ppo, seed 0: it builds on judge, which failed" in page
    assert "| dpo | greedy | 1 |" in page
    assert not (tmp_path / "c" / "seed=0" / "ppo" / "run").exists()
    capsys.readouterr()
    assert palmette(monkeypatch, "train", "rlhf", file) == 0
    page = (tmp_path / "c" / "chain.md").read_text()
    assert "failed:" not in page
    assert "| ppo | greedy | 1 |" in page


def test_what_was_built_on_may_not_change(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "c"
    shutil.copytree(finished, copied)
    values = yaml.safe_load((finished / "chain.yaml").read_text())
    file = chain_file(tmp_path / "c.yaml", {**values, "output": str(copied)})
    preferences = copied / "seed=0" / "pairs" / "preferences.jsonl"
    preferences.write_text(preferences.read_text().replace("white", "black"))
    assert palmette(monkeypatch, "train", "rlhf", file) == 1
    assert "dpo was built on another pairs than there is now. Remove" in " ".join(capsys.readouterr().err.split())
    values["stages"]["tuned"]["train"]["epochs"] = 5
    file = chain_file(tmp_path / "d.yaml", {**values, "output": str(copied)})
    assert palmette(monkeypatch, "train", "rlhf", file) == 2
    assert "was begun with settings.train.epochs = 1, and now it is 5" in capsys.readouterr().err


def test_a_finished_run_may_begin_a_chain(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is measured where the chain is, and left as it was."""
    before = finished / "seed=0" / "tuned" / "run"
    values: dict[str, Any] = yaml.safe_load((finished / "chain.yaml").read_text())
    files = sorted(path.name for path in before.iterdir())
    dpo = {**values["stages"]["dpo"], "data": {"train": [str(finished / "seed=0" / "pairs" / "preferences.jsonl")]}}
    stages = {"tuned": {"kind": "run", "run": str(before)}, "dpo": dpo}
    evaluate = {**values["evaluate"], "comparisons": None}
    file = chain_file(tmp_path / "c.yaml", {"stages": stages, "evaluate": evaluate})
    assert palmette(monkeypatch, "train", "rlhf", file) == 0
    place = tmp_path / "c" / "seed=0"
    assert sorted(path.name for path in before.iterdir()) == files
    assert (place / "tuned" / "greedy" / "metrics.json").is_file()
    assert_same(adapter(place / "dpo" / "run"), adapter(finished / "seed=0" / "dpo" / "run"))
    stages["tuned"]["run"] = str(tmp_path)
    assert palmette(monkeypatch, "train", "rlhf", chain_file(tmp_path / "d.yaml", {"stages": stages})) == 2
    assert "is not a run folder" in capsys.readouterr().err


DPO = {"kind": "dpo", "start": "stage:a", "data": {"train": ["stage:p"]}}
PAIRS = {"kind": "preferences", "model": "stage:a", "data": "builtin:dev"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no stages": ({"stages": {}}, "stages = {}"),
    "kind": ({"stages": {"a": {"kind": "dop"}}}, "stage a: kind = 'dop'. Give one of: run, sft, preferences"),
    "later stage": (
        {"stages": {"d": DPO, "a": {"kind": "sft"}}},
        "start = 'stage:a' names no stage before it. .*: none",
    ),
    "not a policy": (
        {"stages": {"a": {"kind": "sft"}, "p": PAIRS, "d": {**DPO, "start": "stage:p"}}},
        "start = 'stage:p' asks for a policy, and that stage is of kind preferences",
    ),
    "not preferences": (
        {"stages": {"a": {"kind": "sft"}, "d": {**DPO, "data": {"train": ["stage:a"]}}}},
        "data.train = 'stage:a' asks for preferences, and that stage is of kind sft",
    ),
    "not a reward model": (
        {"stages": {"a": {"kind": "sft"}, "g": {"kind": "grpo", "rollouts": {"reward_model": "stage:a"}}}},
        "rollouts.reward_model = 'stage:a' asks for a reward model",
    ),
    "output": ({"stages": {"a": {"kind": "sft", "output": "x"}}}, "stage a: output is not a setting of a stage"),
    "seed": ({"stages": {"a": {"kind": "sft", "train": {"seed": 1}}}}, "stage a: the seed is not a setting of a stage"),
    "seed twice": ({"seeds": [1, 1], "stages": {"a": {"kind": "sft"}}}, "has a seed twice"),
    "name": ({"stages": {"../a": {"kind": "sft"}}}, "the name is no name of a folder"),
    "key": ({"stages": {"a": {"kind": "sft", "trian": {}}}}, "stage a: unknown key 'trian'. Did you mean 'train'"),
    "no map": ({"stages": {"a": {"kind": "sft", "train": 3}}}, "stage a: train = 3 is not a map of settings"),
    "reference": ({"reference": "p", "stages": {"a": {"kind": "sft"}, "p": PAIRS}}, "no stage that makes a policy"),
    "comparisons": (
        {"stages": {"a": {"kind": "sft"}}, "evaluate": {"comparisons": "stage:a"}},
        "evaluate.comparisons = 'stage:a' names no stage that makes preferences",
    ),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_mistakes_are_named_before_anything_runs(tmp_path: Path, case: str) -> None:
    values, message = BAD[case]
    with pytest.raises(RecipeError, match=message) as caught:
        load_chain(chain_file(tmp_path / "c.yaml", values))
    assert "\n" not in str(caught.value)


def test_only_losses_in_nats_per_token_are_shown_beside_answers(finished: Path) -> None:
    seed = finished / "seed=0"
    assert [step for step, _ in loss_of(seed / "tuned" / "run")] == [1, 2]
    assert loss_of(seed / "grpo" / "run") == loss_of(seed / "dpo" / "run") == loss_of(seed) == []
    assert (seed / "grpo" / "run" / "training.html").is_file()
