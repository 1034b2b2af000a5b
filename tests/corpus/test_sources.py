"""Sources of texts: every kind of file gives the texts that were written into it, one after the other."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from palmette.corpus.sources import open_source
from palmette.corpus.texts import Text
from palmette.data.general import hashes, passages
from palmette.data.source import read_source
from palmette.errors import DataError
from tests.support.command import palmette
from tests.support.data import arrow_file

TEXTS = ["The kiln was fired at nine.", "Zwölf Öfen\nund ein Turm.", "Pier 3 🐦"]
ROWS = [{"text": text, "n": number} for number, text in enumerate(TEXTS)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)

# The first block of the stream is said to be of the one kind that there is none of (RFC 1951, section 3.2.3).
DAMAGED = (whole := gzip.compress(LINES.encode()))[:10] + b"\x07" + whole[11:]


def read(name: str | Path, **options: Any) -> list[str]:
    return [one.text for one in open_source(str(name), **options).open() if isinstance(one, Text)]


def write(path: Path) -> Path:
    table = pa.Table.from_pylist(ROWS)
    if path.suffixes[-1] == ".parquet":
        pa.parquet.write_table(table, path)
    elif path.suffix == ".arrow":
        arrow_file(path, ROWS)
    elif path.suffix == ".gz":
        text = json.dumps(ROWS) if path.suffixes[-2] == ".json" else LINES
        path.write_bytes(gzip.compress(text[:40].encode()) + gzip.compress(text[40:].encode()))
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS, indent=1))
    elif path.suffix == ".zst":
        codec = pa.Codec("zstd")
        frames = (codec.compress(part.encode(), asbytes=True) for part in (LINES[:40], LINES[40:]))
        path.write_bytes(b"".join(frames))
    elif path.suffix == ".csv":
        path.write_text("n,text\n" + "".join(f'{row["n"]},"{row["text"]}"\n' for row in ROWS))
    else:
        path.write_text(LINES)
    return path


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.json.gz", "a.parquet", "a.arrow", "a.csv"]
)
def test_rows_are_read_from_every_kind_of_file(name: str, tmp_path: Path) -> None:
    """Compressed files in two members or frames, as programs that append write them."""
    path = write(tmp_path / name)
    assert read(path) == TEXTS
    assert read(path) == TEXTS
    assert read(path, limit=2) == TEXTS[:2]


def test_an_arrow_file_is_read_like_an_arrow_stream(tmp_path: Path) -> None:
    arrow_file(tmp_path / "a.arrow", ROWS, stream=False)
    assert read(tmp_path / "a.arrow") == TEXTS


def test_lines_in_a_json_file_are_rows(tmp_path: Path) -> None:
    """As the files of C4 and many others have them."""
    (tmp_path / "c4.json").write_text(LINES)
    assert read(tmp_path / "c4.json") == TEXTS


def test_questions_are_not_learned_as_texts(tmp_path: Path) -> None:
    squad = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": "Pier 3", "qas": []}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    with pytest.raises(DataError, match=r"squad\.json holds questions about documents, and texts are needed here"):
        read(tmp_path / "squad.json")


def test_a_folder_holds_documents_and_rows_by_name(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.txt").write_bytes("Zwölf Öfen".encode("cp1252"))
    (tmp_path / "a.md").write_text("# Kiln\n")
    (tmp_path / "c.html").write_text("<html><body><p>Tower</p><script>x()</script></body></html>")
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"Pier\r\n3"))
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "picture.png").write_bytes(b"no")
    write(tmp_path / "e.jsonl")
    (tmp_path / "f.json").write_text('[{"text": "Oak"}]')
    (tmp_path / "link.txt").symlink_to(tmp_path / "missing.txt")
    found = list(open_source(str(tmp_path)).open())
    assert [one.text.strip() for one in found if isinstance(one, Text)] == [
        "# Kiln",
        "Tower",
        "Pier\n3",
        *TEXTS,
        "Oak",
        "Zwölf Öfen",
    ]
    assert isinstance(found[3], Text)
    assert found[3].name == f"{tmp_path / 'e.jsonl'}, row 1"
    assert found[3].source == str(tmp_path)


def test_the_identity_changes_with_the_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl")
    before = open_source(str(path)).describe()
    assert before == open_source(str(path)).describe()
    path.write_text(LINES.replace("nine", "ten"))
    assert open_source(str(path)).describe() != before


def test_another_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": "Pier 3"}\n')
    assert read(path, columns={"text": "content"}) == ["Pier 3"]
    with pytest.raises(DataError, match=r"row 1 has no 'text', but 'content'. .* data\.columns: \{text: NAME\}"):
        read(path)


def test_bad_rows_stop_or_are_given_as_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": 3}\n\n{"text": "Pier 3"}\nnonsense\n')
    with pytest.raises(DataError, match=r"row 1: 'text' is .*, not text"):
        read(path)
    found = list(open_source(str(path), drop_bad=True).open())
    assert [isinstance(one, DataError) for one in found] == [True, False, True]
    assert "line 4 is not JSON" in str(found[2])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.jsonl.gz", gzip.compress(LINES.encode() * 99)[:-20], "cannot read .*cut.jsonl.gz"),
        ("not.jsonl.zst", LINES.encode(), "cannot read .*not.jsonl.zst"),
        ("damaged.jsonl.gz", DAMAGED, "cannot read .*damaged.jsonl.gz: Error -3 .* Compress it again"),
        ("a.parquet.gz", b"x", "only text and JSON may be"),
        ("a.pdf.gz", b"x", "only text and JSON may be"),
        ("a.arrow", b"x", "no Arrow file that can be read"),
    ],
)
def test_files_that_cannot_be_read_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


def test_names_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file or folder 'missing\.txt'"):
        open_source("missing.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no text"):
        open_source(str(tmp_path / "empty"))


def test_the_built_in_corpus_gives_each_document_once() -> None:
    texts = read("builtin:dev")
    assert sorted(set(texts)) == sorted(texts)
    assert set(texts) == {document.text for document in read_source("builtin:dev").documents}


def test_the_texts_that_measure_forgetting_are_a_source() -> None:
    source = open_source("builtin:general")
    assert [one.text for one in source.open() if isinstance(one, Text)] == [one.text for one in passages()]
    assert source.identity == {"sha256": hashes()["passages.json"]}


def test_a_data_set_of_the_hub_is_read_as_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration and split are passed on, at a fixed commit, and no more rows are read than are needed."""
    asked: list[Any] = []
    given = 0

    def load(name: str, part: str | None, **options: Any) -> Any:
        asked.append((name, part, options))

        def rows() -> Any:
            nonlocal given
            for number in range(10**9):
                given += 1
                yield {"text": f"text {number}"}

        return rows()

    class Info:
        sha = "abc"

    monkeypatch.setattr("palmette.data.source._not_reached", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.dataset_info", lambda _: Info)
    monkeypatch.setattr("datasets.load_dataset", load)
    source = open_source("allenai/c4/en:validation", limit=3)
    assert [one.text for one in source.open() if isinstance(one, Text)] == ["text 0", "text 1", "text 2"]
    assert asked[-1] == ("allenai/c4", "en", {"split": "validation", "revision": "abc", "streaming": True})
    assert source.describe() == {"source": "allenai/c4/en:validation", "hub": "allenai/c4", "revision": "abc"}
    assert given < 10


def test_a_stream_that_breaks_off_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where bad records are dropped, since it is none."""

    def load(*_: Any, **__: Any) -> Iterator[Any]:
        yield {"text": "one"}
        yield {"text": "two"}
        raise ConnectionError("reset by peer")

    class Info:
        sha = "abc"

    monkeypatch.setattr("palmette.data.source._not_reached", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.dataset_info", lambda _: Info)
    monkeypatch.setattr("datasets.load_dataset", load)
    texts = open_source("some/data", drop_bad=True).open()
    assert [one.text for one in islice(texts, 2) if isinstance(one, Text)] == ["one", "two"]
    with pytest.raises(DataError, match=r"'some/data' broke off after row 2: reset by peer\. .* --resume"):
        next(texts)


def test_a_source_is_named_once_and_its_column_is_the_text(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.jsonl")
    for command in (("data", "corpus", path, path), ("eval", "texts", path, path)):
        assert palmette(monkeypatch, *command, "--model", tiny_folder) == 2
        assert "a.jsonl' is named twice" in "".join(capsys.readouterr().err.split("\n"))
    with pytest.raises(DataError, match=r"no reader has a column 'texts', .* Did you mean 'text'"):
        open_source(str(path), columns={"texts": "content"})


def test_the_report_of_a_corpus_counts_what_a_recipe_would_learn(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same figures in the terminal, in corpus.json and on the page, and no markup out of texts."""
    rows = [*ROWS, {"text": TEXTS[0].upper()}, {"text": "<b>x</b>"}, {"no": "text"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "report"
    command = ("data", "corpus", tmp_path / "a.jsonl", "--min-words", "2", "--out", out, "--model", tiny_folder)
    assert palmette(monkeypatch, *command) == 0
    shown, news = capsys.readouterr()
    assert f"Open {out / 'corpus.html'}." in news
    record = json.loads((out / "corpus.json").read_text())
    (source,) = record["sources"]
    assert (source["read"], source["kept"]) == (6, 3)
    assert {reason: one["texts"] for reason, one in source["dropped"].items()} == {
        "exact duplicate": 1,
        "too short": 1,
        "cannot be read": 1,
    }
    assert f"{source['tokens']:,}" in shown
    assert "exact duplicate" in shown
    html = (out / "corpus.html").read_text()
    assert "&lt;b&gt;x" in html
    assert "<b>x" not in html
