"""The questions about three documents, and the texts that they are about.

`questions.jsonl` has the questions with the offsets of their answers, and none of the texts. Those are found by their
hashes in the folders that are given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from palmette.config.recipes import read_settings
from palmette.data.records import Answer, Document, Question
from palmette.documents import read_document
from palmette.errors import DataError
from palmette.files import expand

HERE = Path(__file__).parent


def find_documents(folders: Sequence[str]) -> dict[str, Path]:
    """The files of the documents, by name.

    Args:
        folders: files, and folders with files below.

    Raises:
        DataError: a document is in none of them.
    """
    about = read_settings((HERE / "documents.yaml").read_text(encoding="utf-8"), "documents.yaml")
    files = [path for folder in map(expand, folders) for path in [folder, *sorted(folder.rglob("*"))] if path.is_file()]
    by_hash = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files}
    for document in about.values():
        if document["sha256"] not in by_hash:
            raise DataError(
                f"none of {len(files)} files in {', '.join(folders)} is {document['name']} (SHA-256 of its bytes: "
                f"{document['sha256'][:12]}...)",
                "Give the folder that holds it with --texts.",
            )
    return {name: by_hash[document["sha256"]] for name, document in about.items()}


def read_questions(files: dict[str, Path]) -> tuple[Document, ...]:
    """The documents with the questions about them.

    Args:
        files: their files by name, as `find_documents` gives them.

    Raises:
        DataError: a document cannot be read.
    """
    lines = (HERE / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    documents = []
    for name, file in files.items():
        text = read_document(file).text
        questions = tuple(
            Question(f"{name}/{number}", row["question"], tuple(Answer(text[a:b], a) for a, b in row["answers"]))
            for number, row in enumerate(rows, start=1)
            if row["document"] == name
        )
        documents.append(Document(name, text, questions, name))
    return tuple(documents)
