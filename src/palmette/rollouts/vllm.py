"""Rollouts from vLLM, behind the interface of `palmette.rollouts.sampling`. Optional, and only for a GPU.

It is meant for programs: give it to `RolloutMaker` or `PreferenceMaker` instead of `Sampler`. No recipe and no command
uses it, for two reasons. It has not been run on a GPU yet. Its arguments and results follow vLLM's documentation, and
the tests use a stand-in. And vLLM reads weights from disk into its own memory. So a policy in training would have to be
saved and loaded again for each batch of rollouts, and a second copy of it would fill the GPU.

Its kernels differ from ours, so its log-probabilities are near those of the training forward pass but not equal, and
the same seed draws other completions. Not covered: placeholders, weights that change in place, several machines.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palmette.errors import ModelError
from palmette.rollouts.sampling import Finish, Rollout, Sampling, check_prompts, checked_keys, completion_text

_INSTEAD = "Or sample with palmette.rollouts.sampler.Sampler, which needs neither."


class VllmSampler:
    """Samples completions of prompts with vLLM.

    Args:
        model: a folder of plain weights (`palmette merge` makes one) or a hub id.
        tokenizer: its tokenizer, for texts.
        end_tokens: tokens that end a completion, such as the template's end of a turn. vLLM adds those of the model.
        max_model_len: most tokens of a prompt with its completion.
        adapter: a LoRA adapter in PEFT's form to put on the model.
        options: further arguments of `vllm.LLM`, such as dtype or gpu_memory_utilization.

    Raises:
        ModelError: vLLM is not installed, or there is no GPU for it.
    """

    def __init__(
        self,
        model: str | Path,
        tokenizer: Any,
        *,
        end_tokens: Collection[int],
        max_model_len: int,
        adapter: Path | None = None,
        **options: Any,
    ) -> None:
        self._vllm = _load_vllm()
        self._tokenizer = tokenizer
        self._end_tokens, self._max_model_len = sorted(end_tokens), max_model_len
        self._engine = self._vllm.LLM(
            model=str(model),
            max_model_len=max_model_len,
            logprobs_mode="raw_logprobs",  # before temperature and top_p
            enable_prefix_caching=True,
            generation_config="vllm",  # not the model's own penalties
            **({"enable_lora": True} if adapter else {}),
            **options,
        )
        self._lora = None
        if adapter:
            self._lora = importlib.import_module("vllm.lora.request").LoRARequest("adapter", 1, str(adapter))

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
        """
        keys = checked_keys(len(prompts), num_samples, keys)
        check_prompts(prompts, sampling, self._max_model_len, "max_model_len")
        requests = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        params = [self._params(num_samples, sampling, key) for key in keys]
        results = self._engine.generate(requests, params, use_tqdm=False, lora_request=self._lora)
        return self._rollouts(results, sampling, keys)

    def _params(self, num_samples: int, sampling: Sampling, key: int) -> Any:
        """The parameters of one request. vLLM derives the seeds of its samples from this seed."""
        return self._vllm.SamplingParams(
            n=num_samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            stop=list(sampling.stop),
            stop_token_ids=self._end_tokens,
            seed=int(np.random.SeedSequence((sampling.seed, key)).generate_state(1)[0]),
            logprobs=0,  # of the drawn token alone
            skip_special_tokens=False,
            spaces_between_special_tokens=False,
        )

    def _rollouts(self, results: Sequence[Any], sampling: Sampling, keys: Sequence[int]) -> Iterator[list[Rollout]]:
        for result, key in zip(results, keys, strict=True):
            outputs = sorted(result.outputs, key=lambda output: output.index)
            yield [self._rollout(output, sampling, key) for output in outputs]

    def _rollout(self, output: Any, sampling: Sampling, key: int) -> Rollout:
        tokens = tuple(int(token) for token in output.token_ids)
        logprobs = tuple(float(step[token].logprob) for token, step in zip(tokens, output.logprobs, strict=True))
        finish = _finish(output)
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
            index=int(output.index),
        )


def _finish(output: Any) -> Finish:
    """Why a completion ended, in our words.

    Raises:
        ModelError: vLLM aborted it.
    """
    if output.finish_reason == "length":
        return "length"
    if output.finish_reason == "stop":
        return "stop" if isinstance(output.stop_reason, str) else "end"
    raise ModelError(f"vLLM ended a completion for the reason {output.finish_reason!r}", "Look at its log.")


def _load_vllm() -> Any:
    """The module, if it can run here.

    Raises:
        ModelError: it is not installed, or there is no GPU.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ModelError("vLLM is not installed", f"On a machine with an NVIDIA GPU: pip install vllm. {_INSTEAD}")
    if not torch.cuda.is_available():
        raise ModelError("vLLM needs a GPU, and torch sees none", _INSTEAD)
    return importlib.import_module("vllm")
