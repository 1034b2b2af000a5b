"""Where the server listens and how it is found, and `palmette review` from its options to its last line."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from palmette.cli import packages
from palmette.cli.judge import review
from palmette.errors import DataError, RunError
from palmette.review.store import Store
from palmette.web.serving import check_people, known_names, link, listen
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.web_command import enter, starting


@pytest.mark.parametrize("names", [[""], [" "], ["a\nb"], ["a" * 65], ["ann", "ann"]])
def test_bad_names_of_annotators_are_refused(names: list[str]) -> None:
    with pytest.raises(DataError):
        check_people(names, "127.0.0.1", "annotator")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "desk.example"])
def test_other_machines_come_in_only_by_name(host: str) -> None:
    with pytest.raises(DataError, match="no annotator is named"):
        check_people([], host, "annotator")
    check_people(["Анна", "李雷"], host, "annotator")
    check_people([], "127.0.0.1", "annotator")


def test_a_server_knows_its_names() -> None:
    assert known_names("127.0.0.1")[0] == "127.0.0.1"
    assert set(known_names("localhost")) == {"127.0.0.1", "::1", "localhost"}
    assert known_names("desk.example") == ["desk.example"]  # and no other
    everywhere = known_names("0.0.0.0")
    assert "0.0.0.0" not in everywhere
    assert {"127.0.0.1", "localhost", socket.gethostname().lower()} <= set(everywhere)


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=rf"port {port} is taken\. Give another --port"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(RunError, match="Give --host an address of this machine"):
        listen(host, 0)


def test_a_link_holds_its_token_behind_the_hash() -> None:
    """What stands behind it is sent to nobody (RFC 3986, 3.5)."""
    assert link("10.0.0.2", 80, "t") == "http://10.0.0.2:80/#token=t"


class Refused:
    """The command, and what it says when it refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str | Path) -> str:
        assert palmette(self._monkeypatch, "review", *words) == 2
        said = self._capsys.readouterr()
        assert said.out == ""
        line = said.err.splitlines()[-1]
        assert line.startswith("error: ")
        return line


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refused:
    monkeypatch.chdir(tmp_path)
    return Refused(monkeypatch, capsys)


def test_bad_input_is_one_line_with_the_way_out(refused: Refused, tiny_folder: Path, tmp_path: Path) -> None:
    data = squad_file(tmp_path / "data.json")
    good: list[str | Path] = ["--model", tiny_folder, "--data", data]
    assert "Give --data FILE, or try it out:" in refused()
    assert "Leave out one of them" in refused("--demo", "--data", data)
    empty = tmp_path / "empty.json"
    empty.write_text('{"version": "v2.0", "data": []}')
    assert "empty.json" in refused("--model", tiny_folder, "--data", empty)
    assert "gone" in refused("--model", tmp_path / "runs" / "gone", "--data", data)
    assert "no annotator is named" in refused(*good, "--host", "0.0.0.0")
    assert "compares runs, and there is one" in refused(*good, "--strategy", "disagreement")
    assert "compares runs, and this is random" in refused(*good, "--also", "reader")
    assert "Name each run once" in refused(*good, "--strategy", "disagreement", "--also", tiny_folder)
    assert "gone" in refused(*good, "--strategy", "disagreement", "--also", tmp_path / "runs" / "gone")
    assert "mkdir -p" in refused(*good, "--port", "0", "--store", tmp_path / "no" / "review.db")
    text = tmp_path / "text.db"
    text.write_text("not a database, and long enough to be read as the header of one" * 10)
    assert "is not a store of verdicts or votes" in refused(*good, "--port", "0", "--store", text)
    with listen("127.0.0.1", 0) as taken:
        assert "is taken" in refused(*good, "--port", str(taken.getsockname()[1]))


def test_a_store_of_a_newer_version_is_refused(refused: Refused, tiny_folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "review.db"
    Store.open(store).close()
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE review_version SET version_num = '9999'")
    connection.close()
    data = squad_file(tmp_path / "data.json")
    assert "newer" in refused("--model", tiny_folder, "--data", data, "--port", "0", "--store", store)


def test_without_the_extra_it_says_how_to_install_it(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"fastapi", "uvicorn"}
    real = packages.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in missing else real(name))
    line = refused("--demo")
    assert "not installed: fastapi, uvicorn." in line
    assert 'pip install "palmette[web]"' in line


def test_verdicts_are_kept_beside_the_run_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    assert review.default_store(str(tmp_path)) == tmp_path / "review.db"
    assert review.default_store(str(tmp_path), demo=True) == tmp_path / "review-demo.db"
    assert review.default_store("somebody/model") == Path("review.db")


def test_help_needs_no_web_packages() -> None:
    """They cannot be imported here, and the help of the group comes all the same."""
    code = (
        "import sys\n"
        "for name in ('fastapi', 'starlette', 'uvicorn', 'sqlalchemy', 'alembic'): sys.modules[name] = None\n"
        "from typer.testing import CliRunner; from palmette.cli.main import app\n"
        "done = CliRunner().invoke(app, ['review', '--help'])\n"
        "print(done.output); sys.exit(done.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--annotator" in done.stdout


@pytest.fixture
def served(tiny_folder: Path, tmp_path: Path) -> Iterator[Any]:
    """`palmette review` of a tiny model, in a process of its own."""
    data = squad_file(tmp_path / "data.json")
    review = ("review", "--model", str(tiny_folder), "--data", str(data), "--port", "0", "--store", "review.db")
    with starting(tmp_path) as start:
        yield lambda *words: start(*review, *words, people=max(1, words.count("--annotator")))


def next_question(client: httpx2.Client) -> Any:
    for _ in range(600):
        state = client.get("/api/review/desk").json()
        if not state["waiting"]:
            return state["asked"]
        time.sleep(0.1)
    raise AssertionError("the model has not answered in a minute")


def verdicts(store: Path) -> list[tuple[str, str]]:
    with Store.open(store) as opened:
        return [(one.annotator, one.verdict.kind) for one in opened.events() if one.verdict is not None]


def test_the_command_serves_a_model_and_ends_with_ctrl_c(served: Any, tmp_path: Path) -> None:
    process, links = served("--annotator", "ann", "--annotator", "bob", "--blind", "0")
    assert set(links) == {"ann", "bob"}
    with enter(links["ann"]) as ann, enter(links["bob"]) as bob:
        for client in (ann, bob):
            asked = next_question(client)
            body = {"asked": asked["key"], "kind": "no_answer", "span": None, "seconds": 1.0}
            assert client.post("/api/review/verdicts", json=body).status_code == 200
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Verdicts are kept in review.db" in told
    assert "Stopped. Verdicts are kept in review.db." in told
    assert verdicts(tmp_path / "review.db") == [("ann", "no_answer"), ("bob", "no_answer")]


def test_the_command_asks_where_two_runs_disagree(served: Any, sft_run: Path) -> None:
    _, links = served("--strategy", "disagreement", "--also", str(sft_run), "--blind", "0")
    with enter(next(iter(links.values()))) as client:
        assert next_question(client)["why"] == "disagreement"


def test_a_confirmed_verdict_outlives_a_killed_server(served: Any, tmp_path: Path) -> None:
    process, links = served("--annotator", "ann", "--blind", "0")
    with enter(links["ann"]) as client:
        asked = next_question(client)
        body = {"asked": asked["key"], "kind": "skip", "span": None, "seconds": 1.0}
        assert client.post("/api/review/verdicts", json=body).status_code == 200
        process.kill()  # SIGKILL, at once
        process.wait()
    process, links = served("--annotator", "ann", "--blind", "0")
    with enter(links["ann"]) as client:
        assert json.loads(client.get("/api/review/desk").text)["progress"]["judged"] == 1
        assert client.post("/api/review/verdicts", json=body).status_code == 200  # sent again, and stored once
    assert verdicts(tmp_path / "review.db") == [("ann", "skip")]
