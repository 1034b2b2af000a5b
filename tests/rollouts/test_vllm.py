"""The sampler for vLLM, against a stand-in that speaks vLLM's protocol: what is asked, what becomes of the answers,
and what is refused.
"""

from __future__ import annotations

import inspect
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from palmette.config.sections import LoraSection
from palmette.endpoint.errors import EndpointError
from palmette.errors import ModelError, PackingError, RecipeError
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.sampling import Rollout, RolloutSampler, Sampling
from palmette.rollouts.vllm import VllmSampler, VllmServer, check_adapter
from tests.support.tokenizers import LetterPairs
from tests.support.vllm_server import MAX_MODEL_LEN, VllmStandIn, choice

END = 9


class Policy:
    """Writes the least that a server looks for, and keeps where."""

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def save_pretrained(self, folder: Path) -> None:
        self.folders.append(folder)
        (folder / "adapter_config.json").write_text("{}")


class Scripted(VllmStandIn):
    """Loads nothing, and gives the choices that it is told."""

    def load(self, body: dict[str, Any]) -> str:
        if body.get("lora_path"):
            assert (Path(body["lora_path"]) / "adapter_config.json").is_file()
            self.present.add(body["lora_name"])
        return "Success"


def sampler(server: VllmStandIn, folder: Path, policy: Any = None) -> VllmSampler:
    found = VllmServer(server.url, "m")
    return VllmSampler(policy or Policy(), LetterPairs(), found, end_tokens={END}, folder=folder)


def unused_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_a_server_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ModelError,
        match=r"/v1 cannot be reached \(connection refused.*\), and torch sees no GPU on this machine.*"
        r"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve m --enable-lora.*take rollouts\.sampler out",
    ):
        VllmServer(unused_url(), "m")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ModelError) as found:
        VllmServer(unused_url(), "m")
    assert "sees no GPU" not in str(found.value)


def test_a_server_that_cannot_help_is_refused(tmp_path: Path) -> None:
    with VllmStandIn(tmp_path, served_as="other") as server:
        with pytest.raises(ModelError, match=r"serves 'other', and 'm' is trained"):
            VllmServer(server.url, "m")
        assert VllmServer(server.url, str(tmp_path)).max_model_len == MAX_MODEL_LEN  # the folder, by another name
        with pytest.raises(ModelError, match=r"is no vLLM server: /models gives 404 \{'detail': 'Not Found'\}"):
            VllmServer(server.url + "/deeper", "m")
    with (
        VllmStandIn(tmp_path, served_as="m", updates=False) as server,
        pytest.raises(ModelError, match=r"loads no adapters while it runs.*VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    ):
        VllmServer(server.url, "m")


def test_the_key_is_the_one_that_vllm_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    with VllmStandIn(tmp_path, served_as="m") as server:
        VllmServer(server.url.removesuffix("/v1"), "m")  # the path is added
        assert {headers["authorization"] for headers in server.headers} == {"Bearer secret"}
        monkeypatch.setenv("VLLM_API_KEY", "two words\u00e9")
        with pytest.raises(EndpointError, match="VLLM_API_KEY holds no API key"):
            VllmServer(server.url, "m")


def test_what_is_asked(tmp_path: Path) -> None:
    """Prompts as tokens, never as text; nothing is left to the model's own settings of sampling."""
    with Scripted(tmp_path, served_as="m", choices=lambda body: [choice(i, [2], [-1.0], "length") for i in (1, 0)]) as (
        server
    ):
        source: RolloutSampler = sampler(server, tmp_path / "run")
        sampling = Sampling(0.7, 0.9, 12, ("x", "yz"), seed=3)
        found = list(source.sample([(1, 2), [3]], 2, sampling, keys=[5, 6]))
        assert [[rollout.index for rollout in of_prompt] for of_prompt in found] == [[0, 1], [0, 1]]
        assert found[0][0].sampling_logprobs is None
        list(source.sample([(3,), (1, 2)], 2, sampling, keys=[6, 5]))
    asked = {(number, tuple(body["prompt"])): body for number, body in zip((0, 0, 1, 1), server.asked, strict=True)}
    names = [asked[number, (3,)].pop("model") for number in (0, 1)]
    assert names[0] != names[1]  # so that nothing cached under earlier weights is used
    assert asked[0, (3,)]["seed"] == asked[1, (3,)]["seed"] != asked[0, (1, 2)]["seed"]
    assert asked[0, (3,)].pop("seed") < 2**63
    assert asked[0, (3,)] == {
        "prompt": [3],
        "n": 2,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "max_tokens": 12,
        "stop": ["x", "yz"],
        "stop_token_ids": [END],
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }


def test_what_the_server_says_becomes_rollouts(tmp_path: Path) -> None:
    """Tokens 0, 1, 2 say "aa", "ab", "ac": the stop string "bac" cuts two tokens to the text "aaa"."""
    told = [
        choice(1, [0, 1, 2], [-0.1, -0.2, -0.3], "stop", "bac"),
        choice(0, [0, 1, END], [-0.1, -0.2, -0.9], "stop", END),
        choice(2, [2, 2], [-0.5, -0.6], "length"),
    ]
    sampling = Sampling(stop=("bac",), max_new_tokens=5)
    with Scripted(tmp_path, served_as="m", choices=lambda _: told) as server:
        (found,) = sampler(server, tmp_path / "run").sample([(1, 2)], 3, sampling, keys=[8])

    def rollout(index: int, tokens: tuple[int, ...], logprobs: Any, text: str, count: int, finish: Any) -> Rollout:
        return Rollout(tokens, logprobs, logprobs, text, count, finish, sampling, 8, index)

    assert found == [
        rollout(0, (0, 1, END), (-0.1, -0.2, -0.9), "aaab", 2, "end"),
        rollout(1, (0, 1, 2), (-0.1, -0.2, -0.3), "aaa", 1, "stop"),
        rollout(2, (2, 2), (-0.5, -0.6), "acac", 2, "length"),
    ]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ([choice(0, [0], [-0.1], "abort")], "for the reason 'abort'"),
        ([choice(0, [0, 1], [-0.1], "length")], "do not belong to its tokens"),
        ([{**choice(0, [0], [-0.1], "length"), "logprobs": None}], "do not belong to its tokens"),
        ([choice(0, [0, 1], [-0.1, None], "length")], "do not belong to its tokens"),  # type: ignore[list-item]
        ([{"token_ids": [0]}], r"gives no completions: 200 .*'choices'"),
        (None, r"gives no completions: 200 .*'choices': None"),
        ([{**choice(0, [0], [-0.1], "length"), "token_ids": None}], "gives 1 completions for 1, or no token ids"),
        ([], "gives 0 completions for 1"),
    ],
)
def test_an_answer_that_cannot_be_used_is_an_error_and_leaves_nothing(tmp_path: Path, told: Any, message: str) -> None:
    policy = Policy()
    with Scripted(tmp_path, served_as="m", choices=lambda _: told) as server:
        with pytest.raises(ModelError, match=message):
            list(sampler(server, tmp_path / "run", policy).sample([(1, 2)], 1, Sampling(max_new_tokens=5)))
        assert not server.present
    assert len(policy.folders) == 1
    assert not policy.folders[0].exists()


def test_an_adapter_that_the_server_refuses_is_an_error(tmp_path: Path) -> None:
    class Nothing:
        def save_pretrained(self, folder: Path) -> None:
            """Write nothing."""

    with VllmStandIn(tmp_path, served_as="m") as server:
        source = sampler(server, tmp_path / "run", Nothing())
        with pytest.raises(ModelError, match=r"refuses /load_lora_adapter: 404 Loading lora .* No adapter found for"):
            list(source.sample([(1, 2)], 1, Sampling(max_new_tokens=5)))


def test_prompts_are_checked_before_anything_is_asked(tmp_path: Path) -> None:
    with VllmStandIn(tmp_path, served_as="m") as server:
        source = sampler(server, tmp_path / "run")
        with pytest.raises(PackingError, match="prompt 0 is empty"):
            source.sample([()], 1, Sampling(max_new_tokens=5))
        with pytest.raises(PackingError, match="needs 2049 tokens with a completion, and max_model_len of the vLLM"):
            source.sample([(1,) * (MAX_MODEL_LEN - 4)], 1, Sampling(max_new_tokens=5))
        assert list(source.sample([], 1, Sampling(max_new_tokens=5))) == []
        assert not server.loaded


@pytest.mark.parametrize(
    ("method", "lora", "reasoning", "key"),
    [
        ("full", {}, "none", "train.method: full"),
        ("lora", {"dora": True}, "none", "lora.dora: true"),
        ("lora", {"rank_pattern": {"q_proj": 2}}, "none", "lora.rank_pattern"),
        ("lora", {"alpha_pattern": {"q_proj": 2.0}}, "none", "lora.alpha_pattern"),
        ("lora", {}, "pause", "reasoning.kind: pause"),
    ],
)
def test_what_vllm_cannot_read_is_refused(method: str, lora: dict[str, Any], reasoning: str, key: str) -> None:
    with pytest.raises(RecipeError, match=f"rollouts.sampler = vllm and {key} exclude each other"):
        check_adapter(method, LoraSection(**lora), reasoning)
    check_adapter("lora", LoraSection(), "none")


def test_all_samplers_have_one_interface() -> None:
    """mypy checks the types where a `RolloutSampler` is asked for; here, that the names of the arguments are the
    same.
    """
    names = [list(inspect.signature(kind.sample).parameters) for kind in (RolloutSampler, Sampler, VllmSampler)]
    assert names[0] == names[1] == names[2]
