"""Runs the reader of PDF files in a process of its own, with limits.

A file may be made to crash its reader, to take all memory, or to never end. Here that costs at most `MAX_MEMORY` and
`MAX_SECONDS`, and ends in an error that names the file. Where the system has no limits of memory (Windows), only the
limit of time holds.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from array import array

from palmette.documents.record import PageMap
from palmette.errors import DataError

MAX_MEMORY = 2 << 30  # bytes of address space
MAX_SECONDS = 600
_SPLIT = "Split it, for instance with qpdf --split-pages=100, and give a part of it."
_LIMITED = """\
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass
from palmette.documents.pdf import main
main()
"""


def read_contained(raw: bytes, name: str) -> tuple[str, PageMap, list[str]]:
    """What `read_pdf` gives, from a process of its own. The arguments are the same.

    Raises:
        DataError: as `read_pdf` does, or a limit was passed, or the reader crashed.
    """
    command = [sys.executable, "-c", _LIMITED.format(memory=MAX_MEMORY), name]
    try:
        done = subprocess.run(command, input=raw, capture_output=True, timeout=MAX_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"the document {name!r} takes longer than {MAX_SECONDS} s to read", _SPLIT) from error
    except OSError as error:
        raise DataError(f"cannot start the reader of PDF files: {error.strerror}", "Give the text of it.") from error
    head, _, rest = done.stdout.partition(b"\n")
    said = None
    with contextlib.suppress(ValueError):
        said = json.loads(head)
    if done.returncode or not isinstance(said, dict):
        raise _crashed(done, name)
    if "problem" in said:
        raise DataError(said["problem"], said["way_out"])
    boxes = array("f")
    boxes.frombytes(rest)
    return said["text"], PageMap(said["starts"], said["pages"], said["lines"], boxes), said["notes"]


def _crashed(done: subprocess.CompletedProcess[bytes], name: str) -> DataError:
    """Why there is no result. PDFium ends by a signal where it gets no memory."""
    last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    if done.returncode < 0 or "memory" in last.lower():
        return DataError(
            f"the document {name!r} cannot be read in {MAX_MEMORY >> 20:,} MiB of memory, or it crashes its reader",
            "The file is damaged, or made to do harm. Print it to a new PDF, and give that.",
        )
    why = last or f"exit code {done.returncode}"
    return DataError(f"the reader of PDF files failed on the document {name!r}: {why}", "Print it to a new PDF first.")
