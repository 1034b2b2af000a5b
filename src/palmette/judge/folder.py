"""The folder of a job with a judge: begun, continued with the same settings, and finished with its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palmette.errors import RunError, reason_of
from palmette.run import check_absent, check_same, write_json

_JOB = "job.json"


def begin(out: Path, settings: Mapping[str, Any], result: str) -> None:
    """Create the folder of a job, or check that it holds the same one, unfinished.

    Args:
        out: the folder.
        settings: what its answers depend on.
        result: the name of the file that a finished job has.

    Raises:
        RunError: the folder holds a finished job, another one, or something else, or cannot be created.
    """
    check_absent(out / result)
    job = out / _JOB
    try:
        if job.exists():
            check_same(json.loads(job.read_text(encoding="utf-8")), settings, where=out, way_out="Give another --out.")
            return
        if out.exists() and any(out.iterdir()):
            raise RunError(f"{out} holds something else", "Give another --out.")
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot use the folder {out}: {reason_of(error)}", "Give another --out.") from error
    write_json(job, dict(settings))


def finish(out: Path, result: str, record: Mapping[str, Any]) -> None:
    """Write the figures of a job, after which it is finished."""
    write_json(out / result, dict(record))
