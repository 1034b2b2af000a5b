"""Data sets of the hub: asked for once, and a mistyped name gets the nearest file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.hub import first_contact
from tests.support.hub import closed_port, fake_hub, silent_port, use_hub


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No test sees what another one was told."""
    first_contact.cache_clear()
    yield
    first_contact.cache_clear()


def test_a_data_set_that_the_hub_lacks_is_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_hub() as hub:
        use_hub(monkeypatch, hub.server_port, tmp_path)
        with pytest.raises(DataError, match="there is no data set 'someone/squad': no file has this name, and the hub"):
            read_source("someone/squad:validation")
        assert hub.asked == ["/datasets/someone/squad/resolve/main/README.md"]


def test_a_hub_that_refuses_connections_is_named_without_retries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each retry of the library is a line in the log."""
    use_hub(monkeypatch, closed_port(), tmp_path)
    with pytest.raises(DataError, match="'someone/squad', split 'train': no file has this name, and the hub cannot be"):
        read_source("someone/squad")
    assert "Retry" not in caplog.text


def test_a_hub_that_never_answers_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_port() as port:
        use_hub(monkeypatch, port, tmp_path)
        monkeypatch.setattr("palmette.hub.SECONDS", 0.2)
        with pytest.raises(DataError, match="the hub cannot be reached"):
            read_source("someone/squad")


@pytest.mark.parametrize("name", ["data/sqaud.json", "data/squad.jsno"])
def test_a_mistyped_file_gets_the_nearest_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "squad.json").touch()
    with pytest.raises(DataError, match=r"Did you mean data/squad\.json\?"):
        read_source(name)
    with pytest.raises(DataError, match=r"there is no data file 'data/other\.json'\. Give builtin"):
        read_source("data/other.json")
