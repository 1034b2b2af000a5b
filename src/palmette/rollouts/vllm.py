"""Rollouts from a vLLM server, behind the interface of `palmette.rollouts.sampling`, with weights that change.

For each batch of rollouts, the policy's LoRA adapter is written to a folder in PEFT's form. The server loads it under a
new name, samples with it, and unloads it. These are vLLM's documented requests: `/v1/load_lora_adapter`,
`/v1/completions` and `/v1/unload_lora_adapter` (docs.vllm.ai, "LoRA Adapters"). They were chosen over `vllm.LLM` in
this process for three reasons. vLLM pins a torch of its own, and a server has its own environment. A server may be on
another GPU or machine. And a stand-in can speak the protocol, so all of this is tested without a GPU. A new name each
time keeps keys and values that vLLM cached under earlier weights from being used, since its cache tells adapters apart
by name.

The server's kernels differ from ours, so its log-probabilities are near those of the training forward pass but not
equal (`palmette.rollouts.scoring.sampler_gap` measures it), and the same seed draws other completions.

It has not been run against vLLM itself on a GPU yet. Not covered: placeholders, weights trained in full, adapters that
vLLM cannot read (DoRA, a rank or alpha of its own for some layers, pause tokens).
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import torch

from palmette.endpoint.settings import check_url, read_key
from palmette.endpoint.transport import failure
from palmette.errors import ModelError, RecipeError
from palmette.hosts import is_loopback
from palmette.rollouts.sampling import Finish, Rollout, Sampling, check_prompts, checked_keys, completion_text

LOCAL_SERVER = "http://localhost:8000/v1"
_KEY = "VLLM_API_KEY"  # the variable from which vLLM itself reads the key
_AT_ONCE = 64  # requests under way, each for all samples of a prompt
_TIMEOUT = 600.0  # seconds
_INSTEAD = "Or take rollouts.sampler out, to sample without a server."


class VllmServer:
    """A vLLM server that is reached over HTTP.

    Args:
        url: its base URL, such as http://localhost:8000/v1.
        model: the name or folder of the base model that it must serve.

    Attributes:
        max_model_len: most tokens of a prompt with its completion.

    Raises:
        EndpointError: the URL is not one, or VLLM_API_KEY holds no key.
        ModelError: it cannot be reached, does not serve this model, or was not started so that adapters can be loaded.
    """

    def __init__(self, url: str, model: str) -> None:
        url = check_url(url)
        self.url = url if urlsplit(url).path else f"{url}/v1"
        self._local = is_loopback(urlsplit(url).hostname or "")
        key = read_key(_KEY if os.environ.get(_KEY) else None)
        self._start = (
            f"Start one on a GPU with: VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve {model} --enable-lora "
            f"--max-lora-rank RANK. Name it in rollouts.server. {_INSTEAD}"
        )
        self._http = httpx2.Client(
            base_url=self.url,
            timeout=_TIMEOUT,
            trust_env=not self._local,  # a proxy does not reach this machine
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx2.Limits(max_connections=_AT_ONCE, max_keepalive_connections=0),  # minutes pass between batches
        )
        self._model = self._served(model)
        limit = self._model.get("max_model_len")
        self.max_model_len: int = limit if isinstance(limit, int) else 2**31
        if self._send("POST", "/load_lora_adapter", {}).status_code in (404, 405):
            raise ModelError(f"the vLLM server at {self.url} loads no adapters while it runs", self._start)

    def load(self, name: str, folder: Path) -> None:
        """Load an adapter from a folder that the server can read.

        Raises:
            ModelError: it cannot be loaded, or the server cannot be reached.
        """
        self._ask("/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.resolve())})

    def unload(self, name: str) -> None:
        """Unload an adapter. Errors are those of `load`."""
        self._ask("/unload_lora_adapter", {"lora_name": name})

    def complete(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The choices of a completions request, by index. Errors are those of `load`."""
        response = self._ask("/completions", body)
        try:
            choices: list[dict[str, Any]] = sorted(response.json()["choices"], key=lambda choice: choice["index"])
        except (ValueError, KeyError, TypeError):
            raise ModelError(
                f"the vLLM server at {self.url} gives no completions: {_said(response)}", "Look at its log."
            ) from None
        if len(choices) != body["n"] or any(choice.get("token_ids") is None for choice in choices):
            raise ModelError(
                f"the vLLM server at {self.url} gives {len(choices)} completions for {body['n']}, or no token ids",
                f"Update it. return_token_ids is needed. {_INSTEAD}",
            )
        return choices

    def _served(self, model: str) -> dict[str, Any]:
        """The server's entry for a base model, which it may serve under another name."""
        response = self._send("GET", "/models")
        try:
            entries = [entry for entry in response.json()["data"] if not entry.get("parent")]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{self.url} is no vLLM server: /models gives {_said(response)}", self._start) from None
        for entry in entries:
            if any(_same(str(entry.get(key)), model) for key in ("id", "root")):
                return dict(entry)
        names = ", ".join(repr(entry.get("id")) for entry in entries)
        raise ModelError(f"the vLLM server at {self.url} serves {names}, and {model!r} is trained", self._start)

    def _ask(self, path: str, body: dict[str, Any]) -> httpx2.Response:
        response = self._send("POST", path, body)
        if not response.is_success:
            raise ModelError(f"the vLLM server at {self.url} refuses {path}: {_said(response)}", "Look at its log.")
        return response

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        try:
            return self._http.request(method, path, json=body)
        except httpx2.RequestError as error:
            why = str(failure(error, self._http))
            alone = self._local and not torch.cuda.is_available()
            gpu = ", and torch sees no GPU on this machine, which vLLM needs" if alone else ""
            problem = f"the vLLM server at {self.url} cannot be reached ({why}){gpu}"
            raise ModelError(problem, self._start) from None


class VllmSampler:
    """Samples completions of prompts with a vLLM server and the current weights of an adapter.

    Args:
        model: the policy, a model with a LoRA adapter.
        tokenizer: its tokenizer, for texts.
        server: the server, which serves the policy's base.
        end_tokens: tokens that end a completion, such as the template's end of a turn. No others do.
        folder: where adapters are written while the server reads them. The server must see it under the same path.
    """

    def __init__(
        self, model: Any, tokenizer: Any, server: VllmServer, *, end_tokens: Collection[int], folder: Path
    ) -> None:
        self._policy, self._tokenizer, self._server = model, tokenizer, server
        self._end_tokens, self._folder = sorted(end_tokens), folder

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        num_samples: int,
        sampling: Sampling,
        *,
        keys: Sequence[int] | None = None,
    ) -> Iterator[list[Rollout]]:
        """Sample completions as `RolloutSampler.sample` does.

        `sampling_logprobs` are None unless temperature and top_p are 1.

        Raises:
            ModelError: see `VllmServer.load`.
        """
        keys = checked_keys(len(prompts), num_samples, keys)
        check_prompts(prompts, sampling, self._server.max_model_len, "max_model_len of the vLLM server")
        return self._rollouts(prompts, num_samples, sampling, keys)

    def _rollouts(
        self, prompts: Sequence[Sequence[int]], num_samples: int, sampling: Sampling, keys: Sequence[int]
    ) -> Iterator[list[Rollout]]:
        if not prompts:
            return
        with self._loaded() as name, ThreadPoolExecutor(_AT_ONCE) as pool:
            requests = [
                {"model": name, "prompt": list(prompt), "n": num_samples, **self._parameters(sampling, key)}
                for prompt, key in zip(prompts, keys, strict=True)
            ]
            for key, choices in zip(keys, pool.map(self._server.complete, requests), strict=True):
                yield [self._rollout(choice, sampling, key) for choice in choices]

    @contextlib.contextmanager
    def _loaded(self) -> Iterator[str]:
        """Within the block, the server has the weights of this moment. Their name is given."""
        name = f"palmette-{uuid.uuid4().hex}"
        folder = self._folder / name
        folder.mkdir(parents=True)
        try:
            self._policy.save_pretrained(folder)
            self._server.load(name, folder)
            try:
                yield name
            finally:
                self._server.unload(name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _parameters(self, sampling: Sampling, key: int) -> dict[str, Any]:
        """The parameters of one request. vLLM derives the seeds of its samples from this seed.

        What is not said here would come from the model's generation_config.json.
        """
        return {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "max_tokens": sampling.max_new_tokens,
            "stop": list(sampling.stop),
            "stop_token_ids": self._end_tokens,
            "ignore_eos": True,  # those of the model are among the end tokens, if they count
            "seed": int(np.random.SeedSequence((sampling.seed, key)).generate_state(1)[0]),
            "logprobs": 0,  # of the drawn token alone, before temperature and top_p
            "return_token_ids": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
        }

    def _rollout(self, choice: dict[str, Any], sampling: Sampling, key: int) -> Rollout:
        tokens = tuple(int(token) for token in choice["token_ids"])
        said = (choice.get("logprobs") or {}).get("token_logprobs") or ()
        logprobs = tuple(math.nan if value is None else float(value) for value in said)
        if len(logprobs) != len(tokens) or not all(map(math.isfinite, logprobs)):
            raise ModelError(
                f"the vLLM server at {self._server.url} gives log-probabilities that do not belong to its tokens",
                "Look at its log.",
            )
        finish = _finish(choice)
        text, num_text_tokens = completion_text(self._tokenizer, tokens, finish, sampling.stop)
        return Rollout(
            tokens=tokens,
            logprobs=logprobs,
            sampling_logprobs=logprobs if sampling.plain else None,
            text=text,
            num_text_tokens=num_text_tokens,
            finish=finish,
            sampling=sampling,
            key=key,
            index=int(choice["index"]),
        )


def check_adapter(method: str, lora: Any, reasoning: str) -> None:
    """Check that vLLM can read the adapter that is trained.

    Args:
        method: `train.method`.
        lora: the section `lora` of the recipe.
        reasoning: `reasoning.kind`.

    Raises:
        RecipeError: it cannot.
    """
    for stands, key, why in (
        (method != "lora", "train.method: full", "weights go to vLLM as a LoRA adapter"),
        (lora.dora, "lora.dora: true", "vLLM loads no DoRA"),
        (bool(lora.rank_pattern), "lora.rank_pattern", "vLLM has one rank and one scale for all layers"),
        (bool(lora.alpha_pattern), "lora.alpha_pattern", "vLLM has one rank and one scale for all layers"),
        (reasoning == "pause", "reasoning.kind: pause", "an adapter for vLLM has no embeddings"),
    ):
        if stands:
            raise RecipeError(f"rollouts.sampler = vllm and {key} exclude each other: {why}", "Take one of them out.")


def _same(served: str, trained: str) -> bool:
    """Whether two names are those of one model: equal, or the same folder."""
    return served == trained or (Path(trained).exists() and Path(served).resolve() == Path(trained).resolve())


def _said(response: httpx2.Response) -> str:
    """The status of a response and its message, in one line."""
    try:
        said = response.json()
        said = said.get("error", said)
        text = str(said.get("message", said))
    except (ValueError, AttributeError):
        text = response.text
    return f"{response.status_code} {' '.join(text.split())[:300]}"


def _finish(choice: dict[str, Any]) -> Finish:
    """Why a completion ended, in our words.

    Raises:
        ModelError: vLLM aborted it.
    """
    reason = choice["finish_reason"]
    if reason == "length":
        return "length"
    if reason == "stop":
        return "stop" if isinstance(choice.get("stop_reason"), str) else "end"
    raise ModelError(f"vLLM ended a completion for the reason {reason!r}", "Look at its log.")
