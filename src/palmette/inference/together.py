"""Several models in one process: those with the same base share one copy of it, and take turns in its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from palmette.inference.answerer import Answerer, answerer_with, open_answerer
from palmette.inference.base import content_of, load_section
from palmette.inference.calibration import calibration_of
from palmette.inference.names import ModelSource
from palmette.model.adapters import SharedWeights
from palmette.model.attention import AttentionChoice
from palmette.model.loading import fast_dtype

# A shared base takes the memory of two models, since a copy of its own weights is kept.
FEWEST = 3


@dataclass(frozen=True)
class Placed:
    """An answerer whose model may be that of others too.

    Attributes:
        answerer: the answerer. Its model has the right weights from `place` on, until another one is placed.
        place: puts its weights into the model. The result is whether others were there.
        shared: whether others have the same model.
    """

    answerer: Answerer
    place: Callable[[], bool] = lambda: False
    shared: bool = False


def open_together(
    sources: Mapping[str, ModelSource], *, attention: AttentionChoice | None = None, fewest: int = FEWEST
) -> dict[str, Placed]:
    """Load models that answer questions. Those of one base share it, from so many on.

    The numbers of each are those of the model loaded alone, bit for bit. They are used by one thread.

    Args:
        sources: what the models' names stand for.
        attention: as for `load_answerer`.
        fewest: how many models share a base, at least.

    Raises:
        RunError, ModelError: as for `load_answerer`.
    """
    groups: dict[str, list[str]] = {}
    for name, source in sources.items():
        groups.setdefault(_base_key(source, attention) or name, []).append(name)
    opened: dict[str, Placed] = {}
    for names in groups.values():
        if len(names) >= fewest:
            opened |= _sharing({name: sources[name] for name in names}, attention)
    for name, source in sources.items():
        if name not in opened:
            opened[name] = Placed(open_answerer(source, attention=attention))
    return {name: opened[name] for name in sources}


def _base_key(source: ModelSource, attention: AttentionChoice | None) -> str | None:
    """What models have in common that can share a base. None for one that cannot."""
    section, chosen = source.section, {} if attention is None else {"attention": attention}
    content = None if source.is_full or section.init == "random" else content_of(section, None)
    if content is None:
        return None
    how = section.model_copy(update={"name": "", "revision": None, **chosen}).model_dump(mode="json")
    return json.dumps([content, {**how, "dtype": str(fast_dtype(section.dtype))}], sort_keys=True)


def _sharing(sources: Mapping[str, ModelSource], attention: AttentionChoice | None) -> dict[str, Placed]:
    """Models of one base. Those whose adapters cannot share it are left out."""
    sections = {
        name: source.section.model_copy(update={} if attention is None else {"attention": attention})
        for name, source in sources.items()
    }
    loaded = load_section(next(iter(sections.values())))
    weights, placed = SharedWeights(loaded.model), {}
    sharing: Sequence[str] = [name for name, source in sources.items() if weights.add(name, source.adapter)]
    for name in sharing:
        source, section = sources[name], sections[name]
        weights.use(name)
        called = section.name if source.recipe is not None else source.name
        own = replace(loaded, name=called, content=content_of(section, source.adapter))
        answerer = answerer_with(own, source, calibration_of(source.trained))
        placed[name] = Placed(answerer, partial(weights.use, name), shared=True)
    return placed
