"""Files sent as documents: made by other programs, read with their limits, answered with line and page."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docx
import pytest
from reportlab.pdfgen.canvas import Canvas

from palmette.serving import uploads
from palmette.serving.documents import Documents, Kept
from tests.support.serving import Serving, wait_until
from tests.support.span_decoding import TEXT

PDF, HTML, OCTETS = "application/pdf", "text/html", "application/octet-stream"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def pdf() -> bytes:
    """Two pages, the text on the second, in two lines."""
    stream = io.BytesIO()
    canvas = Canvas(stream)
    canvas.rect(72, 600, 100, 100)
    canvas.showPage()
    for row, line in enumerate((TEXT[:32], TEXT[33:])):
        canvas.drawString(72, 650 - 14 * row, line)
    canvas.save()
    return stream.getvalue()


def word() -> bytes:
    document, stream = docx.Document(), io.BytesIO()
    document.add_paragraph(TEXT)
    document.save(stream)
    return stream.getvalue()


def send(served: Serving, content: bytes, kind: str, name: str = "") -> Any:
    params = {"name": name} if name else {}
    return served.client.post("/v1/documents", content=content, headers={"Content-Type": kind}, params=params)


def ask(served: Serving, id_: str) -> Any:
    body = {"document_id": id_, "questions": ["Where from?"]}
    return served.client.post("/v1/answers", json=body).json()["answers"][0]


def test_a_pdf_is_answered_with_page_line_and_box(served: Serving) -> None:
    kept = send(served, pdf(), PDF).json()
    assert (kept["kind"], kept["object"], kept["characters"]) == ("pdf", "document", len(TEXT))
    assert len(kept["notes"]) == 1
    schema = {"fields": {"pier": "Where from?"}}
    (value,) = served.client.post("/v1/extract", json={"document_id": kept["id"], "schema": schema}).json()["fields"][
        "pier"
    ]["values"]
    assert (value["text"], value["page"], value["line"]) == ("pier 3", 2, 2)
    found = ask(served, kept["id"])
    assert (found["answer"], found["place"]["page"], found["place"]["line"]) == ("pier 3", 2, 2)
    ((left, bottom, right, top),) = (box["box"] for box in found["place"]["boxes"])
    assert 72 < left < right < 523
    assert 620 < bottom < 650 < top + 20


@pytest.mark.parametrize(
    ("content", "kind", "name", "read_as"),
    [
        (word(), DOCX, "", "docx"),
        (word(), OCTETS, "contract.docx", "docx"),
        (f"<html><body><h1>Ferries</h1><p>{TEXT}</p></body></html>".encode(), f"{HTML}; charset=utf-8", "", "html"),
        (TEXT.encode(), "text/markdown", "", "markdown"),
        (TEXT.encode(), OCTETS, "notes.txt", "text"),
        (pdf(), OCTETS, "", "pdf"),
        (f"place\n{TEXT}\n".encode(), "text/csv", "table", "csv"),
        (f"place\n{TEXT}\n".encode(), "text/csv", "table.v2", "csv"),
        (f"place\n{TEXT}\n".encode(), OCTETS, "table.CSV", "csv"),
    ],
)
def test_other_files_are_recognised_by_content(
    served: Serving, content: bytes, kind: str, name: str, read_as: str
) -> None:
    kept = send(served, content, kind, name).json()
    assert kept["kind"] == read_as
    found = ask(served, kept["id"])
    assert found["answer"] == "pier 3"
    assert found["place"]["line"] >= 1


def test_the_same_text_is_one_document_and_keeps_its_places(served: Serving) -> None:
    kept = send(served, word(), DOCX).json()
    assert served.client.post("/v1/documents", json={"text": TEXT}).json() == kept
    assert ask(served, kept["id"])["place"] == {"line": 1}
    assert "place" not in served.answers(TEXT, "Where from?")[0]


@pytest.mark.parametrize(
    ("content", "kind", "name", "status", "said"),
    [
        (b"%PDF-1.7 broken", PDF, "a.pdf", 400, "a.pdf"),
        (b"", PDF, "", 400, "document.pdf"),
        (b"\x7fELF", OCTETS, "../../etc/passwd", 400, "'passwd' is a program"),
        (b"GIF89a..", OCTETS, "a\nb", 400, "picture"),
        (TEXT.encode(), "text/plain", "", 415, "Or send a file"),
        (TEXT.encode(), "multipart/form-data; boundary=x", "", 415, "Or send a file"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_words(
    served: Serving, content: bytes, kind: str, name: str, status: int, said: str
) -> None:
    refused = send(served, content, kind, name)
    assert refused.status_code == status
    assert said in refused.json()["error"]["message"]


def test_a_file_is_taken_where_documents_are_and_nowhere_else(served: Serving) -> None:
    refused = served.client.post("/v1/answers", content=pdf(), headers={"Content-Type": PDF})
    assert refused.status_code == 415
    across = served.client.post(
        "/v1/documents", content=pdf(), headers={"Content-Type": PDF, "Origin": "https://evil.example"}
    )
    assert across.status_code == 403


def test_few_files_are_read_at_a_time_and_a_bounded_number_waits(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, plain, at_once = threading.Event(), uploads.read_content, list[int]()
    lock, reading = threading.Lock(), 0

    def slow(raw: bytes, name: str) -> Any:
        nonlocal reading
        with lock:
            reading += 1
            at_once.append(reading)
        assert hold.wait(60)
        with lock:
            reading -= 1
        return plain(raw, name)

    monkeypatch.setattr(uploads, "read_content", slow)
    number = uploads.MAX_READ + uploads.MAX_WAITING
    taken = list[int]()
    original = uploads.Uploads.read

    async def counted(self: Any, request: Any) -> Any:
        taken.append(1)
        return await original(self, request)

    monkeypatch.setattr(uploads.Uploads, "read", counted)
    with ThreadPoolExecutor(number) as pool:
        sent = [pool.submit(send, served, f"Document {i}.".encode(), OCTETS) for i in range(number)]
        wait_until(lambda: len(taken) == number and len(at_once) == uploads.MAX_READ)
        refused = send(served, b"One more.", OCTETS)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert served.answers(TEXT, "Where from?")[0]["answer"] == "pier 3", "answers wait for files"
        hold.set()
        assert {one.result().status_code for one in sent} == {200}
    assert max(at_once) == uploads.MAX_READ


def test_documents_that_were_not_used_for_longest_go_first() -> None:
    """Each of these texts takes 1 byte a character beside the 49 of a Python string: two fit, and three do not."""
    documents = Documents(max_bytes=2200)
    first, second, third = (documents.add(Kept.text(letter * 1000)).document.id for letter in "abc"[:2] + "a")
    assert first == third
    fourth = documents.add(Kept.text("d" * 1000)).document.id
    assert [documents.find(id_) is not None for id_ in (first, second, fourth)] == [True, False, True]
