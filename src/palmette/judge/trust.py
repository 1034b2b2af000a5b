"""Whether a judge may rank models: it has been compared with people, or somebody insists."""

from __future__ import annotations

import json
import math
from pathlib import Path

from palmette.errors import DataError, reason_of

_HOW = "Validate it (palmette judge pairs, then palmette judge validate), or give --force."


def check_trusted(judge: str, validation: Path | None, *, force: bool) -> str:
    """Refuse a judge that is not known to agree with people.

    Args:
        judge: its signature, see `judging.signature`.
        validation: the file that `palmette judge validate` wrote about it.
        force: let any judge pass.

    Returns:
        A sentence on how far it is trusted.

    Raises:
        DataError: the file is missing, is about another judge, or says that kappa may be under the floor.
    """
    if validation is None:
        if not force:
            raise DataError(f"nobody has compared the judge {judge} with people", _HOW)
        return f"Nobody has compared the judge {judge} with people."
    try:
        record = json.loads(validation.read_text(encoding="utf-8"))
        about, trusted = record["judge"], record["trusted"]
        decided = record["figures"].get("kappa_decided", {})
        kappa = float(decided["value"]) if decided.get("interval") else math.nan
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot read the validation {validation}: {reason_of(error)}", _HOW) from error
    if about != judge:
        problem = f"{validation} is about {about or 'another judge'}, not about {judge}"
    elif not decided.get("interval"):
        problem = f"there is no interval of kappa without ties in {validation}, which is about {judge}"
    elif not trusted:
        problem = f"the judge {judge} hardly agrees with people: kappa without ties {kappa:.2f}"
    else:
        return f"Compared with people, the judge has a kappa of {kappa:.2f} without ties."
    if not force:
        raise DataError(problem, _HOW)
    return f"{problem[0].upper()}{problem[1:]}."
