"""Multiple-choice benchmarks as a part of a comparison: the figures of `eval choice`, and models that cannot do one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from palmette.choice.job import evaluate_choice
from palmette.choice.settings import ChoiceSettings
from palmette.errors import DataError
from palmette.pages.model_comparison import render_comparison
from palmette.studies.models.benchmarks import Benchmark, read_benchmarks
from palmette.studies.models.compare import CompareSettings, compare_models
from tests.support.command import palmette
from tests.support.tokenizers import byte_level_tokenizer

WORDS = ("ferry", "harbour", "lamp", "keeper", "tide", "pier", "gull", "rope")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with random weights, other tokens, and no chat template."""
    folder = tmp_path_factory.mktemp("other") / "gpt2"
    tokenizer = byte_level_tokenizer(["<|endoftext|>"], eos="<|endoftext|>", template=None)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, eos_token_id=0, bos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def items(path: Path, *more: str) -> Path:
    """Items of three choices, one for each word, and one for each further context."""
    rows = [
        {"context": f"The {word} was", "choices": [f"{word} by night", "seen", f"no {word}"], "gold": index % 3}
        for index, word in enumerate(WORDS)
    ]
    rows += [{"context": text, "choices": ["seen", "heard"], "gold": 0} for text in more]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings(*benchmarks: Benchmark) -> CompareSettings:
    return CompareSettings(skip=("weights", "replies", "reading", "task"), benchmarks=benchmarks)


def test_figures_and_differences_are_those_of_the_benchmark_alone(
    tiny_folder: Path, other: Path, tmp_path: Path
) -> None:
    file = items(tmp_path / "items.jsonl")
    found = compare_models([str(tiny_folder), str(other)], settings(Benchmark("choices", str(file), 7)), lambda _: None)
    alone = [
        evaluate_choice("choices", str(folder), tmp_path / folder.name, ChoiceSettings(data=str(file), limit=7))
        for folder in (tiny_folder, other)
    ]
    headline = alone[0].headline
    for model, result in zip(found["models"], alone, strict=True):
        (one,) = model["choice"]
        assert (one["items"], one["task"], one["headline"]) == (7, "choices", headline)
        assert one["value"] == sum(outcome.right(headline) for outcome in result.outcomes) / 7
    (difference,) = found["pairs"][0]["choice"]
    values = [model["choice"][0]["value"] for model in found["models"]]
    assert difference["difference"] == pytest.approx(values[1] - values[0])
    assert difference["better"] == "unclear"  # seven items cannot tell two models of random weights apart
    html = render_comparison(found)
    assert "Multiple-choice benchmarks" in html
    assert "These items cannot tell the two apart." in html


def test_a_model_that_cannot_do_a_benchmark_says_why(tiny_folder: Path, other: Path, tmp_path: Path) -> None:
    """The text is a control token of one model, and plain text to the other."""
    file = items(tmp_path / "items.jsonl", "It says <|im_end|> here")
    found = compare_models([str(tiny_folder), str(other)], settings(Benchmark("choices", str(file))), lambda _: None)
    first, second = found["models"]
    assert "holds '<|im_end|>'" in first["why_not"]["choice"]
    assert first["choice"] == []
    assert second["choice"][0]["items"] == len(WORDS) + 1
    assert found["pairs"][0]["choice"] == []
    assert f"{tiny_folder}, multiple-choice benchmarks: {first['why_not']['choice']}." in found["notes"]
    assert "Right choices" in render_comparison(found)


def test_a_comparison_without_benchmarks_has_no_part_of_them(tiny_folder: Path, other: Path) -> None:
    found = compare_models([str(tiny_folder), str(other)], settings(), lambda _: None)
    assert "Multiple-choice benchmarks" not in render_comparison(found)


def test_the_command_and_its_mistakes(
    tiny_folder: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = items(tmp_path / "items.jsonl"), tmp_path / "out"
    words = ["models", "compare", tiny_folder, other, "--out", out]
    words += [word for part in ("weights", "replies", "reading", "task") for word in ("--skip", part)]
    for given, said in (
        (["--choice", "helaswag"], "Did you mean hellaswag?"),
        (["--choice", "choices=none.jsonl"], "there is no data file 'none.jsonl'"),
        (["--choice", f"choices={file}", "--choice", "choices"], "the benchmark 'choices' is named twice"),
    ):
        assert palmette(monkeypatch, *words, *given) == 2
        assert said in capsys.readouterr().err
    assert palmette(monkeypatch, *words, "--choice", f"choices={file}", "--limit-items", "5") == 0
    assert "5 items" in " ".join(capsys.readouterr().out.split())
    record = json.loads((out / "comparison.json").read_text())
    assert [model["choice"][0]["items"] for model in record["models"]] == [5, 5]


def test_a_benchmark_named_twice_is_refused() -> None:
    with pytest.raises(DataError, match="'piqa' is named twice"):
        read_benchmarks(["piqa", "piqa=a.jsonl"], None)
