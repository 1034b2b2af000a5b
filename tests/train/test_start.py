"""What a stage begins from: a run goes on being trained, is referred to, or is the base of a new adapter."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from palmette.config.recipes import load_run_recipe, read_section
from palmette.config.sections import ReasoningSection
from palmette.errors import RecipeError, RunError
from palmette.inference.answerer import load_answerer
from palmette.model.files import PAUSE_WEIGHTS
from palmette.model.loading import weights_hash
from palmette.train.recipes.preferences import DpoRecipe
from palmette.train.run import train
from palmette.train.stages import recipe_from
from tests.support.preferences import recipe
from tests.support.recipes import sft_recipe
from tests.support.runs import adapter, assert_same, log, quiet


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


def test_fine_tuning_goes_on_from_a_run(tuned: Path, tmp_path: Path) -> None:
    """The first loss is what the run has left of it, which a new adapter is far from; the run itself stays as it is."""
    before = weights_hash(str(tuned / "adapter"))
    values = {
        "output": str(tmp_path / "further"),
        "start": str(tuned),
        "data": {"train": ["builtin:dev"], "limit_documents": 2},
        "train": {"epochs": 1, "trees_per_step": 1, "learning_rate": 1e-4},
    }
    train(recipe_from(values, "r.yaml", "sft"), quiet)
    fresh = {**values, "output": str(tmp_path / "fresh"), "prompt": {"name": "json"}, "lora": {"rank": 2}}
    fresh["model"] = {"name": load_run_recipe(tuned / "recipe.yaml").model.name, "dtype": "float32"}
    del fresh["start"]
    train(recipe_from(fresh, "r.yaml", "sft"), quiet)
    further, new = (log(tmp_path / name)[0]["loss"] for name in ("further", "fresh"))
    assert further < 0.9 * new
    settled, given = load_run_recipe(tmp_path / "further" / "recipe.yaml"), load_run_recipe(tuned / "recipe.yaml")
    assert (settled.model, settled.lora, settled.prompt) == (given.model, given.lora, given.prompt)
    one, two = adapter(tuned), adapter(tmp_path / "further")
    assert 0 < max(float((two[name] - one[name]).abs().max()) for name in one) < 0.01
    assert weights_hash(str(tuned / "adapter")) == before
    manifest = json.loads((tmp_path / "further" / "manifest.json").read_text())
    assert manifest["start"] == {"run": str(tuned), "sha256": before}


def test_fine_tuning_keeps_the_pause_tokens_of_the_run_that_it_starts_from(tiny_folder: Path, tmp_path: Path) -> None:
    """They were learned by themselves first, which is not done again, and no second set of them is added."""
    reasoning = {"kind": "pause", "tokens": 2, "embedding_epochs": 1}
    first = sft_recipe(tiny_folder, tmp_path / "first", data__limit_documents=1, train__epochs=1)
    train(first.model_copy(update={"reasoning": ReasoningSection(**reasoning)}), quiet)
    values = {
        "output": str(tmp_path / "second"),
        "start": str(tmp_path / "first"),
        "data": {"train": ["builtin:dev"], "limit_documents": 1},
        "train": {"epochs": 1},
    }
    train(recipe_from(values, "r.yaml", "sft"), quiet)
    one, two = (load_file(tmp_path / name / "adapter" / PAUSE_WEIGHTS) for name in ("first", "second"))
    assert_same(one, two)
    assert one["pause_ND"].abs().max() > 0
    assert load_run_recipe(tmp_path / "second" / "recipe.yaml").reasoning == ReasoningSection(**reasoning)
