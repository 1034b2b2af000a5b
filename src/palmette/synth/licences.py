"""Under which licences data stand that were made: that of what the writer writes, and those of the sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palmette.errors import DataError
from palmette.progress import Say

_BUILTIN, _BUILTIN_LICENCE = "builtin", "apache-2.0"


@dataclass(frozen=True, slots=True)
class Licences:
    """The licences that are known to the user.

    Attributes:
        writer: of what the writer writes.
        sources: LICENCE for all sources without their own, or SOURCE=LICENCE.
    """

    writer: str | None = None
    sources: Sequence[str] = ()

    def record(self, sources: Sequence[Mapping[str, Any]], stated: str | None) -> dict[str, Any]:
        """The licences for the report of a job with a writer. None where one is not known.

        Args:
            sources: what was read, each with its name under `source`.
            stated: the licence that the writer's own model states.

        Raises:
            DataError: a licence is given for a source that was not read.
        """
        return {"writer": self.writer or stated, **self.of_sources(sources)}

    def of_sources(self, sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The licences of the sources alone.

        Raises:
            DataError: a licence is given for a source that was not read, or two are given for one.

        >>> Licences(sources=["notes/=mit"]).of_sources([{"source": "notes/"}, {"source": "builtin:train"}])
        {'sources': {'notes/': 'mit', 'builtin:train': 'apache-2.0'}}
        """
        given: dict[str, str] = {}
        for source, _, licence in (text.rpartition("=") for text in self.sources):
            if given.setdefault(source, licence) != licence:
                of = repr(source) if source else "all sources"
                raise DataError(f"{given[source]} and {licence} are given as the licence of {of}", "Give one of them.")
        names = [str(one["source"]) for one in sources]
        strange = sorted(given.keys() - {"", *names})
        if strange:
            raise DataError(f"{strange[0]!r} is no source of this job", f"Its sources are {', '.join(names)}.")
        found = {
            name: given.get(name) or (_BUILTIN_LICENCE if name.partition(":")[0] == _BUILTIN else given.get(""))
            for name in names
        }
        return {"sources": found}


NO_LICENCES = Licences()


def say_unknown(licences: Mapping[str, Any], say: Say) -> None:
    """Name whatever has no licence in what `Licences` records."""
    unknown = [name for name, licence in licences["sources"].items() if licence is None]
    if unknown:
        say(f"The licence of {', '.join(unknown)} is not known. --source-licence puts it into the report.")
    if licences.get("writer", "") is None:
        say("The licence of what the writer writes is not known. --licence puts it into the report.")
