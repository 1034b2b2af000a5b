"""`eval divergence`: its figures by hand and in closed form, its log-probabilities against stock transformers,
refusals, the command.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import LlamaForCausalLM

import palmette.evaluate.divergence.measure as command
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.errors import ModelError, PackingError, RecipeError, RunError
from palmette.evaluate.divergence.measure import DivergenceSettings, measure_divergence
from palmette.inference.names import ModelSource
from palmette.model import loading
from palmette.model.loading import weights_hash
from palmette.rollouts.batch import RolloutBatch
from palmette.rollouts.maker import RolloutMaker
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.sampling import Rollout, Sampling
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import load_prompt
from palmette.tree.chat import ChatTemplate
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.models import tiny_llama
from tests.support.tokenizers import CHATML, STYLES

FEW = DivergenceSettings(samples=3, max_new_tokens=6, seed=4)
FIGURES = {
    "completion_kl",
    "completion_kl_k3",
    "token_kl",
    "token_kl_k3",
    "entropy",
    "completion_tokens",
    "ended",
    "reward",
    "sampled_exact",
    "sampled_f1",
    "sampled_valid_json",
    "sampled_abstention",
    "sampled_abstained",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Two documents with two questions and one."""
    return read_source(str(squad_file(tmp_path_factory.mktemp("data") / "squad.json")))


@pytest.fixture(scope="module")
def base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("base"), tiny(tokenizer), tokenizer)


@pytest.fixture(scope="module")
def policy(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base with noise on its weights; a quarter of the vocabulary ends a completion."""
    model = tiny(tokenizer)
    model.generation_config.eos_token_id = list(range(len(tokenizer) // 4))
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return saved(tmp_path_factory.mktemp("policy"), model, tokenizer)


def tiny(tokenizer: Any) -> Any:
    return tiny_llama(torch.float32, vocab_size=len(tokenizer), initializer_range=0.1)


def saved(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models by name are computed in float32, also where the machine multiplies bfloat16."""
    monkeypatch.setattr(loading, "fast_dtype", lambda _: torch.float32)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[RolloutBatch]:
    """All batches of rollouts, as they are made."""
    seen: list[RolloutBatch] = []
    make = RolloutMaker.make

    def spy(self: RolloutMaker, asked: Any, number: int) -> RolloutBatch:
        seen.append(make(self, asked, number))
        return seen[-1]

    monkeypatch.setattr(RolloutMaker, "make", spy)
    return seen


def by_hand(folder: Path, tokenizer: Any, source: DataSet, drawn: list[RolloutBatch]) -> list[float]:
    """Log-probabilities of all completions, each in a row of its own after its whole prompt, through transformers as
    it is.
    """
    model, task = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32), ExtractiveQa(ChatTemplate(tokenizer))
    prompts = [task.prompt_tokens(document, q) for document in source.documents for q in document.questions]
    samples = [sample for rollouts in drawn for sample in rollouts.samples]
    found = []
    for index, sample in enumerate(samples):
        prompt = prompts[index // FEW.samples]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *sample.tokens]])).logits[0].double()
        predicted = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
        found.append(float(sum(predicted[place, token] for place, token in enumerate(sample.tokens))))
    return found


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("parts", [1, 8])
def test_completions_score_as_in_rows_of_their_own(
    base: Path,
    policy: Path,
    tokenizer: Any,
    source: DataSet,
    drawn: list[RolloutBatch],
    monkeypatch: pytest.MonkeyPatch,
    parts: int,
) -> None:
    """Both models, each completion; so the divergence is the mean of the differences.

    In float32, of sums around 15 nats.
    """
    monkeypatch.setattr(command, "_PARTS", parts)
    found = measure_divergence(str(policy), str(base), source, FEW)
    assert len(drawn) == (2 if parts == 1 else 1)
    assert len({sample.finish for rollouts in drawn for sample in rollouts.samples}) == 2
    ours, theirs = (by_hand(folder, tokenizer, source, drawn) for folder in (policy, base))
    assert [one.logprob for one in found.completions] == pytest.approx(ours, abs=1e-3)
    assert [one.reference_logprob for one in found.completions] == pytest.approx(theirs, abs=1e-3)
    gaps = [p - q for p, q in zip(ours, theirs, strict=True)]
    assert max(map(abs, gaps)) > 0.3
    assert found.measures["completion_kl"] == pytest.approx(sum(gaps) / 9, abs=1e-3)
    num_tokens = sum(len(sample.tokens) for rollouts in drawn for sample in rollouts.samples)
    assert found.measures["token_kl"] == pytest.approx(sum(gaps) / num_tokens, abs=1e-3)
    assert found.measures["entropy"] == pytest.approx(-sum(ours) / num_tokens, abs=1e-3)
    assert found.measures["completion_tokens"] == pytest.approx(num_tokens / 9)
    assert [(one.question, one.sample) for one in found.completions] == [
        (q, n) for q in ("q1", "q2", "q3") for n in range(3)
    ]
    assert found.to_json()["made_by"]["reference"]["weights"] == weights_hash(str(base))


def test_how_completions_are_batched_changes_no_draw(
    base: Path, policy: Path, source: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = measure_divergence(str(policy), str(base), source, FEW)
    monkeypatch.setattr(command, "_PARTS", 1)
    apart = measure_divergence(str(policy), str(base), source, FEW)
    assert [one.text for one in apart.completions] == [one.text for one in together.completions]
    other = measure_divergence(str(policy), str(base), source, replace(FEW, seed=5))
    assert [one.text for one in other.completions] != [one.text for one in together.completions]


def test_a_policy_is_exactly_0_away_from_itself(policy: Path, source: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PARTS", 1)
    found = measure_divergence(str(policy), str(policy), source, FEW)
    for name in ("completion_kl", "completion_kl_k3", "token_kl", "token_kl_k3"):
        assert found.measures[name] == 0.0
        assert found.intervals[name] == (0.0, 0.0)
    assert {one.kl for one in found.completions} == {one.kl_k3 for one in found.completions} == {0.0}
    assert found.measures["entropy"] > 1


def constant(folder: Path, tokenizer: Any, probabilities: dict[int, float]) -> Path:
    """A model that gives these tokens these probabilities wherever it is asked; token 5 ends a completion.

    Every embedding is a vector of ones, no layer adds anything to it, and the last norm leaves it as it is (but for its
    epsilon), so row v of the output layer gives hidden size * weight. What is not named has about e^-30.
    """
    model = tiny(tokenizer)
    logit_V = torch.full((len(tokenizer),), -30.0)
    for token, probability in probabilities.items():
        logit_V[token] = math.log(probability)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(1.0)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.copy_((logit_V / model.config.hidden_size)[:, None].expand_as(model.lm_head.weight))
    model.generation_config.eos_token_id = 5
    return saved(folder, model, tokenizer)


@pytest.mark.usefixtures("float32")
def test_a_known_shift_of_the_probabilities(
    tokenizer: Any, source: DataSet, drawn: list[RolloutBatch], tmp_path: Path
) -> None:
    """Tokens 10, 11 and the end come with p = 0.5, 0.3, 0.2 under the policy, and q = 0.25, 0.5, 0.25 under the
    reference.

    A completion has (1 - 0.8^4) / 0.2 = 2.952 of at most 4 tokens on average, and each is worth KL(p || q) = 0.5 ln 2 +
    0.3 ln 0.6 + 0.2 ln 0.8 = 0.1487 nats (Wald's identity): 0.439 nats a completion. The entropy is 1.030 nats a token.
    A completion's log ratio deviates by about 1, so the mean of 900 by 0.033; four of these are allowed.
    """
    p, q = {10: 0.5, 11: 0.3, 5: 0.2}, {10: 0.25, 11: 0.5, 5: 0.25}
    folders = [constant(tmp_path / name, tokenizer, values) for name, values in (("p", p), ("q", q))]
    settings = DivergenceSettings(samples=300, max_new_tokens=4, tokens_per_batch=8192)
    found = measure_divergence(str(folders[0]), str(folders[1]), source, settings)
    said = [sample.tokens for rollouts in drawn for sample in rollouts.samples]
    assert {token for tokens in said for token in tokens} == {5, 10, 11}
    ratios = [sum(math.log(p[token] / q[token]) for token in tokens) for tokens in said]
    assert [one.kl for one in found.completions] == pytest.approx(ratios, abs=1e-4)
    k3 = [sum(q[token] / p[token] - 1 + math.log(p[token] / q[token]) for token in tokens) for tokens in said]
    assert [one.kl_k3 for one in found.completions] == pytest.approx(k3, abs=1e-4)
    divergence = sum(share * math.log(share / q[token]) for token, share in p.items())
    for name in ("completion_kl", "completion_kl_k3"):
        assert found.measures[name] == pytest.approx(2.952 * divergence, abs=0.13)
    assert found.measures["completion_tokens"] == pytest.approx(2.952, abs=0.16)
    assert found.measures["ended"] == pytest.approx(1 - 0.8**4, abs=0.07)
    assert found.measures["entropy"] == pytest.approx(1.030, abs=0.05)


# What is said to questions 0, 1 and 2: granite; nobody knows; 7:40.
SAID = (
    ('{"answer": "granite"}', '{"answer": "?"}'),
    ('{"answer": "?"}', "7"),
    ('{"answer": "7:40 from"}', '{"answer": "7:40"}'),
)


def test_what_sampled_completions_earn(
    base: Path, tokenizer: Any, source: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact: 1 0, 1 0, 0 1. F1: 1 0, 1 0, 2/3 1, since "7:40 from" has one word too many.

    All but "7" are valid, and that one was cut.
    """

    def sample(
        self: Sampler, prompts: Any, num_samples: int, sampling: Sampling, *, keys: Any
    ) -> Iterator[list[Rollout]]:
        for key in keys:
            yield [rollout(text, sampling, key, index) for index, text in enumerate(SAID[key])]

    def rollout(text: str, sampling: Sampling, key: int, index: int) -> Rollout:
        whole = text != "7"
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] * whole
        return Rollout(
            tuple(tokens),
            (0.0,) * len(tokens),
            None,
            text,
            len(tokens) - whole,
            "end" if whole else "length",
            sampling,
            key,
            index,
        )

    monkeypatch.setattr(Sampler, "sample", sample)
    settings = DivergenceSettings(rewards={"exact": 1.0, "valid_json": 0.5})
    found = measure_divergence(str(base), str(base), source, settings)
    assert found.measures.keys() == FIGURES
    expected = {
        "sampled_exact": 3 / 6,
        "sampled_f1": (3 + 2 / 3) / 6,
        "sampled_valid_json": 5 / 6,
        "sampled_abstention": 4 / 6,
        "sampled_abstained": 2 / 6,
        "ended": 5 / 6,
        "reward": (3 + 0.5 * 5) / 6,
    }
    assert {name: found.measures[name] for name in expected} == pytest.approx(expected)
    assert [one.text for one in found.completions] == [text for texts in SAID for text in texts]


@pytest.fixture(scope="module")
def run_folder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with an adapter on the base, and a prompt that is not the default one."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = {
        "output": str(folder / "run"),
        "model": {"name": str(base), "dtype": "float32"},
        "data": {"train": [str(squad_file(folder / "train.json"))]},
        "prompt": {"name": "json_think"},
        "train": {"epochs": 2, "learning_rate": 0.05, "warmup": 0.0},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        assert palmette(patch, "train", "sft", folder / "recipe.yaml") == 0
    return folder / "run"


def test_the_command_writes_all_or_nothing(
    run_folder: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = squad_file(tmp_path / "dev.json"), tmp_path / "out"
    words: list[str | Path] = ["eval", "divergence", "--model", run_folder, "--reference", base, "--data", data]
    words += ["--out", out, "--samples", "2", "--max-new-tokens", "5", "--limit", "1", "--seed", "3"]
    words += ["--reward", "f1=2"]
    assert palmette(monkeypatch, *words) == 0
    shown = capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"divergence.json", "completions.jsonl"}
    written = json.loads((out / "divergence.json").read_text())
    assert FIGURES | {"intervals", "documents", "questions", "completions", "made_by"} == written.keys()
    assert (written["documents"], written["questions"], written["completions"], written["intervals"]) == (1, 2, 4, {})
    made_by = written["made_by"]
    assert made_by["prompt_sha256"] == load_prompt("json_think").sha256
    assert made_by["model"]["weights"] == weights_hash(str(run_folder / "adapter"))
    assert made_by["model"]["base_sha256"] == made_by["reference"]["weights"] == weights_hash(str(base))
    assert made_by["settings"]["rewards"] == {"f1": 2.0}
    lines = [json.loads(line) for line in (out / "completions.jsonl").read_text().splitlines()]
    assert [(line["question"], line["sample"]) for line in lines] == [("q1", 0), ("q1", 1), ("q2", 0), ("q2", 1)]
    assert max(abs(line["kl"]) for line in lines) > 1e-3
    assert all(line["kl"] == line["logprob"] - line["reference_logprob"] for line in lines)
    assert written["completion_kl"] == pytest.approx(sum(line["kl"] for line in lines) / 4)
    assert all(line["reward"] == 2 * line["rewards"]["f1"] for line in lines)
    (row,) = re.findall(
        r"^KL divergence from the reference, nats per completion[ │]+(-?\d+\.\d{3})", shown, re.MULTILINE
    )
    assert float(row) == pytest.approx(written["completion_kl"], abs=6e-4)
    assert palmette(monkeypatch, *words) == 2
    assert "exists already" in capsys.readouterr().err


def test_memory_holds_one_model_at_a_time(
    run_folder: Path, base: Path, source: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the second is opened, the first is gone; a run is opened with its adapter beside the base, not merged
    into it.
    """
    opened: list[Any] = []
    held: list[bool] = []
    load_source = command.load_source

    def spy(model: ModelSource, **options: Any) -> Any:
        held.append(any(model() is not None for model in opened))
        loaded = load_source(model, **options)
        opened.append(weakref.ref(loaded.model))
        assert hasattr(loaded.model, "peft_config") == (model.name == str(run_folder))
        return loaded

    monkeypatch.setattr(command, "load_source", spy)
    measure_divergence(str(run_folder), str(base), source, FEW)
    assert held == [False, False]


def test_a_reference_that_reads_otherwise_is_refused(
    base: Path, policy: Path, tokenizer: Any, source: DataSet, tmp_path: Path
) -> None:
    """Another vocabulary; and the same one under a template of other words."""
    shutil.copytree(base, tmp_path / "vocabulary")
    STYLES["qwen"]().save_pretrained(tmp_path / "vocabulary")
    with pytest.raises(ModelError, match="has other tokens than the policy"):
        measure_divergence(str(policy), str(tmp_path / "vocabulary"), source, FEW)
    shutil.copytree(base, tmp_path / "template")
    path = tmp_path / "template" / "chat_template.jinja"
    assert path.read_text() == CHATML
    path.write_text(CHATML.replace("{{ m.role }}\n", "{{ m.role }}:").replace("assistant\n", "assistant:"))
    with pytest.raises(ModelError, match="reads the prompt of question 'q1' as other tokens than the policy"):
        measure_divergence(str(policy), str(tmp_path / "template"), source, FEW)


def test_what_cannot_be_measured_is_refused_before_a_model_is_loaded(
    run_folder: Path, base: Path, source: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "load_source", lambda *_, **__: pytest.fail("a model was loaded"))
    shutil.copytree(run_folder, tmp_path / "unfinished")
    shutil.rmtree(tmp_path / "unfinished" / "adapter")
    shutil.copytree(run_folder, tmp_path / "reward")
    (tmp_path / "reward" / "adapter" / "reward_head.safetensors").touch()
    for error, message, reference, rewards in (
        (RunError, "is not finished", "unfinished", {"exact": 1.0}),
        (RunError, "is a reward model, which gives no answers", "reward", {"exact": 1.0}),
        (RecipeError, "there is no reward 'exakt'", "", {"exakt": 1.0}),
        (RecipeError, "no reward has a weight", "", {"exact": 0.0}),
    ):
        with pytest.raises(error, match=message):
            measure_divergence(str(run_folder), str(tmp_path / reference), source, replace(FEW, rewards=rewards))


def test_questions_that_do_not_fit_are_refused(base: Path, source: DataSet) -> None:
    with pytest.raises(
        PackingError, match="3 questions do not fit, first: question 'q1' with 3 completions needs up to"
    ):
        measure_divergence(str(base), str(base), source, replace(FEW, tokens_per_batch=64))
