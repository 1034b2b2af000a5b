"""Publishing: merged weights compute what the adapter does; what is uploaded is whole, true, and says nothing of
this machine.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from palmette.data.source import read_source
from palmette.errors import RunError
from palmette.publish.card import escape, model_card
from palmette.publish.folder import EXAMPLE, describe_publication, read_finished_run
from palmette.publish.hub import check_name
from palmette.publish.joined_tokens import JoinedPrompts, count_joined
from palmette.publish.merge import merge_run
from palmette.publish.public import hub_base, public_recipe, sources_of
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.chat import ChatTemplate
from palmette.tree.segments import decode_tokens
from tests.support.command import BASE, palmette, push
from tests.support.data import squad_file
from tests.support.publishing import adapted, logits, plain
from tests.support.recipes import sft_recipe
from tests.support.tokenizers import LLAMA3


@pytest.fixture(scope="module")
def staged(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("push") / "staged"
    with pytest.MonkeyPatch.context() as patch:
        assert push(patch, trained, "--evaluation", trained.parent / "eval", "--dry-run", out) == 0
    return out


def test_a_dry_run_writes_what_would_be_uploaded(staged: Path, trained: Path, tiny_folder: Path) -> None:
    assert {path.name for path in staged.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "calibration.json",
        "manifest.json",
        "recipe.yaml",
    }
    assert json.loads((staged / "adapter_config.json").read_text())["base_model_name_or_path"] == BASE
    want, got = logits(adapted(tiny_folder, trained / "adapter")), logits(adapted(tiny_folder, staged))
    assert torch.equal(got, want)


def test_nothing_of_this_machine_is_published(staged: Path, trained: Path, tiny_folder: Path) -> None:
    texts = [path.read_text() for path in staged.iterdir() if path.suffix != ".safetensors"]
    assert str(trained.parent / "secret.json") in (trained / "manifest.json").read_text()
    for text in texts:
        for place in (trained.parent, tiny_folder, Path.home()):
            assert f"{place}/" not in text
    manifest = json.loads((staged / "manifest.json").read_text())
    assert not {"command", "machine", "dropped"} & manifest.keys()
    assert [part["source"] for part in manifest["data"]] == ["secret.json", "builtin:dev"]


def test_the_metadata_are_what_the_hub_reads(staged: Path, trained: Path) -> None:
    card = ModelCard.load(staged / "README.md")
    metrics = json.loads((trained.parent / "eval" / "metrics.json").read_text())
    data = card.data.to_dict()
    index = data.pop("model-index")
    assert data == {
        "base_model": BASE,
        "base_model_relation": "adapter",
        "library_name": "peft",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "tags": ["palmette", "extractive-question-answering", "lora"],
    }
    assert [result.metric_type for result in card.data.eval_results] == ["exact_match", "f1"]
    assert [result.metric_value for result in card.data.eval_results] == [metrics["exact"], metrics["f1"]]
    assert {result.dataset_name for result in card.data.eval_results} == {"builtin:test"}
    assert index[0]["name"] == "harbour"


def test_the_card_tells_figures_data_recipe_and_licences(staged: Path, trained: Path) -> None:
    card = (staged / "README.md").read_text()
    metrics = json.loads((trained.parent / "eval" / "metrics.json").read_text())
    assert (metrics["f1"], metrics["intervals"]["f1"]) == (0.0, [0.0, 0.0])  # so its interval says nothing
    assert "| F1 | 0 |" in card
    manifest = json.loads((trained / "manifest.json").read_text())
    for part, name, licence in zip(
        manifest["data"], ("secret.json", "builtin:dev"), ("mit", "apache-2.0"), strict=True
    ):
        assert f"| {name} | {part['documents']} | {part['questions']} | {licence} | `{part['sha256']}` |" in card
    block = re.search(r"```yaml\n(.*?)\n```", card, flags=re.DOTALL)
    assert block is not None
    assert yaml.safe_load(block[1]) == yaml.safe_load((staged / "recipe.yaml").read_text())
    told = yaml.safe_load(block[1])
    assert (told["model"]["name"], told["train"]["learning_rate"]) == (BASE, 0.05)
    for heading in ("Figures", "Training data", "Use", "Intended use and limits", "Recipe", "Licence"):
        assert f"\n## {heading}\n" in card


def test_the_prompt_of_the_card_is_that_of_the_training(staged: Path, tiny_folder: Path) -> None:
    """Its Python runs as far as the model's name allows, and the prompt has the very tokens of training."""
    card = (staged / "README.md").read_text()
    block = re.search(r"```python\n(.*?)\n```", card, flags=re.DOTALL)
    assert block is not None
    tree = ast.parse(block[1])
    assigned = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    task = ExtractiveQa(ChatTemplate(tokenizer))
    want = task.prompt_tokens(EXAMPLE, EXAMPLE.questions[0])
    assert tokenizer(ast.literal_eval(assigned["prompt"]), add_special_tokens=False)["input_ids"] == want
    assert 'AutoPeftModelForCausalLM.from_pretrained("me/harbour")' in block[1].replace("'", '"')


def test_the_commands_of_the_card_lead_back_to_the_run(
    staged: Path, trained: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downloaded and moved as the card says; only the base's name is put back, since nobody has uploaded it."""
    card = (staged / "README.md").read_text()
    assert "hf download me/harbour --local-dir runs/harbour/adapter\nmv runs/harbour/adapter/recipe.yaml" in card
    run = tmp_path / "harbour"
    shutil.copytree(staged, run / "adapter")
    for name in ("recipe.yaml", "manifest.json"):
        (run / "adapter" / name).rename(run / name)
    (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text().replace(BASE, str(tiny_folder)))
    data = squad_file(tmp_path / "d.json")
    for model, out in ((trained, "a"), (run, "b")):
        assert palmette(monkeypatch, "eval", "squad", "--model", model, "--data", data, "--out", tmp_path / out) == 0
    assert (tmp_path / "a" / "na_prob.json").read_text() == (tmp_path / "b" / "na_prob.json").read_text()


def test_a_merged_and_a_full_model_are_pushed_as_plain_models(
    trained: Path, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert push(monkeypatch, trained, "--merged", "--dry-run", tmp_path / "merged") == 0
    assert push(monkeypatch, full, "--dry-run", tmp_path / "full") == 0
    merge_run(trained, tmp_path / "want")
    for name, want in (("merged", tmp_path / "want"), ("full", full / "model")):
        assert torch.equal(logits(plain(tmp_path / name)), logits(plain(want)))
        data = ModelCard.load(tmp_path / name / "README.md").data
        assert (data.library_name, data.base_model_relation) == ("transformers", "finetune")
        assert not (tmp_path / name / "calibration.json").exists()
        assert "None were given" in (tmp_path / name / "README.md").read_text()
    assert push(monkeypatch, full, "--merged", "--dry-run", tmp_path / "o") == 2


class FakeHub:
    """Records what is asked of the hub."""

    calls: list[tuple[str, dict[str, Any]]]
    exists_public = False

    def __init__(self) -> None:
        pass

    def create_repo(self, repo_id: str, **options: Any) -> str:
        if self.exists_public and not options["exist_ok"]:
            raise OSError("409 Client Error: Conflict\nyou already created this model repo")
        self.calls.append(("create", {"repo_id": repo_id, **options}))
        return f"https://hub.example/{repo_id}"

    def repo_info(self, repo_id: str) -> Any:
        return SimpleNamespace(private=not self.exists_public)

    def upload_folder(self, *, folder_path: Path, **options: Any) -> None:
        self.calls.append(("upload", {**options, "files": sorted(path.name for path in folder_path.iterdir())}))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    fake = type("Hub", (FakeHub,), {"calls": []})
    monkeypatch.setattr("palmette.publish.hub.HfApi", fake)
    return fake


def test_pushing_creates_the_repository_and_uploads_the_folder(
    trained: Path, staged: Path, hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(monkeypatch, trained, "--private") == 0
    (created, asked), (uploaded, given) = hub.calls
    assert (created, asked) == ("create", {"repo_id": "me/harbour", "private": True, "exist_ok": False})
    assert (uploaded, given["repo_id"]) == ("upload", "me/harbour")
    assert given["files"] == sorted(path.name for path in staged.iterdir())
    assert "https://hub.example/me/harbour" in capsys.readouterr().err


def test_a_repository_that_exists_is_not_touched_unasked(
    trained: Path, hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.exists_public = True
    assert push(monkeypatch, trained) == 2
    assert "cannot upload to me/harbour: 409 Client Error: Conflict" in capsys.readouterr().err
    assert push(monkeypatch, trained, "--update", "--private") == 2
    assert "exists, and is public" in capsys.readouterr().err
    assert not [name for name, _ in hub.calls if name == "upload"]
    assert push(monkeypatch, trained, "--update") == 0
    assert [name for name, _ in hub.calls if name == "upload"]


def test_what_is_missing_is_asked_for(
    trained: Path, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("palmette.publish.folder.base_licence", lambda name: None)
    evaluation, base, data = trained.parent / "eval", ["--base-model", BASE], ["--data-licence", "mit"]
    licence = ["--licence", "mit"]
    cases: list[tuple[list[str | Path], str]] = [
        ([*data, *licence], "is a file or folder of this machine"),
        ([*base, *data], f"the licence of {BASE} is not known here. Give one: --licence"),
        ([*base, *licence], "the licence of the training data"),
        ([*base, *licence, "--data-licence", "other.json=mit"], "was not trained on 'other.json'"),
        ([*base, *data, "--licence", "my own!"], "'my own!' is no identifier of a licence"),
        ([*base, *data, *licence, "--evaluation", tmp_path], "holds no evaluation that can be read"),
        ([*base, *data, *licence, "--to", "harbour"], "'harbour' cannot be a repository. Give it as USER/NAME"),
    ]
    for words, message in cases:
        to = [] if "--to" in words else ["--to", "me/harbour"]
        assert palmette(monkeypatch, "push", trained, *to, *words, "--dry-run", tmp_path / "o") == 2, words
        shown = capsys.readouterr().err.strip().splitlines()
        assert message in shown[-1]
    assert push(monkeypatch, full, "--evaluation", evaluation, "--dry-run", tmp_path / "o") == 2
    assert "was not measured on the weights of this run" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_sources_have_licences_by_name_or_for_all() -> None:
    part = {"documents": 2, "questions": 3}
    hub = {"source": "rajpurkar/squad_v2:train", "sha256": "0123456789abcdef", **part}
    file = {"source": "data/a.json", "sha256": "0" * 64, **part}
    found = sources_of({"data": [hub, file]}, ["CC-BY-SA-4.0", "data/a.json=mit"])
    assert [(source.name, source.licence, source.hub_id) for source in found] == [
        ("rajpurkar/squad_v2:train", "cc-by-sa-4.0", "rajpurkar/squad_v2"),
        ("a.json", "mit", None),
    ]


def test_names(tmp_path: Path) -> None:
    check_name("me/harbour")
    for name in ("harbour", "me/har bour", "a/b/c", "me/har--bour"):
        with pytest.raises(RunError, match="cannot be a repository"):
            check_name(name)
    assert hub_base("me/model", None) == "me/model"
    assert hub_base(str(tmp_path), "me/model") == "me/model"
    for local in (str(tmp_path), "model.gguf", "weights/model.gguf"):
        with pytest.raises(RunError, match="of this machine"):
            hub_base(local, None)


def test_recipes_lose_their_paths_and_nothing_else() -> None:
    values = {
        "output": "/home/me/runs/x",
        "model": {"name": "/models/base", "overrides": {"attention_dropout": 0.0}},
        "data": {"train": ["/home/me/a.json", "me/data:train", "builtin:train"]},
        "prompt": {
            "name": "prompts/mine.yaml",
            "system": "Answer with JSON/YAML.\nNo / more.",
            "after_question": "```",
        },
    }
    manifest = {"data": [{"source": "me/data:train", "sha256": "0123456789abcdef"}]}
    assert yaml.safe_load(public_recipe(yaml.safe_dump(values), BASE, manifest)) == {
        "output": "runs/x",
        "model": {"name": BASE, "overrides": {"attention_dropout": 0.0}},
        "data": {"train": ["a.json", "me/data:train", "builtin:train"]},
        "prompt": {"name": "mine.yaml", "system": "Answer with JSON/YAML.\nNo / more.", "after_question": "```"},
    }


def test_names_in_tables_are_no_markdown() -> None:
    assert escape("a|b*c_[d]<e>") == r"a\|b\*c\_\[d\]\<e\>"


def test_no_card_is_made_up_for_other_stages(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "stage": "dpo"}))
    assert push(monkeypatch, copy, "--dry-run", tmp_path / "card") == 2
    assert "by `train dpo`" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "card").exists()


# The pre-tokenizer of Llama 3, as its tokenizer.json has it. A full stop takes the line breaks after it along.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def llama3_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that splits as Llama 3 does, and has one token for a full stop and two line breaks."""
    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=260, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["end.\n\nend.\n\nend.\n\n"], trainer)
    special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=special[0], eos_token=special[-1])
    tokenizer.chat_template = LLAMA3
    assert len(tokenizer(".\n\n")["input_ids"]) == 1
    return tokenizer


def test_prompts_that_a_plain_tokenizer_encodes_otherwise_are_counted(tmp_path: Path) -> None:
    """Two of three documents end in a full stop, so that it meets the line breaks of the prompt. That is derived by
    hand: of the five questions, those about these two documents are three.
    """
    paragraphs = [
        {
            "context": context,
            "qas": [{"id": f"{index}-{n}", "question": "Who", "answers": []} for n in range(count)],
        }
        for index, (context, count) in enumerate([("It rains.", 2), ("It rains", 2), ("It snows.", 1)])
    ]
    for paragraph in paragraphs:
        for question in paragraph["qas"]:  # type: ignore[attr-defined]
            question["is_impossible"] = True
    file = tmp_path / "d.json"
    file.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    tokenizer = llama3_tokenizer()
    task = ExtractiveQa(ChatTemplate(tokenizer))
    counted = count_joined(sft_recipe(tmp_path, tmp_path / "run", data__train=[str(file)]), task, tokenizer)
    assert (counted.joined, counted.total, counted.data) == (3, 5, "the training data")
    file.unlink()
    corpus = count_joined(sft_recipe(tmp_path, tmp_path / "run", data__train=[str(file)]), task, tokenizer)
    assert corpus.data == "the built-in corpus"
    ends = [document.text[-1] for document in read_source("builtin:train").documents for _ in document.questions]
    assert (corpus.joined, corpus.total) == (ends.count("."), len(ends)) == (690, 700)


def test_the_card_passes_token_ids_where_text_would_not_do(trained: Path, tmp_path: Path) -> None:
    """The example runs as far as the names allow: its ids are those of training, and not those of the text."""
    tokenizer = llama3_tokenizer()
    task = ExtractiveQa(ChatTemplate(tokenizer))
    tokens = task.prompt_tokens(EXAMPLE, EXAMPLE.questions[0])
    finished = read_finished_run(trained, merged=False, base_model=BASE)
    publication = replace(
        describe_publication(finished, "me/harbour", (), "mit", ["mit"]),
        prompt=decode_tokens(tokenizer, tokens),
        prompt_tokens=tokens,
        joined=JoinedPrompts(3, 5, "the training data"),
        example_joined=True,
    )
    card = model_card(publication)
    assert "Of 5 prompts of the training data, 3 (60.0 %) get other tokens than in training" in card
    block = re.search(r"```python\n(.*?)\n```", card, flags=re.DOTALL)
    assert block is not None
    assigned = {n.targets[0].id: n.value for n in ast.parse(block[1]).body if isinstance(n, ast.Assign)}  # type: ignore[attr-defined]
    assert ast.literal_eval(assigned["token_ids"]) == tokens
    assert tokenizer(ast.literal_eval(assigned["prompt"]), add_special_tokens=False)["input_ids"] != tokens
    names = {"torch": torch, "token_ids": tokens}
    names["input_ids"] = eval(ast.unparse(assigned["input_ids"]), names)
    inputs = eval(ast.unparse(assigned["inputs"]), names)
    assert inputs["input_ids"].tolist() == [tokens]
    assert inputs["attention_mask"].tolist() == [[1] * len(tokens)]
