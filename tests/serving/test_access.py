"""Who may ask: names of the server, pages of other sites, the size of bodies, and the file of keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from palmette.errors import DataError
from palmette.serving.application import MAX_BODY
from palmette.serving.keys import read_keys
from palmette.serving.names import allowed_hosts, model_names
from tests.support.serving import Serving

KEY = "sk-0123456789abcdef"


def test_another_name_of_this_machine_is_refused(served: Serving) -> None:
    """As after DNS rebinding: the page of another site that made its name point here."""
    refused = served.client.get("/v1/models", headers={"Host": "evil.example"})
    assert refused.status_code == 421
    assert set(refused.json()["error"]) == {"message", "type", "param", "code"}


def test_pages_of_other_sites_are_refused_and_get_no_cors_headers(served: Serving) -> None:
    body = {"document": "It rains.", "questions": ["What?"]}
    headers = {"Origin": "https://evil.example"}
    refused = served.client.post("/v1/answers", json=body, headers=headers)
    assert refused.status_code == 403
    asked = served.client.options("/v1/answers", headers={**headers, "Access-Control-Request-Method": "POST"})
    assert asked.status_code == 403
    read = served.client.get("/v1/models", headers=headers)
    for response in (refused, asked, read):
        assert not [name for name in response.headers if name.startswith("access-control")]
    plain = served.client.post("/v1/answers", content=b"{}", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415


def test_a_body_that_is_too_large_is_refused(served: Serving) -> None:
    refused = served.client.post(
        "/v1/documents", content=b" " * (MAX_BODY + 1), headers={"Content-Type": "application/json"}
    )
    assert refused.status_code == 413
    assert "Send a shorter document" in refused.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"text": NaN}', b"[" * 100_000])
def test_bodies_that_are_no_requests_are_refused(served: Serving, body: bytes) -> None:
    refused = served.client.post("/v1/documents", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"


def test_unknown_paths_and_methods_are_refused_in_the_same_shape(served: Serving) -> None:
    assert served.client.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
    refused = served.client.get("/v1/answers")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_a_file_holds_a_key_a_line(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n\n  another-key-of-this-server \n")
    assert read_keys(file, "0.0.0.0") == (KEY, "another-key-of-this-server")
    assert read_keys(None, "127.0.0.1") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no API key"),
        ("short", "key 1"),
        (f"{KEY}\nwith a blank in the middle", "key 2"),
        ("ключ" * 8, "key 1"),
    ],
)
def test_bad_keys_are_refused_before_anything_is_loaded(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_keys(file, "127.0.0.1")


def test_other_machines_need_a_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no API key"):
        read_keys(None, "0.0.0.0")
    with pytest.raises(DataError, match="there is no such file"):
        read_keys(tmp_path / "gone", "0.0.0.0")


def test_a_proxy_may_be_named() -> None:
    assert "llm.example" not in allowed_hosts("127.0.0.1", 8000)
    assert {"llm.example", "llm.example:8000", "127.0.0.1:8000"} <= allowed_hosts("127.0.0.1", 8000, ["LLM.example"])


@pytest.mark.parametrize("given", [["a", "b/a"], ["=a"], ["a b=c"], ["a="]])
def test_models_need_names_that_clients_can_send(given: list[str]) -> None:
    with pytest.raises(DataError, match="name"):
        model_names(given)


def test_a_path_with_an_equals_sign_is_a_path() -> None:
    assert model_names(["runs/rank=8/run"]) == {"run": "runs/rank=8/run"}
