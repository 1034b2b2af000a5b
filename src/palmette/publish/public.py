"""The public form of a run: recipe and manifest without paths of this machine, and data with their licences."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.errors import RunError, reason_of
from palmette.files import format_yaml, parse_yaml
from palmette.inference.names import model_kind

_BUILTIN, _BUILTIN_LICENCE = "builtin:", "apache-2.0"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")
# Published keys of the manifest. Others (the command, the machine, reasons that quote documents) are private.
_MANIFEST_KEYS = (
    "created",
    "versions",
    "seed",
    "model",
    "data",
    "prompt_sha256",
    "trees",
    "questions",
    "tokens",
    "tokens_sha256",
)


@dataclass(frozen=True)
class Source:
    """A source of training data.

    Attributes:
        name: its name in the recipe. For a file, its name without folders.
        sha256: the hash of its bytes, or the hub's fingerprint.
        documents, questions: the counts that were read.
        licence: the licence of the data.
    """

    name: str
    sha256: str
    documents: int
    questions: int
    licence: str

    @property
    def hub_id(self) -> str | None:
        """Its id on the hub, if it is from there. Only there the hash is not a SHA-256."""
        found = re.fullmatch(_HUB_ID, self.name.partition(":")[0])
        return found[0] if found and len(self.sha256) != 64 else None


def check_licence(licence: str) -> str:
    """A licence's identifier in the form of the hub.

    Raises:
        RunError: it has another form.
    """
    found = licence.strip().lower()
    if not _LICENCE.fullmatch(found):
        raise RunError(f"{licence!r} is no identifier of a licence", "Give one such as apache-2.0 or cc-by-sa-4.0.")
    return found


def sources_of(manifest: Mapping[str, Any], licences: Sequence[str]) -> list[Source]:
    """The data of a run with their licences.

    Args:
        manifest: the run's.
        licences: LICENCE for all sources without their own, or SOURCE=LICENCE.

    Raises:
        RunError: a source has no licence, or a licence is given for a source that the run does not have.
    """
    given = {}
    for text in licences:
        source, _, licence = text.rpartition("=")
        given[source] = check_licence(licence)
    names = [part["source"] for part in manifest["data"]]
    strange = sorted(given.keys() - {"", *names})
    if strange:
        raise RunError(f"the run was not trained on {strange[0]!r}", f"Its data are {', '.join(names)}.")
    return [_source(part, given) for part in manifest["data"]]


def _source(part: Mapping[str, Any], given: Mapping[str, str]) -> Source:
    name, builtin = part["source"], part["source"].startswith(_BUILTIN)
    licence = given.get(name) or (_BUILTIN_LICENCE if builtin else given.get(""))
    if licence is None:
        raise RunError(
            f"the licence of the training data {name!r} is not known",
            f"Give it: --data-licence {shlex.quote(name)}=LICENCE.",
        )
    return Source(public_source(name, part["sha256"]), part["sha256"], part["documents"], part["questions"], licence)


def public_source(name: str, sha256: str) -> str:
    """A source's name. A file's name has no folders."""
    on_hub = len(sha256) != 64 and _HUB_ID.fullmatch(name.partition(":")[0])
    return name if on_hub or name.startswith(_BUILTIN) else Path(name).name


def hub_base(name: str, given: str | None) -> str:
    """The base model's id on the hub.

    Args:
        name: its name in the recipe.
        given: the id that the user gave, if any.

    Raises:
        RunError: the base is a folder or a file of this machine, and no id was given.
    """
    chosen = given or name
    if not _HUB_ID.fullmatch(chosen) or model_kind(chosen) != "hub":
        raise RunError(
            f"the base model {chosen!r} is a file or folder of this machine, which nobody else can load",
            "Give its id on the hub: --base-model USER/NAME.",
        )
    return chosen


def public_recipe(text: str, base: str, manifest: Mapping[str, Any]) -> str:
    """A run's recipe as YAML without paths of this machine.

    Args:
        text: the recipe, as YAML.
        base: the base model's id on the hub.
        manifest: the run's.
    """
    recipe: dict[str, Any] = parse_yaml(text)
    hashes = {part["source"]: part["sha256"] for part in manifest["data"]}
    recipe["output"] = f"runs/{Path(recipe['output']).name}"
    recipe["model"]["name"] = base
    recipe["data"]["train"] = [public_source(name, hashes.get(name, "0" * 64)) for name in recipe["data"]["train"]]
    public = {section: _without_paths(values) for section, values in recipe.items()}
    return format_yaml(public)


def _without_paths(value: Any) -> Any:
    """Settings in which every path has lost its folders. A text with spaces or several lines is no path."""
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    is_path = isinstance(value, str) and re.fullmatch(r"(~|\.\.?)?/\S+|\S+/\S+\.ya?ml", value)
    return Path(value).name if is_path else value


def public_manifest(manifest: Mapping[str, Any], base: str) -> dict[str, Any]:
    """The part of a run's manifest that says how it was made, without anything about this machine."""
    public = {key: manifest[key] for key in _MANIFEST_KEYS if key in manifest}
    public["model"] = {**public["model"], "name": base}
    public["data"] = [{**part, "source": public_source(part["source"], part["sha256"])} for part in public["data"]]
    return public


@dataclass(frozen=True)
class Figures:
    """The results of an evaluation.

    Attributes:
        data: the name of the data, without folders.
        sha256: the hash of the data.
        questions: the number of questions.
        decoder: the decoder.
        calibrated: whether the run's calibration was used.
        metrics: the metrics by name.
        intervals: 95 % intervals of some of them.
    """

    data: str
    sha256: str
    questions: int
    decoder: str
    calibrated: bool
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Sequence[float]]


def read_figures(folder: Path, weights: str | None, made_by_file: str, metrics_file: str) -> Figures:
    """Read an evaluation of the weights to publish.

    Args:
        folder: a folder of `palmette eval squad`.
        weights: the hash of the weights.
        made_by_file: the name of its file about the model and the data.
        metrics_file: the name of its file of metrics.

    Raises:
        RunError: there is no such evaluation, or it is one of other weights.
    """
    try:
        how = json.loads((folder / made_by_file).read_text(encoding="utf-8"))
        values = json.loads((folder / metrics_file).read_text(encoding="utf-8"))
        data = how["data"]
        found = Figures(
            public_source(data["source"], data["sha256"]),
            data["sha256"],
            data["questions"],
            how["decoder"],
            how["calibrated_on"] is not None,
            {key: value for key, value in values.items() if key != "intervals"},
            values.get("intervals") or {},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder} holds no evaluation that can be read: {reason_of(error)}",
            "Make one: palmette eval squad --model RUN --data DATA --out FOLDER.",
        ) from error
    if how.get("weights") != weights:
        raise RunError(
            f"{folder} was not measured on the weights of this run", "Evaluate this run, and give the folder of that."
        )
    return found
