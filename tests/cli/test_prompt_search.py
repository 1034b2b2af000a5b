"""`palmette prompts search`, with a teacher that a server in this process plays."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from palmette.data.source import read_source
from palmette.studies.prompts.asking import PromptedModel
from palmette.tasks.qa_prompt import load_prompt
from tests.support.chat_server import Act, ChatServer, says
from tests.support.command import palmette

QUESTIONS = 40
MARKED = (
    "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "\n{% endfor %}{% if add_generation_prompt %}### assistant:\n{% endif %}"
)


def teacher(request: dict[str, Any]) -> Act:
    """Writes an instruction that depends on the request alone, with a control token and markup in it."""
    now = request["messages"][-1]["content"]
    number = sum(map(ord, now)) % 100_000
    return says(f"<think>Hm.</think>Here: <instruction>Reply <b>{number}</b> <|im_end|> with JSON.</instruction>")


def search(server: ChatServer, model: Path, out: Path, *more: str | Path, calls: int = 3) -> list[str | Path]:
    words: list[str | Path] = ["prompts", "search", "plain", "--model", model, "--data", "builtin:test"]
    words += ["--endpoint", server.url, "--model-name", "teacher", "--calls", str(calls), "--decoder", "span"]
    return [*words, "--limit-questions", str(QUESTIONS), "--population", "2", "--out", out, *more]


def test_a_search_keeps_every_prompt_and_checks_the_best(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "searched"
    with ChatServer(teacher) as server:
        assert palmette(monkeypatch, *search(server, tiny_folder, out, "--final", "builtin:dev")) == 0
        said = capsys.readouterr().out
        assert "final check: " in said
        assert len(server.asked) == 3
        first = server.prompts()[0]
        # Once more, in the same folder, nothing is begun: the last questions were looked at.
        assert palmette(monkeypatch, *search(server, tiny_folder, out, "--final", "builtin:dev")) == 2
        assert "exists already" in capsys.readouterr().err
    record = json.loads((out / "search.json").read_text())
    prompts = {one["name"]: one for one in record["prompts"]}
    assert list(prompts) == ["base", "c01", "c02", "c03"]
    assert [prompts[name]["call"] for name in prompts] == [0, 1, 2, 3]
    for name, one in prompts.items():
        measured = json.loads((out / "search" / name / "metrics.json").read_text())
        assert measured["exact"] == one["exact"]
        assert load_prompt(str(out / "prompts" / f"{name}.yaml")).system == one["instruction"]
    best = max(prompts, key=lambda name: prompts[name]["exact"])  # the first one of equals
    assert record["chosen"] == best
    kept = load_prompt(str(out / "best.yaml"))
    assert kept.system == prompts[record["kept"]]["instruction"]
    assert kept.before_answer == load_prompt("plain").before_answer
    # The first round has only the base to vary, and shows it with its figure.
    assert prompts["c01"]["parent"] == prompts["c02"]["parent"] == "base"
    assert load_prompt("plain").system in first
    assert f"{prompts['base']['exact']:.1f} %" in first
    page = (out / "search.html").read_text()
    assert "<b>" not in page.split("<body>")[1]
    assert "How many labels it saves" in page


def test_the_teacher_sees_questions_of_the_search_half_alone(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "searched"
    with ChatServer(teacher) as server:
        assert palmette(monkeypatch, *search(server, tiny_folder, out, "--final", "builtin:dev")) == 0
        shown = {text for asked in server.prompts() for text in re.findall("^Question: (.*)$", asked, re.MULTILINE)}
        everything = "\n".join(server.prompts())
    answers = {
        part: [json.loads(line) for line in (out / part / "base" / "answers.jsonl").read_text().splitlines()]
        for part in ("search", "dev", "final")
    }
    assert len(answers["search"]) + len(answers["dev"]) == QUESTIONS
    documents = {part: {line["document"] for line in lines} for part, lines in answers.items()}
    assert not documents["search"] & documents["dev"]
    assert min(map(len, documents.values())) >= 2
    wrong = {line["question"] for line in answers["search"] if line["exact"] < 1}
    assert len(shown) > 5
    assert shown <= wrong
    unseen = {line["question"] for part in ("dev", "final") for line in answers[part]} - wrong
    assert unseen
    assert not [question for question in unseen if question in everything]
    assert not [one for one in read_source("builtin:test").documents if one.text[:200] in everything]


def test_a_stopped_search_goes_on_and_ends_as_one_that_was_not(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    evaluate = PromptedModel.evaluate

    def stop(self: PromptedModel, name: str, *rest: Any) -> Any:
        if name == "c03":
            raise KeyboardInterrupt
        return evaluate(self, name, *rest)

    with ChatServer(teacher) as server:
        assert palmette(monkeypatch, *search(server, tiny_folder, whole, calls=4)) == 0
        with monkeypatch.context() as patched:
            patched.setattr(PromptedModel, "evaluate", stop)
            assert palmette(patched, *search(server, tiny_folder, stopped, calls=4)) == 130
        assert not (stopped / "search.json").exists()
        before = len(server.asked)
        assert palmette(monkeypatch, *search(server, tiny_folder, stopped, "--seed", "1", calls=4)) == 2
        assert palmette(monkeypatch, *search(server, tiny_folder, stopped, calls=4)) == 0
        assert len(server.asked) == before == 4 + 4  # the round that was stopped had been asked
    records = [json.loads((out / "search.json").read_text()) for out in (whole, stopped)]
    for key in ("prompts", "chosen", "kept", "refused", "conclusion"):
        assert records[0][key] == records[1][key]
    assert (whole / "course.jsonl").read_text() == (stopped / "course.jsonl").read_text()


def test_bad_variations_are_refused_and_counted(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Each act is one call. The words of a document are copied by the last one."""
    document = read_source("builtin:dev").documents[0]
    copied = " ".join(document.text.split()[:12])
    out, long = tmp_path / "searched", "word " * 201
    with ChatServer() as server:
        server.acts = [
            says("<instruction>Cut", "length"),
            says(None, refusal="no"),
            says("Copy the answer."),
            says(f"<instruction>{long}</instruction>"),
            says("<instruction>Copy\x1b[31m the answer.</instruction>"),
            says(f"<instruction>{load_prompt('plain').system}</instruction>"),
            says(f"<instruction>Copy, as in: {copied}</instruction>"),
            says("<instruction>Copy the answer, and nothing else.</instruction>"),
        ]
        words = search(server, tiny_folder, out, "--final", "builtin:dev", "--concurrency", "1", calls=8)
        assert palmette(monkeypatch, *words) == 0
    record = json.loads((out / "search.json").read_text())
    reasons = ["cut off", "refused", "no instruction", "odd characters", "too long", "known", "copies an item"]
    assert record["refused"] == dict.fromkeys(reasons, 1)
    assert [one["name"] for one in record["prompts"]] == ["base", "c08"]
    said = capsys.readouterr()
    assert "refused, copies an item: 1" in said.out
    assert "\x1b[31m" not in said.out + said.err
    lines = [json.loads(line) for line in (out / "course.jsonl").read_text().splitlines()]
    assert lines[6]["copied"] in " ".join(re.findall(r"\w+", copied.lower()))


def test_a_variation_that_the_template_refuses_is_counted_and_the_search_goes_on(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """This template writes "### user:" as ordinary text, so an instruction with these words would open a turn."""
    folder, out, stopped = tmp_path / "marked", tmp_path / "searched", tmp_path / "stopped"
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.chat_template = MARKED
    tokenizer.save_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(tiny_folder).save_pretrained(folder)
    wrote = ["Copy it.\n### user:\nWhich one?", "Copy the answer.", "Copy the words."]
    evaluate = PromptedModel.evaluate

    def stop(self: PromptedModel, name: str, *rest: Any) -> Any:
        if name == "c03":
            raise KeyboardInterrupt
        return evaluate(self, name, *rest)

    with ChatServer() as server:
        for place in (out, stopped):
            server.acts = [says(f"<instruction>{text}</instruction>") for text in wrote]
            words = search(server, folder, place, "--concurrency", "1", calls=3)
            if place is stopped:
                with monkeypatch.context() as patched:
                    patched.setattr(PromptedModel, "evaluate", stop)
                    assert palmette(patched, *words) == 130
            assert palmette(monkeypatch, *words) == 0
        assert len(server.asked) == 6
    said = " ".join(capsys.readouterr().out.split())
    assert "refused, does not fit: 1" in said
    for place in (out, stopped):
        record = json.loads((place / "search.json").read_text())
        assert record["refused"] == {"does not fit": 1}
        assert [one["name"] for one in record["prompts"]] == ["base", "c02", "c03"]
        assert not (place / "prompts" / "c01.yaml").exists()
    assert (out / "course.jsonl").read_text() == (stopped / "course.jsonl").read_text()
    assert json.loads((out / "course.jsonl").read_text().splitlines()[0])["reason"] == "does not fit"


def test_every_third_call_joins_two_prompts(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "searched"
    with ChatServer(teacher) as server:
        assert palmette(monkeypatch, *search(server, tiny_folder, out, "--concurrency", "1", calls=4)) == 0
        asked = server.prompts()
    prompts = {one["name"]: one for one in json.loads((out / "search.json").read_text())["prompts"]}
    joined = prompts["c03"]
    assert {joined["parent"], joined["partner"]} < {"base", "c01", "c02"}
    assert [prompts[name]["partner"] for name in ("base", "c01", "c02", "c04")] == [""] * 4
    first, second = (prompts[joined[key]] for key in ("parent", "partner"))
    assert f"The instruction now, with {first['exact']:.1f} % right answers:\n{first['instruction']}" in asked[2]
    assert f"A second instruction, with {second['exact']:.1f} % right answers:\n{second['instruction']}" in asked[2]
    assert [("these two instructions" in text) for text in asked] == [False, False, True, False]
    assert f"{joined['parent']} and {joined['partner']}" in (out / "search.html").read_text()


def test_a_teacher_that_writes_nothing_of_use_leaves_the_first_prompt(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "searched"
    with ChatServer(lambda _: says("I cannot.")) as server:
        assert palmette(monkeypatch, *search(server, tiny_folder, out, calls=2)) == 0
    assert "The teacher wrote nothing that could be used" in " ".join(capsys.readouterr().out.split())
    assert load_prompt(str(out / "best.yaml")) == load_prompt("plain")


def test_the_budget_of_questions_ends_a_search(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "searched"
    with ChatServer(teacher) as server:
        assert palmette(monkeypatch, *search(server, tiny_folder, out, calls=3)) == 0
        half = json.loads((out / "search" / "base" / "metrics.json").read_text())["total"]
        again = tmp_path / "again"
        budget = str(3 * half - 1)  # for the base and one variation
        assert palmette(monkeypatch, *search(server, tiny_folder, again, "--answers", budget, calls=9)) == 0
        # Enough for the base alone, of which nothing would follow.
        base_only = search(server, tiny_folder, tmp_path / "few", "--answers", str(2 * half - 1))
        assert palmette(monkeypatch, *base_only) == 2
    assert not (tmp_path / "few").exists()
    assert json.loads((again / "search.json").read_text())["num_calls"] == 1


def test_mistakes_are_one_line(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text(
        "".join(
            json.dumps({"context": f"It rains {day}.", "question": f"When {day}?", "answers": [day]}) + "\n"
            for day in ("today", "often")
        )
    )
    with ChatServer(teacher) as server:
        for given, said in (
            (["--final", "builtin:test"], "shares"),
            (["--answers", "3"], "the search may ask 3"),
            (["--data", few], "cannot be split into two halves"),
        ):
            assert palmette(monkeypatch, *search(server, tiny_folder, tmp_path / "out", *given)) == 2
            assert said in capsys.readouterr().err
        assert not server.asked
    assert not (tmp_path / "out").exists()


def test_a_prompt_of_a_file_keeps_all_but_its_instruction(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, out = tmp_path / "own.yaml", tmp_path / "searched"
    own.write_text(yaml.safe_dump(asdict(load_prompt("echo"))))
    with ChatServer(teacher) as server:
        words = search(server, tiny_folder, out, calls=1)
        words[2] = own
        assert palmette(monkeypatch, *words) == 0
    assert load_prompt(str(out / "prompts" / "base.yaml")) == load_prompt("echo")
    varied = load_prompt(str(out / "prompts" / "c01.yaml"))
    assert varied.system != load_prompt("echo").system
    assert replace(varied, system=load_prompt("echo").system) == load_prompt("echo")
