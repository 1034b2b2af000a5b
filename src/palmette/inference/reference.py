"""The reference model of a policy, loaded."""

from __future__ import annotations

from typing import Any

from palmette.errors import ModelError
from palmette.inference.base import load_source, source_tokenizer
from palmette.inference.names import locate, resolve_model
from palmette.model.loading import LoadedModel, weights_hash


def reference_fingerprint(name: str, tokenizer: Any) -> dict[str, Any]:
    """What a reference other than the run's own model is made of, for the manifest.

    Args:
        name: a finished run, or a model by name.
        tokenizer: the policy's tokenizer.

    Raises:
        RunError: the run is not finished.
        ModelError: there is no such model, or its tokens are not the policy's.
    """
    source = resolve_model(name)
    if source_tokenizer(source).get_vocab() != tokenizer.get_vocab():
        raise ModelError(
            f"the reference {name!r} has other tokens than the model that is trained",
            "Give a reference of the same family, or none.",
        )
    hashes = [weights_hash(locate(source.base))]
    if source.trained is not None:
        hashes = [weights_hash(str(source.trained)), *hashes]
    return {"reference": {"name": name, "sha256": hashes}}


def open_reference(name: str, dtype: Any) -> LoadedModel:
    """Load the model of a finished run, or a model by name.

    Args:
        name: as for `reference_fingerprint`.
        dtype: the dtype of a model by name. A run has its own.

    Raises:
        RunError, ModelError: as for `reference_fingerprint`.
    """
    source = resolve_model(name)
    return load_source(source, dtype=None if source.recipe is not None else dtype)
