"""The vLLM backend: refused where it cannot run, and what it asks of vLLM and reads back, shown with a stand-in for
the module.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from palmette.errors import ModelError, PackingError
from palmette.rollouts import vllm as vllm_backend
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.sampling import Rollout, RolloutSampler, Sampling
from palmette.rollouts.vllm import VllmSampler
from tests.support.tokenizers import LetterPairs

END = 9


@dataclass
class Output:
    """A completion as vLLM gives it: log-probabilities by token id at each place."""

    index: int
    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    stop_reason: int | str | None = None

    @property
    def logprobs(self) -> list[dict[int, Any]]:
        return [{token: SimpleNamespace(logprob=-token / 10, rank=1), 50: None} for token in self.token_ids]


class Engine:
    """Notes how it was made and what it was asked, and completions with what it is told to."""

    made: dict[str, Any]
    asked: tuple[Any, ...]
    completions: list[list[Output]]

    def __init__(self, **options: Any) -> None:
        Engine.made = options

    def generate(self, prompts: Any, params: Any, *, use_tqdm: bool, lora_request: Any) -> list[Any]:
        Engine.asked = (prompts, params, use_tqdm, lora_request)
        return [SimpleNamespace(outputs=outputs) for outputs in Engine.completions]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request")}
    modules["vllm"].__spec__ = ModuleSpec("vllm", None)
    modules["vllm"].LLM = Engine  # type: ignore[attr-defined]
    modules["vllm"].SamplingParams = lambda **values: values  # type: ignore[attr-defined]
    modules["vllm.lora.request"].LoRARequest = lambda *values: values  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_it_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch, vllm: None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"vLLM needs a GPU.*palmette\.rollouts\.sampler\.Sampler"):
        VllmSampler("m", LetterPairs(), end_tokens=[END], max_model_len=20)
    monkeypatch.setattr(vllm_backend.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        ModelError, match=r"vLLM is not installed.*pip install vllm.*palmette\.rollouts\.sampler\.Sampler"
    ):
        VllmSampler("m", LetterPairs(), end_tokens=[END], max_model_len=20)


def test_what_is_asked_of_vllm(vllm: None) -> None:
    """Prompts as tokens, never as text; log-probabilities before temperature; the model's own penalties off."""
    source: RolloutSampler = VllmSampler(
        "m", LetterPairs(), end_tokens={END}, max_model_len=20, adapter=Path("a"), dtype="bfloat16"
    )
    made = dict(Engine.made)
    assert made.pop("enable_prefix_caching") is True
    assert made == {
        "model": "m",
        "max_model_len": 20,
        "logprobs_mode": "raw_logprobs",
        "generation_config": "vllm",
        "enable_lora": True,
        "dtype": "bfloat16",
    }
    Engine.completions = [[], []]
    sampling = Sampling(0.7, 0.9, 12, ("x", "yz"), seed=3)
    assert list(source.sample([(1, 2), [3]], 4, sampling, keys=[5, 6])) == [[], []]
    prompts, params, _, lora = Engine.asked
    assert prompts == [{"prompt_token_ids": [1, 2]}, {"prompt_token_ids": [3]}]
    assert lora == ("adapter", 1, "a")
    seeds = [values.pop("seed") for values in params]
    assert len(set(seeds)) == 2
    wanted = {
        "n": 4,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 12,
        "stop": ["x", "yz"],
        "stop_token_ids": [END],
        "logprobs": 0,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }
    assert params == [wanted, wanted]
    list(source.sample([(3,), (1, 2)], 4, sampling, keys=[6, 5]))
    assert [values["seed"] for values in Engine.asked[1]] == seeds[::-1]


def test_what_vllm_says_becomes_rollouts(vllm: None) -> None:
    """Tokens 0, 1, 2 say "aa", "ab", "ac": the stop string "bac" cuts two tokens to the text "aaa"."""
    source = VllmSampler("m", LetterPairs(), end_tokens=[END], max_model_len=20)
    Engine.completions = [
        [
            Output(1, (0, 1, 2), "aaa", "stop", "bac"),
            Output(0, (0, 1, END), "aaab", "stop", END),
            Output(2, (0, 1), "aaab", "stop"),  # the model's own end of sequence, 1
            Output(3, (2, 2), "acac", "length"),
        ]
    ]
    for sampling in (Sampling(stop=("bac",), max_new_tokens=5), Sampling(0.5, stop=("bac",), max_new_tokens=5)):
        (found,) = source.sample([(1, 2)], 4, sampling, keys=[8])
        common = {"sampling": sampling, "key": 8}

        def rollout(index: int, tokens: tuple[int, ...], text: str, count: int, finish: Any, common: Any) -> Rollout:
            logprobs = tuple(-token / 10 for token in tokens)
            own = logprobs if common["sampling"].temperature == 1 else None
            return Rollout(tokens, logprobs, own, text, count, finish, index=index, **common)

        assert found == [
            rollout(0, (0, 1, END), "aaab", 2, "end", common),
            rollout(1, (0, 1, 2), "aaa", 1, "stop", common),
            rollout(2, (0, 1), "aa", 1, "end", common),
            rollout(3, (2, 2), "acac", 2, "length", common),
        ]
    Engine.completions = [[Output(0, (0,), "aa", "abort")]]
    with pytest.raises(ModelError, match="for the reason 'abort'"):
        list(source.sample([(1, 2)], 1, Sampling(max_new_tokens=5)))


def test_prompts_are_checked_before_anything_is_asked(vllm: None) -> None:
    source = VllmSampler("m", LetterPairs(), end_tokens=[END], max_model_len=20)
    with pytest.raises(PackingError, match="prompt 0 is empty"):
        source.sample([()], 1, Sampling(max_new_tokens=5))
    with pytest.raises(PackingError, match="prompt 0 needs 21 tokens with a completion, and max_model_len is 20"):
        source.sample([(1,) * 16], 1, Sampling(max_new_tokens=5))


def test_both_samplers_have_one_interface() -> None:
    """mypy checks the types where a `RolloutSampler` is asked for; here, that the names of the arguments are the
    same.
    """
    import inspect

    names = [list(inspect.signature(kind.sample).parameters) for kind in (RolloutSampler, Sampler, VllmSampler)]
    assert names[0] == names[1] == names[2]
