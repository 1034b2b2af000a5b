"""Files that clients send: read as text by the readers of `documents`, with their limits, beside the event loop."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import PurePosixPath

from starlette.requests import Request

from palmette.data.inputs import DOCUMENT_SUFFIXES
from palmette.documents import Extracted
from palmette.documents.reading import read_content
from palmette.serving.errors import ApiError
from palmette.serving.waiting import FULL_SECONDS

_OFFICE = "application/vnd.openxmlformats-officedocument"
# The types of bodies that are files, and the suffix that stands for each. Browsers send none of them across sites
# without asking first, as they do with text/plain and multipart/form-data.
FILE_TYPES = {
    "application/pdf": ".pdf",
    f"{_OFFICE}.wordprocessingml.document": ".docx",
    f"{_OFFICE}.spreadsheetml.sheet": ".xlsx",
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "application/octet-stream": "",
}
MAX_READ, MAX_WAITING = 2, 8  # files that are read at a time, and that wait
_LONGEST_NAME = 200


def content_type(request: Request) -> str:
    """The type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class Uploads:
    """Reads files, a few at a time. Used by one event loop."""

    def __init__(self) -> None:
        self._reading = asyncio.Semaphore(MAX_READ)
        self._num_taken = 0

    async def read(self, request: Request) -> Extracted:
        """The document in the body of a request. Its kind is recognised by content.

        Raises:
            ApiError: too many files are being read.
            DataError: as `read_content`.
        """
        if self._num_taken >= MAX_READ + MAX_WAITING:
            problem, headers = "too many files are being read", {"Retry-After": FULL_SECONDS}
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE, problem, "Try again in a second.", code="queue_full", headers=headers
            )
        self._num_taken += 1
        try:
            raw = await request.body()
            async with self._reading:
                return await asyncio.to_thread(read_content, raw, _name(request))
        finally:
            self._num_taken -= 1


def _name(request: Request) -> str:
    """What messages call a file. It ends as its type does, unless it already ends as documents do."""
    given = PurePosixPath(request.query_params.get("name", "").replace("\\", "/")).name[-_LONGEST_NAME:]
    if not given or not given.isprintable():
        given = "document"
    return (
        given if PurePosixPath(given).suffix.lower() in DOCUMENT_SUFFIXES else given + FILE_TYPES[content_type(request)]
    )
