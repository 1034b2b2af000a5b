"""The page that follows data through the code: its functions exist, and data pass them in this order."""

from __future__ import annotations

import ast
import json
import re
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest
from starlette.testclient import TestClient

from palmette.arena.folder import read_arena
from palmette.arena.source import open_votes
from palmette.arena.store import VoteStore
from palmette.data.preference_sets import read_comparisons
from palmette.data.unanswered import read_to_judge
from palmette.review.store import Store
from palmette.web.arena.opening import open_arena
from palmette.web.review.opening import open_review
from tests.support.arena import make_arena
from tests.support.command import palmette
from tests.support.paths import ROOT, SOURCE
from tests.support.review_page import RUN, StubDecoder
from tests.support.scripts import script

PAGE = ROOT / "docs" / "explanation" / "one-datum.md"
TEXT = "The ferry leaves at 7:40 from pier 3."
ROWS: Mapping[str, list[dict[str, Any]]] = {
    "questions": [{"context": TEXT, "question": "When does it leave?", "answers": ["7:40"]}],
    "chats": [{"messages": [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At 7:40."}]}],
    "pairs": [{"prompt": "When?", "chosen": "At 7:40.", "rejected": "Never."}],
    "texts": [{"text": TEXT * 3}, {"text": TEXT[::-1] * 3}],
    "items": [{"id": "a", "context": "Snow is", "choices": ["black", "white"], "gold": 1}],
}
# The end of the recipe of a stage.
ENDS = {
    "sft": "train: [questions.jsonl]}",
    "chat": "train: [chats.jsonl], kind: chat}",
    "dpo": "train: [pairs.jsonl]}",
    "pretrain": "train: [texts.jsonl]}\npretrain: {tokens_per_step: 128, piece_tokens: 64}",
}
# The last function of a section that its test runs. What comes behind it is trained and measured, and has tests of its
# own.
LAST = {"A verdict, from the page back into training": "review/store.py:Store.append"}


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return script("docs/one_datum.py")


def sections() -> dict[str, list[str]]:
    """The functions of each section of the page."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        title: re.findall(r"^\| `([\w/]+\.py:[\w.]+)` \|", text, flags=re.MULTILINE)
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


SECTIONS = sections()


def functions(path: Path) -> Iterator[str]:
    """The names of all functions of a file, with those of the classes and functions around them."""

    def inside(node: ast.AST, outer: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield f"{outer}{child.name}"
                yield from inside(child, f"{outer}{child.name}.")

    yield from inside(ast.parse(path.read_text(encoding="utf-8")), "")


def test_every_function_on_the_page_exists() -> None:
    named = re.findall(r"`([\w/]+\.py):([\w.]+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 100
    for file, name in named:
        assert name in set(functions(SOURCE / file)), f"{file}:{name}"


def test_the_example_is_current(example: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == example.with_example(page), "run `make docs`"


def test_the_example_adds_up(example: ModuleType) -> None:
    """By hand from its table: the first question's completion ends at its last row, the second's follows a question
    of six tokens, and a row's tokens see themselves and all above them on their branch.
    """
    shown = example.example()
    parts = re.findall(r"^(\w+) +\w+ +(\d+)(?:-(\d+))? +(\d+)\S* +yes +([01]) ", shown, flags=re.MULTILINE)
    sizes = {name: 0 for name, *_ in parts}
    learned = 0
    for name, first, last, _, learn in parts:
        size = int(last or first) - int(first) + 1
        sizes[name] += size
        learned += size * int(learn)
    trunk, when, who = sizes["trunk"], sizes["when"], sizes["who"]
    assert f"learned         {learned} tokens" in shown
    assert f"tokens          {trunk + when + who}," in shown
    padded = int(re.search(r"token_BT +\(1, (\d+)\)", shown)[1])  # type: ignore[index]
    seen = sum(range(trunk + 1)) + sum(trunk * size + sum(range(size + 1)) for size in (when, who))
    assert f"{seen + padded - trunk - when - who:,} of {padded**2:,} are True" in shown
    assert next(position for name, _, _, position, _ in parts if name == "who") == str(trunk)


@contextmanager
def followed(named: Collection[str]) -> Iterator[list[str]]:
    """Within the block, the calls of these functions in their order, in any thread."""
    calls: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(SOURCE)):
            name = code.co_qualname.replace(".<locals>", "")
            found = f"{Path(code.co_filename).relative_to(SOURCE).as_posix()}:{name}"
            if found in named:
                calls.append(found)

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


Run = Callable[..., None]


def train(stage: str) -> Run:
    """Trains the tiny model from the recipe of a stage."""

    def run(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
        name = "sft" if stage == "chat" else stage
        Path("recipe.yaml").write_text(
            f"stage: {name}\noutput: run\nmodel: {{name: {model}, dtype: float32}}\n"
            f"train: {{epochs: 1, row_tokens: 1024, tokens_per_batch: 2048}}\ndata: {{{ENDS[stage]}"
        )
        assert palmette(monkeypatch, "train", name, "recipe.yaml") == 0

    return run


def ask(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    assert palmette(monkeypatch, "ask", "document.txt", "When does it leave?", "--model", model) == 0


def choose(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    words = ["eval", "choice", "choices", "--data", "items.jsonl", "--out", "choices", "--model", str(model)]
    assert palmette(monkeypatch, *words) == 0


def extract(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    Path("schema.yaml").write_text("fields:\n  time: When does it leave?\n")
    assert palmette(monkeypatch, "extract", "schema.yaml", "document.txt", "--out", "t.csv", "--model", model) == 0


def review(_: pytest.MonkeyPatch, __: Path) -> None:
    documents = read_to_judge("questions.jsonl").documents
    who: dict[str, Any] = {"data": "questions.jsonl", "annotators": ["ann"], "names": ["127.0.0.1"], "port": 80}
    with Store.open("review.db") as store:
        opened = open_review(store, documents, StubDecoder(), RUN, **who)
        assert opened.answers.wait()
        client = TestClient(opened.app, base_url="http://127.0.0.1")
        client.post("/api/session", json={"token": opened.sessions.tokens["ann"]})
        asked = client.get("/api/review/desk").json()["asked"]["key"]
        sent = {"asked": asked, "kind": "no_answer", "span": None, "seconds": 1.5}
        assert client.post("/api/review/verdicts", json=sent).status_code == 200


def vote(monkeypatch: pytest.MonkeyPatch, _: Path) -> None:
    folder = make_arena(Path("arena"), models=("elm", "fir"), num_prompts=6)
    with VoteStore.open(folder / "votes.db") as store:
        opened = open_arena(store, read_arena(folder), voters=["ann"], names=["127.0.0.1"], port=80)
        client = TestClient(opened.app, base_url="http://127.0.0.1")
        client.post("/api/session", json={"token": opened.sessions.tokens["ann"]})
        for said in ("left", "right", "left", "tie", "right"):
            asked = client.get("/api/arena/desk").json()["asked"]["key"]
            sent = {"asked": asked, "said": said, "seconds": 2.0}
            assert client.post("/api/arena/votes", json=sent).status_code == 200
    assert palmette(monkeypatch, "arena", "rank", folder, "--out", "ranking") == 0
    read_comparisons(str(folder), opened=open_votes(str(folder)))


RUNS: dict[str, Run] = {
    "A question, on its way to the loss": train("sft"),
    "A question, on its way to an answer": ask,
    "A conversation": train("chat"),
    "A preference pair": train("dpo"),
    "A text for pre-training": train("pretrain"),
    "An item of a multiple-choice benchmark": choose,
    "A field of a contract": extract,
    "A verdict, from the page back into training": review,
    "A vote in an arena": vote,
}


def test_every_section_is_run() -> None:
    assert list(RUNS) == list(SECTIONS)


@pytest.mark.parametrize("title", RUNS)
def test_a_datum_passes_these_functions_in_this_order(
    title: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    Path("document.txt").write_text(TEXT)
    for name, rows in ROWS.items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = SECTIONS[title]
    if title in LAST:
        named = named[: named.index(LAST[title]) + 1]
    with followed(set(named)) as passed:
        RUNS[title](monkeypatch, tiny_folder)
    at = 0
    for name in named:
        assert name in passed[at:], f"{name} is not called after those above it"
        at = passed.index(name, at) + 1
