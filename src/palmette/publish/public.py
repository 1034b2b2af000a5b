"""A run as strangers may see it: its recipe and manifest without the paths of this machine, its data with their licences."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.errors import RunError
from palmette.files import format_yaml, parse_yaml
from palmette.inference.names import model_kind

_BUILTIN, _BUILTIN_LICENCE = "builtin:", "apache-2.0"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")
# Of the manifest; what else it holds (the command, the machine, reasons that quote documents) stays here.
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
    """Data that a run learned from.

    Attributes:
        name: as the recipe names it; of a file, its name alone.
        sha256: of its bytes, or the hub's fingerprint.
        documents, questions: how many were read.
        licence: what it is published under.
    """

    name: str
    sha256: str
    documents: int
    questions: int
    licence: str

    @property
    def hub_id(self) -> str | None:
        """Its id on the hub, if it is from there: only there the hash is not a SHA-256."""
        found = re.fullmatch(_HUB_ID, self.name.partition(":")[0])
        return found[0] if found and len(self.sha256) != 64 else None


def check_licence(licence: str) -> str:
    """An identifier of a licence, in the form that the hub knows.

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
        licences: LICENCE for all sources that have none of their own, or SOURCE=LICENCE.

    Raises:
        RunError: a source without a licence, or a licence for a source that is none of the run's.
    """
    given = {}
    for text in licences:
        source, _, licence = text.rpartition("=")
        given[source] = check_licence(licence)
    names = [part["source"] for part in manifest["data"]]
    strange = sorted(given.keys() - {"", *names})
    if strange:
        raise RunError(f"the run did not learn from {strange[0]!r}", f"Its data are {', '.join(names)}.")
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
    """A source's name; of a file, without its folders."""
    on_hub = len(sha256) != 64 and _HUB_ID.fullmatch(name.partition(":")[0])
    return name if on_hub or name.startswith(_BUILTIN) else Path(name).name


def hub_base(name: str, given: str | None) -> str:
    """The base model's id on the hub.

    Args:
        name: as the recipe has it.
        given: as the user has it.

    Raises:
        RunError: it is a folder or a file of this machine, and no id was given.
    """
    chosen = given or name
    if not _HUB_ID.fullmatch(chosen) or model_kind(chosen) != "hub":
        raise RunError(
            f"the base model {chosen!r} is a file or folder of this machine, which nobody else can load",
            "Name it as it stands on the hub: --base-model USER/NAME.",
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
    """Settings in which a path, wherever it is, has lost its folders; texts of several lines or with spaces are none."""
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    is_path = isinstance(value, str) and re.fullmatch(r"(~|\.\.?)?/\S+|\S+/\S+\.ya?ml", value)
    return Path(value).name if is_path else value


def public_manifest(manifest: Mapping[str, Any], base: str) -> dict[str, Any]:
    """What of a run's manifest says how it was made, and nothing of where."""
    kept = {key: manifest[key] for key in _MANIFEST_KEYS if key in manifest}
    kept["model"] = {**kept["model"], "name": base}
    kept["data"] = [{**part, "source": public_source(part["source"], part["sha256"])} for part in kept["data"]]
    return kept


@dataclass(frozen=True)
class Figures:
    """What an evaluation found.

    Attributes:
        data: what it was measured on, with its folders left out.
        sha256: of the data.
        questions: how many.
        decoder: how it was asked.
        calibrated: whether it decided as calibrated.
        metrics: the measures by name.
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
    """Read an evaluation that was made of the weights which are to be published.

    Args:
        folder: what `palmette eval squad` wrote.
        weights: their hash.
        made_by_file: the name of the file in it that says what was measured.
        metrics_file: the name of the file with the measures.

    Raises:
        RunError: no such evaluation, or one of other weights.
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
            f"{folder} holds no evaluation that can be read: {error}",
            "Make one: palmette eval squad --model RUN --data DATA --out FOLDER.",
        ) from error
    if how.get("weights") != weights:
        raise RunError(
            f"{folder} was not measured on the weights of this run", "Evaluate this run, and give that folder."
        )
    return found
