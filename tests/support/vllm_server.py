"""A stand-in for a vLLM server: its requests for models, adapters and completions over HTTP, on the CPU.

It speaks what vLLM's `entrypoints/openai` has: the same paths, fields, status codes and messages. It reads the adapter
from the folder that it is told, with peft and stock attention, and draws token by token without a cache, so its
log-probabilities share no code with ours.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.support.local_server import LocalServer

MAX_MODEL_LEN = 2048
Choices = Callable[[dict[str, Any]], list[dict[str, Any]]]


class Refusal(Exception):
    """A response with an error, in vLLM's form."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind


class VllmStandIn(LocalServer):
    """The server; use it as a context manager.

    Args:
        folder: the folder of the base model.
        served_as: its name on the server. The folder by default.
        updates: whether it was started with VLLM_ALLOW_RUNTIME_LORA_UPDATING.
        stale: whether it keeps the weights of the first adapter, as a broken server could.
        choices: gives the choices of a completions request instead of the model.

    Attributes:
        asked: the bodies of all completions requests.
        loaded: the weights of all adapters that were loaded, by name, in order.
        present: the names of those that are not unloaded.
        headers: the headers of all requests.
    """

    def __init__(
        self,
        folder: Path,
        *,
        served_as: str = "",
        updates: bool = True,
        stale: bool = False,
        choices: Choices | None = None,
    ) -> None:
        self._folder, self._served_as, self._updates, self._stale = folder, served_as, updates, stale
        self._choices = choices or self._draw
        self.asked: list[dict[str, Any]] = []
        self.loaded: dict[str, dict[str, torch.Tensor]] = {}
        self.present: set[str] = set()
        self.headers: list[dict[str, str]] = []
        self._models: dict[str, Any] = {}
        self._lock = threading.Lock()
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), self._handler()))
        self.url = f"http://{self.address}/v1"

    def models(self) -> dict[str, Any]:
        """What GET /v1/models gives."""
        base = {"id": self._served_as or str(self._folder), "object": "model", "root": str(self._folder)}
        cards = [{**base, "parent": None, "max_model_len": MAX_MODEL_LEN}]
        cards += [{"id": name, "object": "model", "parent": cards[0]["id"]} for name in sorted(self.present)]
        return {"object": "list", "data": cards}

    def load(self, body: dict[str, Any]) -> str:
        """What POST /v1/load_lora_adapter does."""
        name, path = body.get("lora_name"), body.get("lora_path")
        if not name or not path:
            raise Refusal(400, "[{'type': 'missing', 'loc': ('body', 'lora_name'), 'msg': 'Field required'}]")
        if name in self.present:
            raise Refusal(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
        if not (Path(path) / "adapter_config.json").is_file():
            raise Refusal(404, f"Loading lora {name} failed: No adapter found for {path}", "NotFoundError")
        base = AutoModelForCausalLM.from_pretrained(self._folder, attn_implementation="sdpa", dtype=torch.float32)
        with warnings.catch_warnings():  # of peft about names that transformers has changed
            warnings.simplefilter("ignore")
            model = PeftModel.from_pretrained(base, path).eval()
        weights = {key: value.clone() for key, value in model.state_dict().items() if "lora_" in key}
        first = next(iter(self._models.values()), model)
        self.loaded[name], self._models[name] = weights, first if self._stale else model
        self.present.add(name)
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, body: dict[str, Any]) -> str:
        """What POST /v1/unload_lora_adapter does."""
        name = body.get("lora_name")
        if name not in self.present:
            raise Refusal(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        self.present.remove(name)
        return f"Success: LoRA adapter '{name}' removed successfully."

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """What POST /v1/completions gives."""
        self.asked.append(body)
        if body["model"] not in self.present:
            raise Refusal(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        if len(body["prompt"]) + body["max_tokens"] > MAX_MODEL_LEN:
            raise Refusal(400, f"This model's maximum context length is {MAX_MODEL_LEN} tokens.")
        return {"id": "cmpl-1", "object": "text_completion", "model": body["model"], "choices": self._choices(body)}

    @torch.no_grad()
    def _draw(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        choices = []
        for index in range(body["n"]):
            generator = torch.Generator().manual_seed(body["seed"] + index)
            tokens: list[int] = list(body["prompt"])
            logprobs: list[float] = []
            while len(logprobs) < body["max_tokens"] and not (logprobs and tokens[-1] in body["stop_token_ids"]):
                logprob_V = self._models[body["model"]](torch.tensor([tokens])).logits[0, -1].log_softmax(-1)
                tokens.append(int(torch.multinomial(logprob_V.exp(), 1, generator=generator)))
                logprobs.append(float(logprob_V[tokens[-1]]))
            ended = tokens[-1] in body["stop_token_ids"]
            drawn = tokens[len(body["prompt"]) :]
            choices.append(choice(index, drawn, logprobs, "stop" if ended else "length", drawn[-1] if ended else None))
        return choices

    def _answer(self, path: str, body: dict[str, Any]) -> Any:
        routes: dict[str, Callable[[dict[str, Any]], Any]] = {"/v1/completions": self.complete}
        if self._updates:
            routes |= {"/v1/load_lora_adapter": self.load, "/v1/unload_lora_adapter": self.unload}
        if path not in routes:
            raise LookupError(path)
        with self._lock:
            return routes[path](body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                known = self.path == "/v1/models"
                self._send(200 if known else 404, server.models() if known else {"detail": "Not Found"})

            def do_POST(self) -> None:
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    self._send(200, server._answer(self.path, body))
                except LookupError:
                    self._send(404, {"detail": "Not Found"})
                except Refusal as refusal:
                    error = {"message": refusal.message, "type": refusal.kind, "param": None, "code": refusal.status}
                    self._send(refusal.status, {"error": error})

            def _send(self, status: int, value: Any) -> None:
                data = (value if isinstance(value, str) else json.dumps(value)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


def choice(
    index: int, tokens: list[int], logprobs: list[float], finish: str, stop: int | str | None = None
) -> dict[str, Any]:
    """A choice of a completion with its token ids, as vLLM gives it."""
    return {
        "index": index,
        "text": "not read",
        "logprobs": {"tokens": ["?"] * len(tokens), "token_logprobs": logprobs, "top_logprobs": [], "text_offset": []},
        "finish_reason": finish,
        "stop_reason": stop,
        "token_ids": tokens,
    }
