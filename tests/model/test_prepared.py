"""Weights that are kept as they are computed with: the same bit for bit, and only what can be trusted."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest
import torch

from palmette.cache import cache_folder
from palmette.errors import ModelError
from palmette.inference import base
from palmette.inference.answerer import load_answerer
from palmette.inference.base import load_merged, load_section
from palmette.inference.names import resolve_answerer
from palmette.model.loading import LoadedModel, merge_lora
from palmette.model.prepared import VARIABLE


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PALMETTE_COMPILE", "0")  # else the kernels would be compiled for this cache
    monkeypatch.setenv(VARIABLE, "100")


@pytest.fixture
def merges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows at each merge."""
    made: list[str] = []

    def merge(loaded: LoadedModel) -> LoadedModel:
        made.append(loaded.name)
        return merge_lora(loaded)

    monkeypatch.setattr(base, "merge_lora", merge)
    return made


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict(keep_vars=False).items()}


def entries() -> list[Path]:
    folder = cache_folder() / "weights"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_merged_weights_are_made_once_and_are_the_same_bit_for_bit(sft_run: Path, merges: list[str]) -> None:
    source = resolve_answerer(sft_run)
    expected = state(merge_lora(load_section(source.section, source.adapter)).model)
    first, second = load_merged(source), load_merged(source)
    assert len(merges) == 1
    assert same(state(first.model), expected)
    assert same(state(second.model), expected)
    assert type(second.model) is type(first.model)
    assert (second.name, second.folder, second.content) == (first.name, first.folder, first.content)
    assert second.model.config.to_dict() == first.model.config.to_dict()
    assert second.model.name_or_path == first.model.name_or_path == first.folder


def test_answers_are_the_same(sft_run: Path, merges: list[str]) -> None:
    text, questions = "The ferry leaves at 7:40 from pier 3.", ["When does the ferry leave?"]
    first, second = (load_answerer(sft_run).answer(text, questions) for _ in range(2))
    assert len(merges) == 1
    assert first == second


def test_an_entry_belongs_to_its_user_alone(sft_run: Path) -> None:
    load_merged(resolve_answerer(sft_run))
    (entry,) = entries()
    for path in (entry.parent, entry, *entry.iterdir()):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path


@pytest.mark.parametrize("what", ["adapter", "base", "dtype"])
def test_anything_else_is_merged_again(what: str, sft_run: Path, tmp_path: Path, merges: list[str]) -> None:
    """The copies differ in a file's content alone: one weight of the adapter, or the base's configuration."""
    run = Path(shutil.copytree(sft_run, tmp_path / "run"))
    source = resolve_answerer(run)
    load_merged(source)
    if what == "adapter":
        config = run / "adapter" / "adapter_config.json"
        config.write_text(config.read_text() + "\n")
        load_merged(source)
    else:
        changes = {"dtype": "bfloat16"}
        if what == "base":
            copy = shutil.copytree(source.section.name, tmp_path / "base")
            (tmp_path / "base" / "config.json").write_text((copy / "config.json").read_text() + "\n")
            changes = {"name": str(copy)}
        other = source.section.model_copy(update=changes)
        load_merged(type(source)(source.name, "run", other, source.recipe, source.folder, source.trained))
    assert len(merges) == 2
    assert len(entries()) == 2


def test_a_base_is_kept_only_if_it_is_cast(tiny_folder: Path, tmp_path: Path) -> None:
    source = resolve_answerer(tiny_folder)
    for dtype, count in (("float32", 0), ("bfloat16", 1), ("bfloat16", 1)):
        section = source.section.model_copy(update={"dtype": dtype})
        loaded = load_merged(type(source)(source.name, "folder", section))
        assert loaded.model.dtype == getattr(torch, dtype)
        assert len(entries()) == count
    plain = load_section(section)
    assert same(state(loaded.model), state(plain.model))


def test_damaged_weights_are_made_again(sft_run: Path, merges: list[str]) -> None:
    source = resolve_answerer(sft_run)
    expected = state(load_merged(source).model)
    (entry,) = entries()
    weights = entry / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert same(state(load_merged(source).model), expected)
    assert len(merges) == 2
    load_merged(source)
    assert len(merges) == 2


def test_an_interrupted_or_foreign_entry_counts_for_nothing(sft_run: Path, merges: list[str]) -> None:
    source = resolve_answerer(sft_run)
    load_merged(source)
    (entry,) = entries()
    (entry / "model.safetensors").chmod(0o666)
    load_merged(source)
    assert len(merges) == 2
    shutil.rmtree(entry)
    load_merged(source)
    (entry / "complete").unlink()
    load_merged(source)
    assert len(merges) == 4


def test_the_limit_is_kept(sft_run: Path, merges: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    source = resolve_answerer(sft_run)
    for limit, count in (("0", 0), ("0.001", 0), ("100", 1)):
        monkeypatch.setenv(VARIABLE, limit)
        load_merged(source)
        assert len(entries()) == count
    assert len(merges) == 3
    monkeypatch.setenv(VARIABLE, "much")
    with pytest.raises(ModelError, match="PALMETTE_WEIGHTS_CACHE is 'much', which is no number of megabytes"):
        load_merged(source)


def test_weights_that_would_be_loaded_as_others_are_not_kept(
    sft_run: Path, merges: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def off_by_a_bit(model: torch.nn.Module) -> dict[str, torch.Tensor]:
        weights = state(model)
        norm = weights["model.norm.weight"]
        norm[0] = torch.nextafter(norm[0], norm[0] + 1)
        return weights

    monkeypatch.setattr("palmette.model.prepared.without_pause", off_by_a_bit)
    load_merged(resolve_answerer(sft_run))
    assert entries() == []


def test_an_output_layer_of_its_own_survives(sft_run: Path, merges: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The base shares it with the embedding. An adapter on one of them gives it weights of its own."""

    def untied(loaded: LoadedModel) -> LoadedModel:
        merged = merge_lora(loaded)
        head = merged.model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach() + 1)
        return merged

    monkeypatch.setattr(base, "merge_lora", untied)
    first, second = (load_merged(resolve_answerer(sft_run)) for _ in range(2))
    heads = [loaded.model.get_output_embeddings().weight for loaded in (first, second)]
    assert torch.equal(*heads)
    assert not torch.equal(heads[1], second.model.get_input_embeddings().weight)
