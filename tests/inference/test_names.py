"""What a model's name means: decided in one place, without a model being loaded."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from palmette.errors import ModelError, RunError
from palmette.inference.names import Kind, locate, model_kind, resolve_answerer, resolve_model, resolve_run
from tests.support.paths import SOURCE


def make_run(folder: Path, *parts: str, **recipe: object) -> Path:
    """A run folder that holds what it trained, by the names of its parts, and no weights."""
    for part in parts:
        (folder / part).mkdir(parents=True)
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"output": str(folder), **recipe}))
    (folder / "manifest.json").write_text('{"stage": "dpo"}')
    return folder


BASE = {"model": {"name": "someone/base", "revision": "v2", "dtype": "float32"}}


def test_a_run_with_an_adapter(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "adapter", **BASE)
    for name in (str(folder), folder):
        found = resolve_model(name)
        assert (found.name, found.kind, found.folder) == (str(folder), "run", folder)
        assert (found.section.name, found.section.revision, found.base) == ("someone/base", "v2", "someone/base")
        assert found.trained == found.adapter == folder / "adapter"
        assert not found.is_full


def test_a_run_with_a_full_model_is_loaded_from_its_own_weights(tmp_path: Path) -> None:
    """Its base's revision says nothing about them, and its dtype does."""
    found = resolve_model(make_run(tmp_path / "run", "model", **BASE))
    assert found.is_full
    assert found.adapter is None
    assert found.section.name == str(tmp_path / "run" / "model")
    assert (found.section.revision, found.section.dtype, found.base) == (None, "float32", "someone/base")


def test_an_unfinished_run_is_refused_unless_it_will_do(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "checkpoints")
    with pytest.raises(RunError, match=r"is not finished\. Continue it with: palmette train dpo --resume"):
        resolve_model(folder)
    found = resolve_model(folder, finished=False)
    assert (found.kind, found.trained, found.adapter, found.is_full) == ("run", None, None, False)


def test_a_run_where_nothing_else_will_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run folder: it has no recipe\.yaml"):
        resolve_run(tmp_path)
    with pytest.raises(RunError, match="is not a run folder"):
        resolve_run("someone/model")
    assert resolve_run(make_run(tmp_path / "run", "adapter")).kind == "run"


@pytest.mark.parametrize("suffix", [".gguf", ".GGUF", ".Gguf"])
def test_a_gguf_file_in_any_case(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"model{suffix}"
    with pytest.raises(ModelError, match=f"there is no GGUF file '{file}'"):
        locate(str(file))
    file.touch()
    assert (resolve_model(file).kind, resolve_model(file).section.name) == ("gguf", str(file))


NAMES: dict[str, Kind] = {
    "gpt2": "hub",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "hub",
    "folder": "folder",
    "./folder": "folder",
    "run": "run",
    "missing/model": "hub",
    "missing.gguf": "gguf",
    "./missing": "folder",
    "../missing": "folder",
    "/missing": "folder",
    "~/missing": "folder",
    ".missing": "folder",
    "runs/a/missing": "folder",
    "runs/with space": "folder",
    r"runs\missing": "folder",
    "": "folder",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_kind_of_a_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    make_run(tmp_path / "run", "adapter")
    assert model_kind(name) == NAMES[name]
    if "missing" in name and NAMES[name] == "folder":
        with pytest.raises(ModelError, match=r"there is no model folder .*USER/NAME"):
            resolve_model(name)
    elif NAMES[name] == "hub":
        assert locate(name) == resolve_model(name).section.name == name


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "base").mkdir()
    make_run(tmp_path / "run", "adapter")
    assert locate("~/base") == str(tmp_path / "base")
    assert (resolve_model("~/base").name, resolve_model("~/base").section.name) == ("~/base", str(tmp_path / "base"))
    assert resolve_run("~/run").folder == tmp_path / "run"
    with pytest.raises(ModelError, match="there is no model folder '~/none'"):
        locate("~/none")


def test_a_folder_hides_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "model").mkdir(parents=True)
    assert (model_kind("someone/model"), locate("someone/model")) == ("folder", "someone/model")


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(ModelError, match="cannot be a model's name"):
        resolve_model("x" * 5000)


def test_a_mistyped_run_is_not_looked_up_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these names could be a hub id by its form, and the hub would be asked for it."""
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "quickstart", "adapter")
    make_run(tmp_path / "runs" / "sweep" / "first", "adapter")
    for name in ("runs/quikstart", "run/quickstart", "rusn/quickstart"):
        with pytest.raises(ModelError, match=rf"no model folder '{name}'\. Did you mean runs/quickstart\?"):
            resolve_model(name)
    with pytest.raises(RunError, match=r"runs/quick is not a run folder: .* Did you mean runs/quickstart\?"):
        resolve_run("runs/quick")
    with pytest.raises(ModelError, match=r"Did you mean runs/sweep/first\?"):
        resolve_model("runs/sweep/fisrt")
    with pytest.raises(ModelError, match=r"no model folder 'runs/zzz'\. Check the path"):
        resolve_model("runs/zzz")
    for name in ("meta-llama/Llama-3.2-1B", "gpt2", "runner/model"):
        assert model_kind(name) == "hub"


def test_a_neighbour_of_a_path_is_suggested(tmp_path: Path) -> None:
    make_run(tmp_path / "first", "adapter")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "weights.gguf").touch()
    (tmp_path / "notes").mkdir()
    for name, near in (("frist", "first"), ("bsae", "base"), ("weight.gguf", "weights.gguf")):
        with pytest.raises(ModelError, match=rf"Did you mean {tmp_path / near}\?"):
            locate(tmp_path / name)
    with pytest.raises(ModelError, match=r"no model folder '.*note'\. Check the path"):
        locate(tmp_path / "note")


def test_a_file_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contract.txt").touch()
    with pytest.raises(ModelError, match=r"'contract\.txt' is a file, and no model"):
        resolve_model("contract.txt")


def test_a_folder_without_a_model_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "quickstart", "adapter")
    with pytest.raises(ModelError, match=r"the folder 'runs' is no run and no model\. Did you mean runs/quickstart"):
        resolve_answerer("runs")
    (tmp_path / "other").mkdir()
    with pytest.raises(ModelError, match=r"the folder 'other' is no run and no model\. Give the folder of a run"):
        resolve_answerer("other")


# Files of the package that may ask whether a folder is a run: it itself, and those that look at runs and not at models.
ASKS = {
    "run.py",
    "encoders/names.py",  # names of encoders, which give no answers by themselves
    "inference/choice.py",
    "inference/names.py",
    "inference/nearby.py",
    "studies/chain/measuring.py",
    "studies/chain/recipe.py",
    "studies/retraining/job.py",
    "studies/retraining/newest.py",
}


def test_no_other_place_decides_it() -> None:
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name == "is_run":
                found.add(str(path.relative_to(SOURCE)))
    assert found <= ASKS
    assert "inference/names.py" in found, "the search finds nothing"
