"""Models opened for a comparison, one after the other: each with what is needed to ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from palmette.data.records import DataSet
from palmette.errors import DataError, TemplateError
from palmette.evaluate.squad import Evaluation, evaluate_squad
from palmette.inference.answerer import Answerer, open_answerer
from palmette.inference.base import load_merged
from palmette.inference.names import ModelSource, resolve_answerer
from palmette.model.checks import check_model
from palmette.model.loading import DType, LoadedModel, dtype_name
from palmette.model.outline import Outline
from palmette.studies.models.facts import disk_bytes, licence_of
from palmette.studies.models.peak import with_peak
from palmette.studies.planning.memory import PlannedWork, memory_need
from palmette.studies.planning.source import outline_of_source


@dataclass(frozen=True)
class OpenedModel:
    """A model in memory.

    Attributes:
        source: what its name stands for.
        outline: what it is made of.
        loaded: the model, with its adapter merged, and its tokenizer.
        answerer: what answers questions about documents. None for a model without a chat template that can be used.
        problem: why there is no answerer, or "".
    """

    source: ModelSource
    outline: Outline
    loaded: LoadedModel
    answerer: Answerer | None
    problem: str = ""

    def facts(self) -> dict[str, Any]:
        """What a table of models says of it: precision, sizes and licence."""
        model = self.loaded.model
        weights = {one.data_ptr(): one.numel() * one.element_size() for one in model.parameters()}
        value_bytes = model.dtype.itemsize
        job = PlannedWork("answer", "cpu" if model.device.type == "cpu" else "gpu", 1024, value_bytes=value_bytes)
        return {
            "kind": self.source.kind,
            "base": self.source.base,
            "stored_dtype": self.outline.stored_dtype,
            "computed_dtype": dtype_name(model.dtype),
            "licence": licence_of(self.source),
            "disk_bytes": disk_bytes(self.source, self.outline),
            "weights_bytes": sum(weights.values()),
            "planned_bytes": memory_need(self.outline, job).total,
        }

    def evaluate(self, data: DataSet, what: str) -> tuple[Evaluation, int | None]:
        """Answer a data set with the span decoder, without calibration.

        Returns:
            The answers, and the memory in use at the peak, in bytes. None where the system does not say.

        Raises:
            TemplateError: the model has no chat template that can be used.
        """
        if self.answerer is None:
            raise TemplateError(f"{self.source.name!r} cannot be asked: {self.problem}", "Leave this model out.")
        decoder = self.answerer.decoder("span")
        return with_peak(self.loaded.model.device, lambda: evaluate_squad(decoder, data.documents, what=what))


def check_models(names: Sequence[str], dtype: DType | None = None) -> list[ModelSource]:
    """Check the names of models that are to be compared, before any of them is loaded.

    Args:
        names: the names.
        dtype: the dtype of all of them. That of each run, or "auto", if None.

    Raises:
        DataError: there are fewer than two, or one of them twice.
        ModelError, RunError: as for `resolve_answerer`.
    """
    if len(names) < 2:
        raise DataError(f"{len(names)} model cannot be compared with another", "Name two models or more.")
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise DataError(f"the model {twice!r} is named twice", "Name each model once.")
    sources = [resolve_answerer(name) for name in names]
    if dtype is None:
        return sources
    return [replace(one, section=one.section.model_copy(update={"dtype": dtype})) for one in sources]


def open_model(source: ModelSource) -> OpenedModel:
    """Load a model.

    Args:
        source: what its name stands for.

    Raises:
        ModelError: it cannot be loaded, or cannot honour the attention mask of a tree.
    """
    try:
        answerer = open_answerer(source, calibrated=False)
    except TemplateError as error:
        loaded = load_merged(source)
        check_model(loaded.model, training=False, weights=loaded.content)
        return OpenedModel(source, outline_of_source(source), loaded, None, error.problem)
    # After loading, when the files of a model of the hub are there.
    return OpenedModel(source, outline_of_source(source), answerer.loaded, answerer)
