"""The table of stages: its rows, which stage a recipe is for, and runs that are resumed as what they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from palmette.config.recipes import Recipe
from palmette.errors import RecipeError, RunError
from palmette.studies.chain.recipe import load_chain
from palmette.studies.sweep.recipe import load_sweep
from palmette.train.recipes.masked import MlmRecipe
from palmette.train.recipes.preferences import DpoRecipe, KtoRecipe, RewardRecipe
from palmette.train.recipes.rollouts import GrpoRecipe, PpoRecipe
from palmette.train.recipes.texts import PretrainRecipe
from palmette.train.run import TrainedRun, resume, train
from palmette.train.stages import STAGES, read_recipe, resolve, stage_of_run
from tests.support.command import palmette
from tests.support.recipes import sft_recipe
from tests.support.runs import adapter, assert_same, quiet

RECIPES = {
    "sft": Recipe,
    "reward": RewardRecipe,
    "dpo": DpoRecipe,
    "kto": KtoRecipe,
    "grpo": GrpoRecipe,
    "ppo": PpoRecipe,
    "pretrain": PretrainRecipe,
    "mlm": MlmRecipe,
}


def test_the_rows_are_complete() -> None:
    assert {name: resolve(stage.recipe) for name, stage in STAGES.items()} == RECIPES
    for name, stage in STAGES.items():
        assert stage.name == name
        assert RECIPES[name].model_fields["stage"].default == name
        assert all(callable(resolve(target)) for target in (stage.prepare, stage.learn, stage.figures))
        assert stage.next_step.count("{}") == 1
    assert [name for name, stage in STAGES.items() if stage.makes == "reward model"] == ["reward"]
    assert [name for name, stage in STAGES.items() if stage.makes == "masked language model"] == ["mlm"]
    assert [name for name, stage in STAGES.items() if stage.samples] == ["grpo", "ppo"]


@pytest.mark.parametrize(
    "module", ["palmette.train.stages", "palmette.cli.train.stages", "palmette.studies.chain.recipe"]
)
def test_the_table_and_its_commands_need_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'transformers', 'datasets'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_recipe_is_read_as_its_stage_s(tmp_path: Path) -> None:
    said = written(tmp_path / "said.yaml", "stage: dpo\noutput: x\ndata: {train: [a.jsonl]}\ndpo: {beta: 0.2}")
    recipe = read_recipe(said)
    assert isinstance(recipe, DpoRecipe)
    assert recipe.dpo.beta == 0.2
    assert read_recipe(said, "dpo") == recipe
    unsaid = written(tmp_path / "unsaid.yaml", "output: x\ndata: {train: [a.jsonl]}\ndpo: {beta: 0.2}")
    assert read_recipe(unsaid, "dpo") == recipe
    assert type(read_recipe(written(tmp_path / "sft.yaml", "output: x"))) is Recipe
    assert read_recipe(str(written(tmp_path / "again.yaml", recipe.to_yaml()))) == recipe


@pytest.mark.parametrize(
    ("text", "stage", "message"),
    [
        (
            "output: x\ndata: {train: [a.jsonl]}\nkto: {beta: 0.2}",
            None,
            (
                "names no stage, .* sft: .*unknown key 'kto'.* such as `stage: kto`. "
                "The stages are sft, reward, dpo, kto, grpo"
            ),
        ),
        ("stage: dop\noutput: x", None, "stage = 'dop' is not a training stage. The stages are sft, reward, dpo"),
        ("stage: [dpo]\noutput: x", None, "is not a training stage"),
        ("stage:\noutput: x", "sft", "stage = null is not a training stage"),
        (
            "stage: dpo\noutput: x\ndata: {train: [a.jsonl]}",
            "kto",
            "says stage: dpo, but a recipe of the stage kto is needed. Run `palmette train dpo` with it",
        ),
        ("stage: sft\noutput: x\ntrian: {}", None, "unknown key 'trian'. Did you mean 'train'"),
        ("output: x\ntrian: {}", None, "unknown key 'trian'. Did you mean 'train'.* Or name its stage"),
    ],
)
def test_a_recipe_of_another_stage_is_explained(tmp_path: Path, text: str, stage: str | None, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(written(tmp_path / "r.yaml", text), stage)
    assert "\n" not in str(caught.value)


KINDS_OF_RECIPES = {
    "sft": "output: x\ntrain: {epochs: 1}",
    **{name: f"output: x\ndata: {{train: [builtin:train]}}\n{name}: {{}}" for name in STAGES if name != "sft"},
    "sweep": "output: x\nvary: {train.epochs: [1]}",
    "chain": "output: x\nstages: {a: {kind: run, run: runs/a}}",
}
# What a recipe without a section of its own may be: all settings that stages share fit several of them.
_READ_ALIKE = {("sft", "grpo"), ("sft", "ppo"), ("sft", "pretrain"), ("sft", "mlm")}


def command_of(kind: str) -> str:
    return kind if kind in ("sweep", "chain") else f"train {kind}"


@pytest.mark.parametrize("needed", KINDS_OF_RECIPES)
@pytest.mark.parametrize("given", KINDS_OF_RECIPES)
def test_each_kind_of_recipe_given_to_each_other_command(given: str, needed: str, tmp_path: Path) -> None:
    """It is refused with the command that reads it."""
    file = written(tmp_path / "r.yaml", KINDS_OF_RECIPES[given])

    def read() -> object:
        if needed in ("sweep", "chain"):
            return (load_sweep if needed == "sweep" else load_chain)(file)
        return read_recipe(file, needed)

    if given == needed or (given, needed) in _READ_ALIKE:
        read()
        return
    with pytest.raises(RecipeError) as caught:
        read()
    assert f"Run `palmette {command_of(given)}` with it" in caught.value.way_out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "dop.yaml",
            r"cannot read the recipe .*dop\.yaml: there is no such file or folder. Did you mean .*dpo\.yaml\?",
        ),
        ("none.yaml", r"there is no such file or folder. Check the path. `palmette recipe` prints"),
        ("", r"cannot read the recipe .*: it is a folder. Give a YAML file. .* --resume"),
        ("rows.jsonl", r"rows\.jsonl is data, not a recipe. Name it in a recipe, under data\.train"),
    ],
)
def test_what_is_no_recipe_is_named(name: str, message: str, tmp_path: Path) -> None:
    written(tmp_path / "dpo.yaml", "output: x")
    written(tmp_path / "rows.jsonl", "{}")
    with pytest.raises(RecipeError, match=message):
        read_recipe(tmp_path / name, "dpo")


def test_a_recipe_made_in_python_is_of_its_class_s_stage() -> None:
    assert Recipe(output="x").stage == "sft"
    with pytest.raises(ValueError, match="stage = dpo, but this is a recipe of the stage sft"):
        Recipe(output="x", stage="dpo")


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    out = tmp_path_factory.mktemp("runs") / "run"
    return train(sft_recipe(tiny_folder, out), quiet)


def test_a_run_says_its_stage(finished: TrainedRun) -> None:
    assert finished.stage == stage_of_run(finished.folder).name == "sft"
    assert yaml.safe_load((finished.folder / "recipe.yaml").read_text())["stage"] == "sft"
    assert json.loads((finished.folder / "manifest.json").read_text())["stage"] == "sft"


def test_a_run_is_resumed_as_what_it_is(
    finished: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one from before recipes and manifests said their stage, and one whose folder is given below the home
    folder.
    """
    out = tmp_path / "run"
    out.mkdir()
    recipe = yaml.safe_load((finished.folder / "recipe.yaml").read_text())
    manifest = json.loads((finished.folder / "manifest.json").read_text())
    del recipe["stage"], manifest["stage"]
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert palmette(monkeypatch, "train", "dpo", "--resume", out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"is a run of the stage sft, not of dpo. Continue it with: palmette train sft --resume {out}" in line
    monkeypatch.setenv("HOME", str(tmp_path))
    assert palmette(monkeypatch, "train", "sft", "--resume", "~/run") == 0
    assert "try it: " in capsys.readouterr().err
    assert_same(adapter(finished.folder), adapter(out))
    (out / "manifest.json").write_text(json.dumps({**manifest, "stage": "elsewhere"}))
    with pytest.raises(RunError, match="is a run of the stage 'elsewhere', which does not exist"):
        resume(out)


def test_a_recipe_of_another_stage_is_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "r.yaml", "stage: sft\noutput: x")
    assert palmette(monkeypatch, "train", "dpo", file) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "says stage: sft, but a recipe of the stage dpo is needed" in line
    assert palmette(monkeypatch, "train", "dpo") == 2
    assert "give either a recipe or --resume RUN" in capsys.readouterr().err
