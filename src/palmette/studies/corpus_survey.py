"""What texts hold, and what cleaning would drop of them, as a report and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.config.corpus import CleanSection
from palmette.config.recipes import read_section
from palmette.corpus.sources import open_source
from palmette.corpus.steps import step_maker
from palmette.corpus.survey import SourceSurvey, survey
from palmette.inference.base import source_tokenizer
from palmette.inference.names import resolve_model
from palmette.pages.corpus import write_corpus_page
from palmette.run import whole_folder, write_json
from palmette.tree.segments import TextEncoder

PAGE, RECORD = "corpus.html", "corpus.json"


@dataclass(frozen=True)
class CorpusSurvey:
    """What was counted.

    Attributes:
        sources: the counts of each source.
        clean: the settings of cleaning that were given.
        tokenizer: the model whose tokenizer counted.
    """

    sources: Sequence[SourceSurvey]
    clean: dict[str, Any]
    tokenizer: str

    def as_record(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        return {
            "sources": [one.as_record() for one in self.sources],
            "clean": self.clean,
            "tokenizer": self.tokenizer,
        }

    def write(self, out: Path) -> None:
        """Write the page and the record into a new folder."""
        with whole_folder(out) as staging:
            write_corpus_page(staging / PAGE, self.sources, self.clean, self.tokenizer)
            write_json(staging / RECORD, self.as_record())


def survey_texts(
    names: Sequence[str], clean: Mapping[str, Any], model: str, *, column: str = "text", limit: int | None = None
) -> CorpusSurvey:
    """Count texts, and what cleaning drops of them.

    Args:
        names: files, folders, "builtin:train" or data sets of the hub.
        clean: how they are cleaned, by the names of the recipe's keys.
        model: the model whose tokenizer counts tokens.
        column: the column of a row that holds its text.
        limit: read only the first so many texts of each source.

    Raises:
        RecipeError: there is no such setting, or no such value.
        DataError: there is no such source.
        ModelError: the model is missing, or its tokenizer cannot be loaded.
    """
    section = read_section(CleanSection, dict(clean), "palmette data corpus")
    opened = [open_source(name, columns={"text": column}, limit=limit, drop_bad=True) for name in names]
    encoder = TextEncoder(source_tokenizer(resolve_model(model)))
    found = survey(opened, step_maker(section), lambda text: (len(encoder.content(text.text)) + 1, 0))
    return CorpusSurvey(found, {key: value for key, value in clean.items() if value}, model)
