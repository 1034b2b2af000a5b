"""Palmette specialises small language models on exact tasks.

Every answer is copied verbatim from a document, with its position and a probability, or it is refused.

    import palmette
    reader = palmette.load("runs/quickstart")
    (answer,) = reader.answer("The ferry leaves at 7:40.", ["When does it leave?"])
    print(answer.text, answer.start, answer.probability, answer.certified)

The names in `__all__` are the Python API. They are imported when they are first used, so `import palmette` is quick and
imports no torch. Everything else in the package may move between releases.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palmette.data.records import Answer, Document, Question
    from palmette.data.source import read_data
    from palmette.decode.effort import Effort
    from palmette.decode.posterior import Decision
    from palmette.decode.prediction import Candidate, Prediction
    from palmette.errors import PalmetteError
    from palmette.evaluate.answers import evaluate
    from palmette.evaluate.squad import Evaluation
    from palmette.extraction.job import extract
    from palmette.extraction.schema import read_schema
    from palmette.extraction.values import FieldResult, FieldValue
    from palmette.inference.answerer import Answerer
    from palmette.inference.answerer import load_answerer as load
    from palmette.inference.reward_model import load_reward
    from palmette.train.run import resume, train
    from palmette.train.stages import read_recipe

__version__ = "0.2.0"

__all__ = [
    "Answer",
    "Answerer",
    "Candidate",
    "Decision",
    "Document",
    "Effort",
    "Evaluation",
    "FieldResult",
    "FieldValue",
    "PalmetteError",
    "Prediction",
    "Question",
    "__version__",
    "evaluate",
    "extract",
    "load",
    "load_reward",
    "read_data",
    "read_recipe",
    "read_schema",
    "resume",
    "train",
]

# Where each name is defined. `evaluate` and `train` are also packages, and the import system binds a package's name
# here as soon as it is imported. So these two names always mean the packages, which can be called (see their
# __init__.py).
_DEFINED_IN = {
    "Answer": "palmette.data.records:Answer",
    "Answerer": "palmette.inference.answerer:Answerer",
    "Candidate": "palmette.decode.prediction:Candidate",
    "Decision": "palmette.decode.posterior:Decision",
    "Document": "palmette.data.records:Document",
    "Effort": "palmette.decode.effort:Effort",
    "Evaluation": "palmette.evaluate.squad:Evaluation",
    "FieldResult": "palmette.extraction.values:FieldResult",
    "FieldValue": "palmette.extraction.values:FieldValue",
    "PalmetteError": "palmette.errors:PalmetteError",
    "Prediction": "palmette.decode.prediction:Prediction",
    "Question": "palmette.data.records:Question",
    "evaluate": "palmette.evaluate",
    "extract": "palmette.extraction.job:extract",
    "load": "palmette.inference.answerer:load_answerer",
    "load_reward": "palmette.inference.reward_model:load_reward",
    "read_data": "palmette.data.source:read_data",
    "read_recipe": "palmette.train.stages:read_recipe",
    "read_schema": "palmette.extraction.schema:read_schema",
    "resume": "palmette.train.run:resume",
    "train": "palmette.train",
}

if not TYPE_CHECKING:  # with this in sight, a type checker would take any name for a name of the API

    def __getattr__(name: str) -> Any:
        """Import a name of the API when it is first used (PEP 562)."""
        if name not in _DEFINED_IN:
            raise AttributeError(f"module 'palmette' has no attribute {name!r}")
        from palmette.startup import quick_imports

        module, _, attribute = _DEFINED_IN[name].partition(":")
        with quick_imports():
            value = importlib.import_module(module)
        if attribute:
            value = getattr(value, attribute)
            globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The names of the API."""
    return list(__all__)
