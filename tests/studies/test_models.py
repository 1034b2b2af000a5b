"""Models compared: tiny ones of two families, of which one has no chat template, and a model against itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from palmette.errors import DataError
from palmette.pages.model_comparison import render_comparison
from palmette.studies.models.chat_format import default_system, template_facts
from palmette.studies.models.compare import CompareSettings, compare_models
from palmette.studies.models.facts import Bounds, tokenizer_facts
from palmette.studies.models.peak import with_peak
from palmette.studies.models.reading import spelled
from palmette.studies.models.texts import SharedText, own_texts, read_prompts
from palmette.studies.models.weights import keep_weights, weight_distances
from tests.support.command import palmette
from tests.support.models import tiny_llama
from tests.support.tokenizers import CHATML, byte_level_tokenizer

TEXTS = (SharedText("one", "The ferry left at 7:40."), SharedText("two", "Паром вышел."))


@pytest.fixture(scope="module")
def other_family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with random weights, other tokens, and no chat template."""
    folder = tmp_path_factory.mktemp("other") / "gpt2"
    tokenizer = byte_level_tokenizer(["<|endoftext|>"], eos="<|endoftext|>", template=None)
    torch.manual_seed(5)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, eos_token_id=0, bos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def changed(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with every weight of its second layer doubled, which is a distance of 1."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("changed") / "doubled"
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    with torch.no_grad():
        for parameter in model.model.layers[1].parameters():
            parameter.mul_(2)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def record(tiny_folder: Path, changed: Path, other_family: Path) -> dict[str, Any]:
    """The tiny model beside its changed form, and beside another family."""
    settings = CompareSettings(max_new_tokens=4, texts=TEXTS, limit_documents=2)
    return compare_models([str(tiny_folder), str(changed), str(other_family)], settings, lambda _: None)


def test_a_model_of_another_family_is_compared_as_far_as_it_can_be(record: dict[str, Any], other_family: Path) -> None:
    other, pair = record["models"][2], record["pairs"][1]
    assert other["configuration"]["family"] == "gpt2"
    assert other["template"] == {"present": False}
    assert {one["form"] for one in other["replies"]} == {"raw"}
    assert pair["reading"] is None
    assert "other tokens" in pair["why_not"]
    assert pair["weights"]["compared"] == 0
    assert "task" not in other
    assert f"{other_family} has no chat template. It is only asked raw, and answers no questions." in record["notes"]


def test_the_same_family_is_compared_token_by_token(record: dict[str, Any]) -> None:
    first, pair = record["models"][0], record["pairs"][0]
    assert {one["form"] for one in first["replies"]} == {"raw", "chat"}
    assert [text["id"] for text in pair["reading"]] == ["one", "two"]
    for text, shared in zip(pair["reading"], TEXTS, strict=True):
        assert text["pieces"][0][1] is None  # nothing predicts the first token
        assert all(nats >= -1e-5 for _, nats in text["pieces"][1:])
        assert text["kl"] > 1e-4
        assert "".join(piece for piece, _ in text["pieces"]) == shared.text
    distances = {layer["layer"]: layer["distance"] for layer in pair["weights"]["layers"]}
    assert distances["1"] == pytest.approx(1.0, rel=0.01)  # the weights are compared in the dtype of computing
    assert distances["0"] == distances["embedding"] == 0.0
    assert pair["task"]["low"] <= pair["task"]["exact"] <= pair["task"]["high"]
    assert sum(share for _, share in first["replies"][0]["first"]) <= 1.0 + 1e-6
    assert 0 < first["replies"][0]["entropy"] <= math.log(first["configuration"]["vocabulary"])


@pytest.mark.parametrize("first", [True, False])
def test_a_model_that_cannot_do_a_part_says_why_and_the_others_go_on(
    first: bool, tiny_folder: Path, other_family: Path, tmp_path: Path
) -> None:
    """A GPT-2 with 40 positions cannot read a long text, nor reply to a long prompt."""
    folder = tmp_path / "short"
    tokenizer = AutoTokenizer.from_pretrained(other_family)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=40, n_embd=32, n_layer=2, n_head=4, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    names = [str(folder), str(tiny_folder)] if first else [str(tiny_folder), str(folder)]
    texts = (*TEXTS[1:], SharedText("long", "The ferry left at 7:40. " * 4))
    settings = CompareSettings(max_new_tokens=40, texts=texts, limit_documents=2, skip=("weights",))
    found = compare_models(names, settings, lambda _: None)
    short, tiny = found["models"] if first else reversed(found["models"])
    assert set(short["why_not"]) == {"replies", "reading"}
    assert "the longest prompt, with its reply, needs" in short["why_not"]["replies"]
    assert "and the limit of GPT2LMHeadModel" in short["why_not"]["reading"]
    assert "replies" not in short
    assert tiny["why_not"] == {}
    assert len(tiny["texts"]) == 2
    assert tiny["replies"]
    assert found["pairs"][0]["why_not"] == "One of the models could not read the texts."
    assert f"{folder}, what the models say: {short['why_not']['replies']}." in found["notes"]
    html = render_comparison(found)
    assert "The longest prompt, with its reply, needs" in html
    assert "One of the models could not read the texts." in html


def test_the_page_shows_everything_and_no_markup_of_a_model(record: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(record))
    changed["models"][0]["replies"][0]["reply"] = "<script>alert(1)</script>"
    html = render_comparison(changed)
    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;alert(1)" in html
    for words in ("no chat template", "other tokens", "Tokens a word, one", "role-assistant", "kl-1"):
        assert words in html
    assert render_comparison({**record, "notes": [], "pairs": []}).count("<section") == html.count("<section")


def test_a_model_is_no_distance_from_itself(tmp_path: Path) -> None:
    model = tiny_llama(torch.float32, tie_word_embeddings=False)
    keep_weights(model, tmp_path / "weights.safetensors")
    assert {layer["distance"] for layer in weight_distances(tmp_path / "weights.safetensors", model)["layers"]} == {0.0}
    larger = tiny_llama(torch.float32, intermediate_size=64, tie_word_embeddings=False)
    found = weight_distances(tmp_path / "weights.safetensors", larger)
    assert 0 < found["compared"] < found["tensors"]  # attention has the same shapes, the MLP has not


SYSTEM = "{% if messages[0].role != 'system' %}[SYS]You are Pal.[/SYS]\n{% endif %}"
BODY = (
    "{% for m in messages %}{% if m.role == 'system' %}[SYS]{{ m.content }}[/SYS]\n{% else %}<{{ m.role }}>"
    "{{ m.content }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(("template", "expected"), [(SYSTEM + BODY, "You are Pal."), (BODY, None), (CHATML, None)])
def test_the_default_system_message(template: str, expected: str | None) -> None:
    assert default_system(byte_level_tokenizer(["<|im_end|>"], eos="<|im_end|>", template=template)) == expected


def test_what_a_template_refuses_is_said_in_its_own_words() -> None:
    strict = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    facts = template_facts(byte_level_tokenizer(["<|im_end|>"], eos="<|im_end|>", template=strict))
    outcomes = {trial["what"]: trial["outcome"] for trial in facts["trials"]}
    assert outcomes["a system message"] == "refused: System role not supported"
    assert outcomes["white space around a message"] == "trimmed"
    assert outcomes["two user messages in a row"] == "taken"
    assert facts["generation_prompt"] == "<assistant>"


def test_characters_of_several_tokens_are_spelled_once(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "Да, 7 €"
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) > len(text)
    pieces = spelled(tokenizer, tokens)
    assert "".join(pieces) == text
    assert len(pieces) == len(tokens)


def test_the_beginning_of_a_text_in_tokenizer_and_generation_configuration() -> None:
    tokenizer = byte_level_tokenizer(["<s>", "<|im_end|>"], bos="<s>", eos="<|im_end|>", template=None)
    begin, end = tokenizer.convert_tokens_to_ids(["<s>", "<|im_end|>"])
    agree = tokenizer_facts(tokenizer, Bounds(begin, [end]), TEXTS, None)
    assert (agree["begin"], agree["warnings"]) == ("<s>", [])
    assert tokenizer_facts(tokenizer, Bounds(None, [end]), TEXTS, None)["warnings"] == []
    differ = tokenizer_facts(tokenizer, Bounds(end, [end]), TEXTS, None)
    assert differ["warnings"] == ["The tokenizer begins with <s>, the generation configuration with <|im_end|>."]


def test_own_texts_are_read_beside_the_bundled_ones(
    tiny_folder: Path, other_family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    note, again = tmp_path / "note.html", tmp_path / "other" / "note.html"
    again.parent.mkdir()
    words = [f"word{number}" for number in range(40)]
    for file in (note, again):
        file.write_text(f"<html><body><script>no</script><p>{' '.join(words)}</p></body></html>")
    parts = ["--skip", "task", "--skip", "weights", "--skip", "replies"]
    compare = ["models", "compare", tiny_folder, other_family, *parts, "--out", tmp_path / "out"]
    assert palmette(monkeypatch, *compare, "--text", note, "--text", again) == 2
    assert "two texts have the name 'note.html'" in capsys.readouterr().err
    assert palmette(monkeypatch, *compare, "--text", note) == 0
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    shown = " ".join(words)
    for model, folder in zip(found["models"], (tiny_folder, other_family), strict=True):
        assert [text["id"] for text in model["texts"]] == [
            "note.html",
            "English",
            "German",
            "Russian",
            "code",
            "numbers",
        ]
        tokens = AutoTokenizer.from_pretrained(folder)(shown)["input_ids"]
        assert model["tokenizer"]["tokens_a_word"]["note.html"] == len(tokens) / len(shown.split())
    assert "Tokens a word, note.html" in (tmp_path / "out" / "comparison.html").read_text()


def test_own_texts_are_cut(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("a b" * 1000)
    (text,) = own_texts([tmp_path / "long.txt"])
    assert (text.id, text.text) == ("long.txt", ("a b" * 1000)[:2000])
    with pytest.raises(DataError, match=r"none\.txt"):
        own_texts([tmp_path / "none.txt"])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not say")
def test_the_peak_of_some_work_is_its_own() -> None:
    device = torch.device("cpu")
    size = 100_000_000
    much, before = with_peak(device, lambda: bytes(bytearray(b"1") * size)[:3])
    little, after = with_peak(device, lambda: "done")
    assert (much, little) == (b"111", "done")
    assert before is not None
    assert after is not None
    assert before - after > 1.5 * size  # both copies of the text, which are gone by the second time


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 2 is not JSON"),
        ('["a"]', "line 2 is a list, not an object"),
        ('{"raw": ""}', "line-2 holds no text"),
        ('{"raw": "", "chat": "Who?"}', "line-2 holds no text"),
        ('{"id": "why"}', "why holds no text"),
        ('{"raw": "a", "raw": "b"}', "line 2 has the key 'raw' twice"),
        ('{"raw": "a", "chats": "b"}', "line-2 has 'chats'"),
        ('{"raw": "a", "chat": 3}', "line-2 has 'chat'"),
        ('{"raw": "a", "id": "line-1"}', "two prompts have the id 'line-1'"),
    ],
)
def test_prompts_that_cannot_be_read(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(f'{{"chat": "Who?"}}\n{line}\n')
    with pytest.raises(DataError, match=message):
        read_prompts(file)


def test_prompts_of_a_windows_editor(tmp_path: Path) -> None:
    """With a byte-order mark, and with the nulls that a table has."""
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"raw": "a", "chat": null}\r\n\r\n{"id": "b", "chat": "Who?"}\r\n')
    assert [(one.id, one.raw, one.chat) for one in read_prompts(file)] == [("line-1", "a", None), ("b", None, "Who?")]


def test_the_command(
    tiny_folder: Path,
    changed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"raw": "The ferry"}\n')
    words = ["--skip", "task", "--skip", "reading", "--skip", "weights", "--max-new-tokens", "2", "--prompts", prompts]
    out = tmp_path / "out"
    assert palmette(monkeypatch, "models", "compare", tiny_folder, changed, "--out", out, *words) == 0
    found = json.loads((out / "comparison.json").read_text())
    assert [len(model["replies"]) for model in found["models"]] == [1, 1]
    assert (out / "comparison.html").read_text().startswith("<!doctype html>")
    assert palmette(monkeypatch, "models", "compare", tiny_folder, "--out", tmp_path / "other") == 2
    assert "Name two models or more." in capsys.readouterr().err
    assert palmette(monkeypatch, "models", "compare", tiny_folder, tiny_folder, "--out", tmp_path / "other") == 2
    assert "is named twice" in capsys.readouterr().err
    words = [tiny_folder, changed, "--out", tmp_path / "other", "--skip", "wieghts"]
    assert palmette(monkeypatch, "models", "compare", *words) == 2
    assert "no part 'wieghts'. The parts are weights, replies, reading, task." in capsys.readouterr().err
