"""What is known of a model before it is loaded: its configuration, tokenizer, chat template, files and licence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from palmette.inference.licence import trained_licence
from palmette.inference.names import ModelSource, check_hub, locate
from palmette.model.gguf_header import read_layout
from palmette.model.outline import Outline
from palmette.studies.models.texts import SharedText
from palmette.studies.planning.source import gguf_of
from palmette.tree.segments import TextEncoder

_NOT_STATED = "not stated"
_FRONT = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_WORD = re.compile(r"\S+")


def configuration(outline: Outline) -> dict[str, Any]:
    """A model's outline, with its size and the cost of a cached token, for the record."""
    return {
        **asdict(outline),
        "num_parameters": outline.num_parameters,
        "cache_bytes_a_token": 2 * outline.cached_values,  # in bfloat16
    }


def licence_of(source: ModelSource) -> str:
    """The licence that the files of a model state. "not stated" if none does.

    That of a run is its base's, unless its weights began from the reader's.
    """
    if source.folder is not None and (own := trained_licence(source.folder)):
        return own
    file = gguf_of(source)
    if file is not None:
        return str(read_layout(file).general.get("license", _NOT_STATED))
    try:
        front = _FRONT.match(_readme(source).read_text(encoding="utf-8", errors="replace"))
        header = yaml.safe_load(front.group(1)) if front else None
    except Exception:  # the hub's client has a dozen kinds, and a licence is not worth a stop
        return _NOT_STATED
    stated = header.get("license") if isinstance(header, dict) else None
    return str(stated) if stated else _NOT_STATED


def _readme(source: ModelSource) -> Path:
    """The model card of a folder, or of a model of the hub at its revision, which is fetched if it is not there."""
    section, name = source.section, locate(source.section.name)
    folder = Path(name) if Path(name).is_dir() else check_hub(section)
    if folder is not None:
        return folder / "README.md"
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, "README.md", revision=section.revision))


def disk_bytes(source: ModelSource, outline: Outline) -> int | None:
    """Bytes of the files of a model: its weights, and the adapter of a run. None if they are not on this machine."""
    if outline.stored_bytes is None:
        return None
    folder = source.adapter
    own = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder is not None else 0
    return outline.stored_bytes + own


@dataclass(frozen=True, slots=True)
class Bounds:
    """The tokens around a text by the generation configuration of a model.

    Attributes:
        begin: the token that begins a text. None if it names none.
        ends: the tokens that end one.
    """

    begin: int | None
    ends: Sequence[int]


def tokenizer_facts(
    tokenizer: Any, bounds: Bounds, texts: Sequence[SharedText], reference: Mapping[str, int] | None
) -> dict[str, Any]:
    """A tokenizer for the record.

    Args:
        tokenizer: the tokenizer.
        bounds: what the generation configuration of the model says.
        texts: texts that are counted in words and tokens.
        reference: the vocabulary of the first model. None for the first model itself.
    """
    vocabulary, encoder = tokenizer.get_vocab(), TextEncoder(tokenizer)
    names = {key: getattr(tokenizer, f"{key}_token", None) for key in ("bos", "eos", "pad", "unk")}
    shared = None if reference is None else len(vocabulary.keys() & reference.keys())
    return {
        "kind": type(tokenizer).__name__,
        "size": len(vocabulary),
        "shared_tokens": shared,
        "same_tokens": None if reference is None else vocabulary == dict(reference),
        "special": names,
        "added": sorted(map(str, tokenizer.get_added_vocab()), key=lambda token: vocabulary.get(token, 0)),
        "begins_with_bos": _begins_with_bos(tokenizer),
        "begin": None if bounds.begin is None else _token(tokenizer, bounds.begin),
        "ends": [_token(tokenizer, end) for end in bounds.ends],
        "warnings": _disagreements(tokenizer, bounds),
        "tokens_a_word": {one.id: len(encoder.content(one.text)) / len(_WORD.findall(one.text)) for one in texts},
    }


def _begins_with_bos(tokenizer: Any) -> bool:
    put = tokenizer("")["input_ids"]
    return bool(put) and put[0] == tokenizer.bos_token_id


def _token(tokenizer: Any, number: int) -> str:
    return str(tokenizer.convert_ids_to_tokens(number))


def _disagreements(tokenizer: Any, bounds: Bounds) -> list[str]:
    """What the tokenizer and the generation configuration say differently."""
    found, eos, bos, ends = [], tokenizer.eos_token_id, tokenizer.bos_token_id, bounds.ends
    if bos is not None and bounds.begin is not None and bos != bounds.begin:
        name = _token(tokenizer, bounds.begin)
        found.append(f"The tokenizer begins with {tokenizer.bos_token}, the generation configuration with {name}.")
    if eos is None:
        found.append("The tokenizer has no end of sequence.")
    elif ends and eos not in ends:
        names = ", ".join(_token(tokenizer, end) for end in ends)
        found.append(f"The tokenizer ends with {tokenizer.eos_token}, the generation configuration with {names}.")
    if tokenizer.bos_token is not None and tokenizer.bos_token == tokenizer.eos_token:
        found.append(f"{tokenizer.bos_token} begins and ends a text.")
    return found
