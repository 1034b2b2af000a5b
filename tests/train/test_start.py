"""What a stage begins from: a run goes on being trained, is referred to, or is the base of a new adapter."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from palmette.config import load_run_recipe, read_section
from palmette.errors import RecipeError, RunError
from palmette.inference.answerer import load_answerer
from palmette.model.loading import weights_hash
from palmette.train.recipes.preferences import DpoRecipe
from palmette.train.run import train
from tests.support.preferences import recipe
from tests.support.recipes import sft_recipe
from tests.support.runs import adapter, log, quiet


@pytest.fixture(scope="module")
def tuned(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned run to start from."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    changes = {"data__limit_documents": 2, "train__trees_per_step": 1, "prompt__name": "json", "lora__dropout": 0.0}
    train(sft_recipe(tiny_folder, out, **changes), quiet)
    assert max(float(value.abs().max()) for name, value in adapter(out).items() if "lora_B" in name) > 0.01
    return out


def test_a_stage_goes_on_from_a_run(tuned: Path, tiny_folder: Path, pairs: Path, tmp_path: Path) -> None:
    """The reference is the run as it was: the first loss is ln 2.

    What comes out is one adapter on the run's own base.
    """
    out = tmp_path / "dpo"
    made = recipe("dpo", tiny_folder, pairs, out, start=str(tuned), train__learning_rate=1e-4)
    # As a recipe file that names neither model nor adapter.
    values = {key: value for key, value in made.model_dump().items() if key in ("output", "data", "start", "train")}
    train(read_section(DpoRecipe, values, "r.yaml"), quiet)
    assert log(out)[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)
    settled, before = load_run_recipe(out / "recipe.yaml"), load_run_recipe(tuned / "recipe.yaml")
    assert (settled.model, settled.lora, settled.prompt) == (before.model, before.lora, before.prompt)
    one, two = adapter(tuned), adapter(out)
    assert one.keys() == two.keys()
    moved = [float((two[name] - one[name]).abs().max()) for name in one]
    assert max(moved) > 0
    assert max(moved) < 0.01 < max(float(value.abs().max()) for value in one.values()), "it began anew"
    assert load_answerer(str(out)).task.prompt == load_answerer(str(tuned)).task.prompt
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["start"] == {"run": str(tuned), "sha256": weights_hash(str(tuned / "adapter"))}


def test_a_base_with_a_name_of_the_hub_is_not_asked_for_there(
    tuned: Path, tiny_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    """peft warns where it cannot reach the hub, at each checkpoint; here a warning is an error."""
    start = tmp_path / "tuned"
    shutil.copytree(tuned, start)
    config = start / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "nobody/nothing"}))
    made = recipe("dpo", tiny_folder, pairs, tmp_path / "dpo", start=str(start), train__epochs=1)
    values = {key: value for key, value in made.model_dump().items() if key in ("output", "data", "start", "train")}
    train(read_section(DpoRecipe, values, "r.yaml"), quiet)
    saved = json.loads((tmp_path / "dpo" / "adapter" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == str(tiny_folder)


def test_a_run_with_all_weights_trained_is_the_base_of_a_new_adapter(
    tiny_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    full, out = tmp_path / "full", tmp_path / "dpo"
    changes = {"train__method": "full", "data__limit_documents": 2, "train__epochs": 1, "train__learning_rate": 0.001}
    train(sft_recipe(tiny_folder, full, **changes), quiet)
    made = recipe("dpo", tiny_folder, pairs, out, start=str(full), lora__dropout=0.0, train__epochs=1)
    values = {key: value for key, value in made.model_dump().items() if key in ("output", "data", "start", "train")}
    train(read_section(DpoRecipe, values, "r.yaml"), quiet)
    assert log(out)[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert load_run_recipe(out / "recipe.yaml").model.name == str(full / "model")
    assert json.loads((out / "manifest.json").read_text())["model"]["sha256"] == weights_hash(str(full / "model"))
    assert load_answerer(str(out)).loaded.name == str(full / "model")


def test_the_reference_may_be_another_run(tuned: Path, tiny_folder: Path, pairs: Path, tmp_path: Path) -> None:
    """The run that it starts from, named: still ln 2.

    The same reference of a fresh adapter on the base: something else.
    """
    same = {
        "lora": {"rank": 2},
        "dpo__reference": str(tuned),
        "train__epochs": 1,
        "train__trees_per_step": 6,
    }
    for name, start in (("from", str(tuned)), ("fresh", None)):
        train(recipe("dpo", tiny_folder, pairs, tmp_path / name, **same, start=start), quiet)
    assert log(tmp_path / "from")[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert abs(log(tmp_path / "fresh")[0]["loss"] - math.log(2)) > 0.01
    manifest = json.loads((tmp_path / "fresh" / "manifest.json").read_text())
    assert weights_hash(str(tuned / "adapter")) in manifest["reference"]["sha256"]


def test_what_contradicts_the_run_to_start_from_is_refused(
    tuned: Path, tiny_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "none"
    same = {"start": str(tuned), "lora": {"rank": 2}}
    for error, message, changes in (
        (RecipeError, "lora.rank = 8, but start = .* has 2", {**same, "lora__rank": 8}),
        (RecipeError, "model.name = 'elsewhere', but start = ", {**same, "model__name": "elsewhere"}),
        (RecipeError, "train.method = full would train the weights under it", {**same, "train__method": "full"}),
        (RunError, "is not a run folder", {"start": str(tmp_path)}),
    ):
        with pytest.raises(error, match=message):
            train(recipe("dpo", tiny_folder, pairs, out, **changes), quiet)
        assert not out.exists()
