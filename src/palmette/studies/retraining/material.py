"""What a retraining learns from and is measured on: the verdicts of a store, frozen in a folder of files."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.leakage import alike_documents
from palmette.data.records import DataSet, Document
from palmette.data.rows import dump_rows
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.inference.names import ModelSource
from palmette.inference.reader import reader_folder
from palmette.inference.task import recipe_prompt
from palmette.review.export import Export, audit_documents, export_verdicts
from palmette.review.state import State, fold
from palmette.review.store import Store
from palmette.studies.retraining.settings import RetrainSettings

MATERIAL = "material.json"
_SIDES = (("good", True), ("bad", False))
TRAIN, REPLAY, PAIRS, LABELS, AUDIT = "train.jsonl", "replay.jsonl", "pairs.jsonl", "labels.jsonl", "audit.jsonl"


@dataclass(frozen=True)
class Material:
    """What a retraining rests on.

    Attributes:
        folder: the folder that holds it.
        about: its record: counts, cost, and what it was made from.
    """

    folder: Path
    about: dict[str, Any]

    def data(self, method: str) -> list[Path]:
        """The files that a method learns from."""
        if method != "sft":
            return [self.folder / (PAIRS if method == "dpo" else LABELS)]
        return [self.folder / TRAIN, *([self.folder / REPLAY] if self.about["replayed"] else [])]

    def audit(self) -> DataSet | None:
        """The questions that models are measured on. None if no question of the audit set has an answer."""
        return read_source(str(self.folder / AUDIT)) if self.about["audit_questions"] else None


def read_material(folder: Path, wanted: dict[str, Any]) -> Material:
    """The material of a retraining that was begun.

    Args:
        folder: its folder.
        wanted: the settings and the old run, which must be those that it was begun with.

    Raises:
        RunError: they are others.
    """
    about = json.loads((folder / MATERIAL).read_text(encoding="utf-8"))
    way_out = "Give the options that it was begun with, or another name with --out."
    run.check_same(about["begun_with"], wanted, where=folder, way_out=way_out)
    return Material(folder, about)


def make_material(
    folder: Path, store: Store, source: ModelSource, settings: RetrainSettings, wanted: dict[str, Any]
) -> Material:
    """Freeze the verdicts of a store in a new folder.

    Documents that are like one of the audit set are left out and counted.

    Args:
        folder: the folder, which must not exist.
        store: the store.
        source: the old run.
        settings: how verdicts are learned.
        wanted: what `read_material` compares.

    Raises:
        DataError: nothing is left to learn from.
        RunError: the folder cannot be written.
    """
    assert source.recipe is not None
    state, documents, audit = fold(store.events()), store.documents(), store.audit()
    measured = audit_documents(documents, state, audit)
    frozen = set(audit.questions) if audit else set()
    held_out = [one for one in documents if any(question.id in frozen for question in one.questions)]
    held_ids = {one.id for one in held_out}
    leaks = {one.id for one, _ in alike_documents([one for one in documents if one.id not in held_ids], held_out)}
    kept = tuple(one for one in documents if one.id not in leaks)
    exported = export_verdicts(kept, state, recipe_prompt(source.recipe), audit.questions if audit else ())
    _check_enough(exported, settings)
    own = _own_documents(source, settings)
    replayed = _replayed(own or [], held_out, exported, settings) if settings.method == "sft" else []
    seen = None if own is None else len({other.id for _, other in alike_documents(own, held_out)})
    about = {
        "begun_with": wanted,
        "last_event": state.last,
        "questions": exported.num_questions,
        "documents": len(exported.documents),
        "pairs": len(exported.pairs),
        "labels": {name: sum(row["label"] is good for row in exported.labels) for name, good in _SIDES},
        "left_out": exported.left_out | ({"like the audit set": _num_questions(documents, leaks)} if leaks else {}),
        "replayed": len(replayed),
        "audit_questions": sum(len(one.questions) for one in measured),
        "audit_documents": len(measured),
        "audit_drawn": len(frozen),
        "audit_seen_before": seen,
        "verdicts": exported.num_verdicts,
        "seconds": exported.seconds,
        **_about_people(state, frozen),
        "documents_sha256": _hash(documents),
    }
    with run.whole_folder(folder) as staging:
        run.write_text(staging / TRAIN, exported.rows())
        run.write_json_lines(staging / PAIRS, exported.pairs)
        run.write_json_lines(staging / LABELS, exported.labels)
        run.write_text(staging / REPLAY, dump_rows(replayed))
        run.write_text(staging / AUDIT, dump_rows(measured))
        run.write_json(staging / MATERIAL, about)
    return Material(folder, about)


def _about_people(state: State, audited: Collection[str]) -> dict[str, Any]:
    """What the record says of the people who judged."""
    return {
        "audit_seconds": [one.verdict.seconds for (_, asked), one in state.judgements.items() if asked in audited],
        "annotators": len(state.annotators),
        "accept_rate": state.accept_rate(),
        "accept_rate_blind": state.accept_rate(blind=True),
        "undone": state.num_undone,
    }


def _check_enough(exported: Export, settings: RetrainSettings) -> None:
    labels = [row["label"] for row in exported.labels]
    lacking = {
        "sft": "" if exported.documents else "no question has a right answer",
        "dpo": "" if exported.pairs else "no suggestion was replaced by another answer",
        "kto": "" if True in labels and False in labels else "not both good and bad answers were judged",
    }[settings.method]
    if lacking:
        left_out = ", ".join(f"{number} {reason}" for reason, number in exported.left_out.items())
        without = f" (left out: {left_out})" if left_out else ""
        raise DataError(
            f"there is nothing to learn by {settings.method}: {lacking}{without}",
            "Judge more questions with palmette review, or choose another --method.",
        )


def _own_documents(source: ModelSource, settings: RetrainSettings) -> list[Document] | None:
    """The documents that the old run was trained on. None if they cannot be read and none is to be learned again.

    Those of the reader do not come with the package, so none of them is.
    """
    assert source.recipe is not None
    if source.folder == reader_folder():
        return None
    data = source.recipe.data
    if data.kind != "qa":
        return []
    found: list[Document] = []
    for name in data.train:
        try:
            read = read_source(name, on_bad_record=data.on_bad_record, limit_documents=data.limit_documents)
        except DataError as error:
            if settings.method != "sft" or not settings.replay:
                return None
            raise DataError(
                f"the data that {source.name} was trained on cannot be read: {error.problem}",
                "Put them back, since some of them are learned again, or give --replay 0.",
            ) from error
        found.extend(read.documents)
    return found


def _replayed(
    own: list[Document], held_out: list[Document], exported: Export, settings: RetrainSettings
) -> list[Document]:
    """Documents to learn again, drawn at random among those that are not like one of the audit set."""
    leaks = {id(one) for one, _ in alike_documents(own, held_out)}
    fit = [one for one in own if id(one) not in leaks and one.questions]
    number = min(len(fit), round(settings.replay * len(exported.documents)))
    return random.Random(f"replay {settings.seed}").sample(fit, number)


def _num_questions(documents: Iterable[Document], ids: set[str]) -> int:
    return sum(len(one.questions) for one in documents if one.id in ids)


def _hash(documents: Iterable[Document]) -> str:
    return hashlib.sha256("\n".join(sorted(one.id for one in documents)).encode()).hexdigest()
