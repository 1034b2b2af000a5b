"""What a reader keeps in memory, and what others see of it."""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

import pytest

from palmette.data.records import Document
from palmette.decode.long_document import LongDocument
from palmette.errors import PalmetteError
from palmette.serving.documents import document_of
from palmette.serving.reader import DocumentReader
from tests.support.serving import answerer_of


@pytest.fixture
def reader(fitted_model: Any, tokenizer: Any) -> DocumentReader:
    return DocumentReader(answerer_of(fitted_model, tokenizer), 10_000)


def num_open() -> int:
    gc.collect()
    return sum(isinstance(one, LongDocument) for one in gc.get_objects())


def test_a_document_of_which_nothing_was_read_is_not_kept(reader: DocumentReader) -> None:
    """Its tokens are 0, so no limit of tokens would ever remove it."""
    before = num_open()
    for number in range(3):
        with pytest.raises(PalmetteError, match="Shorten the question"):
            reader.answer(document_of(f"The ferry {number} leaves."), ["why " * 9000])
    assert num_open() == before
    reader.answer(document_of("The ferry leaves."), ["When?"])
    assert num_open() == before + 1


def test_the_number_of_kept_tokens_may_be_read_while_documents_are(reader: DocumentReader) -> None:
    """As the handler of /metrics does, in another thread than that of the model."""
    texts = [Document(f"d{number}", "Ferry.", ()) for number in range(150)]

    def answer() -> None:
        for one in texts:
            reader.answer(one, ["When?"])

    thread, seen, interval = threading.Thread(target=answer), set[int](), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        while thread.is_alive():
            seen.add(reader.num_kept_tokens)
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    assert len(seen) > 10
