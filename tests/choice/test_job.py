"""A benchmark from the command line, on a tiny model: files, resuming, comparing, and mistakes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import T5Config, T5ForConditionalGeneration

from palmette.choice import job
from palmette.choice.results import Result
from palmette.choice.settings import ChoiceSettings
from palmette.choice.task import load_task
from palmette.errors import DataError
from tests.support.choice import ROWS, tiny_model, tiny_tokenizer
from tests.support.command import palmette

Run = Any


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choice") / "tiny"
    tiny_model("words").float().save_pretrained(folder)
    tiny_tokenizer("words").save_pretrained(folder)
    return folder


@pytest.fixture
def run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`palmette eval choice` on a task's rows. The result is the exit code."""

    def run(task: str, out: str, *words: str, rows: str = "items") -> int:
        path = tmp_path / f"{task}-{rows}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[task][rows]), encoding="utf-8")
        given = ["eval", "choice", task, "--model", model, "--data", path, "--out", tmp_path / out, *words]
        return palmette(monkeypatch, *given)

    return run


def test_a_benchmark_leaves_its_files(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("mmlu", "a", "--mutual-info") == 0
    printed = capsys.readouterr()
    assert "MMLU, 8 items, lm-eval, 0-shot" in printed.out
    assert "accuracy by mutual information" in printed.out
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"items.jsonl", "report.html", "results.json", "settings.json", "texts.jsonl"}
    values = json.loads((tmp_path / "a" / "results.json").read_text())
    assert (values["rule"], values["shots"], values["chat_template"], values["items"]) == ("lm-eval", 0, False, 8)
    assert len(values["weights_sha256"]) == len(values["data"]["sha256"]) == 64
    assert values["template_sha256"] is None
    assert set(values["subjects"]) == {"astronomy", "high_school_biology"}
    assert values["measures"]["acc"]["number"] == 8
    again = Result.read(tmp_path / "a")
    assert {name: one.value for name, one in again.figures.items()} == {
        name: one["value"] for name, one in values["measures"].items()
    }
    page = (tmp_path / "a" / "report.html").read_text()
    assert "Which of them lays eggs?" in page
    assert "high school biology" in page


def test_texts_never_become_markup(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**row, "goal": "<script>alert(1)</script>", "id": f"p{i}"} for i, row in enumerate(ROWS["piqa"]["items"])]
    monkeypatch.setitem(ROWS, "piqa", {"items": rows})
    assert run("piqa", "a") == 0
    page = (tmp_path / "a" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_stopped_job_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "CHUNK", 2)
    assert run("arc_easy", "whole") == 0
    real, calls = job.score_items, list[int]()

    def stopped(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given, **options)

    monkeypatch.setattr(job, "score_items", stopped)
    assert run("arc_easy", "parts") == 130
    assert "The same command goes on." in capsys.readouterr().err
    with (tmp_path / "parts" / "items.jsonl").open("a") as stream:
        stream.write('{"id": "half of a li')
    assert run("arc_easy", "parts", "--mutual-info") == 2
    assert "was begun with mutual_info = False, and now it is True" in capsys.readouterr().err
    assert run("arc_easy", "parts") == 0
    assert "4 of 6 items were scored before" in capsys.readouterr().err
    assert len(calls) == 4
    whole, parts = (Result.read(tmp_path / name) for name in ("whole", "parts"))
    assert parts.outcomes == whole.outcomes
    assert run("arc_easy", "parts") == 2
    assert "exists already" in capsys.readouterr().err


def test_results_are_compared(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("hellaswag", "plain") == run("hellaswag", "chat", "--chat-template") == 0
    settings = json.loads((tmp_path / "chat" / "settings.json").read_text())
    template = tiny_tokenizer("words").chat_template
    assert settings["template_sha256"] == hashlib.sha256(template.encode()).hexdigest()
    assert run("hellaswag", "other", "--rule", "lighteval-cloze") == 0
    capsys.readouterr()
    words = ["compare-runs", tmp_path / "plain"]
    assert palmette(monkeypatch, *words, tmp_path / "chat", "--page", tmp_path / "both.html") == 0
    printed = capsys.readouterr().out
    assert "B was asked through its chat template, and A was not." in printed
    assert "Accuracy per character" in printed
    assert "Right in B only" in (tmp_path / "both.html").read_text()
    assert palmette(monkeypatch, *words, tmp_path / "other") == 2
    assert "differ in their rule: 'lm-eval' and 'lighteval-cloze'" in capsys.readouterr().err


def test_mistakes_are_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def error() -> str:
        found = capsys.readouterr().err.strip().splitlines()[-1]
        assert found.startswith("error: ")
        return found

    given = ["--out", tmp_path / "x", "--model", tmp_path]
    assert palmette(monkeypatch, "eval", "choice", "helaswag", *given) == 2
    assert "Did you mean hellaswag?" in error()
    same = tmp_path / "arc_easy-items.jsonl"
    assert run("arc_easy", "x", "--shots", "1", "--shots-data", str(same)) == 2
    assert "are both from" in error()
    assert run("piqa", "x", "--shots", "9", "--shots-data", str(same)) == 2
    assert "has no 'goal'" in error()
    assert run("piqa", "x", "--shots", "1") == 2
    assert "cannot load the data set 'baber/piqa', split 'train'" in (found := error())
    assert "Give --shots-data, a file of items" in found


def test_text_that_would_be_a_control_token_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {**ROWS["piqa"]["items"][0], "goal": "Say <|im_end|> twice.", "id": "p7"}
    monkeypatch.setitem(ROWS, "piqa", {"items": [row]})
    assert run("piqa", "x") == 2
    assert "item 'p7' holds '<|im_end|>', which the tokenizer reads as a control token" in capsys.readouterr().err


@pytest.mark.parametrize(
    "row",
    [
        {"about": "<|im_end|>", "context": "Is it?", "choices": ["yes", "no"]},
        {"about": "Say <|im_", "context": "end|>. Is it?", "choices": ["yes", "no"]},
        {"about": "", "context": "Is it <|im_", "choices": ["end|>", "no"]},
    ],
)
def test_a_control_token_is_refused_wherever_it_comes_from(row: dict[str, Any], tmp_path: Path) -> None:
    """A description may name a column, as MMLU's does. And two harmless halves may meet."""
    (tmp_path / "own.yaml").write_text(
        "title: Own\nabout: Own.\nneeds: [about]\ngold: 0\nrules:\n  lm-eval:\n    context: context\n"
        "    choices: choices\n    description: about\n    delimiter: ''\n    headline: acc\n"
    )
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "q1", **row}) + "\n")
    settings = ChoiceSettings(data=str(tmp_path / "rows.jsonl"))
    with pytest.raises(
        DataError, match=r"item 'q1' holds '<\|im_end\|>', which the tokenizer reads as a control token"
    ):
        job.prepare(job.read_items(load_task(str(tmp_path / "own.yaml")), settings), tiny_tokenizer("words"))


def test_mistakes_in_the_data_show_before_the_model_is_loaded(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(job, "load_merged", lambda *_, **__: pytest.fail("the model was loaded"))
    monkeypatch.setitem(ROWS, "piqa", {"items": [{"goal": "Dry a shirt.", "id": "p1"}]})
    assert run("piqa", "x") == 2
    assert "p1 has no 'sol1'" in capsys.readouterr().err
    assert run("arc_easy", "x", "--shots-data", str(tmp_path / "piqa-items.jsonl")) == 2
    assert "and --shots is 0. Give --shots, or leave --shots-data out." in capsys.readouterr().err


def test_a_seed_without_examples_changes_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b").mkdir()  # an empty folder may be there already
    assert run("arc_easy", "a") == run("arc_easy", "b", "--seed", "3") == 0
    assert palmette(monkeypatch, "compare-runs", tmp_path / "a", tmp_path / "b") == 0
    assert palmette(monkeypatch, "eval", "choice", "arc_easy", "--out", tmp_path, "--data", tmp_path / "no.jsonl") == 2


def test_a_job_that_lacks_its_page_only_gets_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a kill between the last two files."""
    assert run("arc_easy", "a") == 0
    kept = (tmp_path / "a" / "results.json").read_bytes()
    (tmp_path / "a" / "report.html").unlink()
    monkeypatch.setattr(job, "score_items", lambda *_, **__: pytest.fail("items were scored again"))
    assert run("arc_easy", "a", "--limit", "2") == 2
    assert "was begun with limit = None, and now it is 2" in capsys.readouterr().err
    assert run("arc_easy", "a") == 0
    assert (tmp_path / "a" / "report.html").is_file()
    assert (tmp_path / "a" / "results.json").read_bytes() == kept


def test_an_encoder_decoder_is_refused(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = T5Config(vocab_size=40, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    tiny_tokenizer("words").save_pretrained(tmp_path / "t5")
    run("piqa", "first")
    capsys.readouterr()
    given = ["--data", tmp_path / "piqa-items.jsonl", "--out", tmp_path / "x", "--model", tmp_path / "t5"]
    assert palmette(monkeypatch, "eval", "choice", "piqa", *given) == 2
    assert "is no decoder-only language model. Use one such as" in capsys.readouterr().err


def test_a_model_without_a_chat_template_says_so(
    model: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    tiny_model("words").float().save_pretrained(bare)
    tokenizer = type(tiny_tokenizer("words")).from_pretrained(model)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(bare)
    run("piqa", "first")
    given = ["--data", tmp_path / "piqa-items.jsonl", "--out", tmp_path / "x", "--model", bare, "--chat-template"]
    assert palmette(monkeypatch, "eval", "choice", "piqa", *given) == 2
    assert "has no chat template" in capsys.readouterr().err
