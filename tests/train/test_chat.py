"""Fine-tuning on conversations: the weight of each token, losses against plain rows, what a run leaves, drops, and
`palmette inspect`.
"""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from palmette.config import Recipe
from palmette.data.chat import Conversation, parse_chat
from palmette.data.source import read_source
from palmette.errors import DataError, PackingError, RecipeError, TemplateError
from palmette.tasks.chat import Chat
from palmette.train.callbacks import TrainingInterrupted
from palmette.train.run import resume, train
from palmette.train.stages import read_recipe
from palmette.train.step import nll_objective
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree
from tests.support.command import palmette
from tests.support.data import chat_file
from tests.support.models import tiny_llama
from tests.support.oracle import oracle
from tests.support.recipes import parse_recipe
from tests.support.runs import on_step, quiet
from tests.support.tokenizers import STYLES

# ChatML with the marks by which transformers finds what an assistant said, its end of turn included.
GENERATION = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
)

SYSTEM = ("system", "You answer questions about a harbour.")
FERRY = ("user", "When does the ferry leave?")
PIER = ("user", "From which pier?")


def row(*turns: tuple[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **fields}


# The first four open alike; of these "early" is the beginning of "long", and "twin" says the same as "early".
ROWS = [
    row(SYSTEM, FERRY, ("assistant", "At 7:40."), PIER, ("assistant", "From pier 3."), id="long"),
    row(SYSTEM, FERRY, ("assistant", "At 7:40."), id="early"),
    row(FERRY, ("assistant", "The ferry leaves at 7:40 from pier 3."), id="alone"),
    row(SYSTEM, FERRY, ("assistant", "At 7:40."), PIER, ("assistant", "The tower."), id="forked"),
    row(SYSTEM, FERRY, ("assistant", "At 7:40."), id="twin"),
    row(SYSTEM, ("user", "What is the tower built of?"), ("assistant", "Of granite."), id="tower"),
]


def conversations(rows: list[dict[str, Any]]) -> list[Conversation]:
    found = list(parse_chat(rows, "test"))
    assert all(isinstance(one, Conversation) for one in found), found
    return [one for one in found if isinstance(one, Conversation)]


def tokens_of(segments: Any) -> list[tuple[int, float, bool]]:
    """(token, learn, attend) of each token."""
    return [(token, segment.learn, segment.attend) for segment in segments for token in segment.tokens]


PARTS = [
    "The ferry leaves",
    {"text": " at", "learn": 0.0},
    {"text": " pier", "learn": 2.5, "attend": False},
    {"text": " seven", "attend": False},
    {"text": " forty.", "learn": 0.25},
]
DETAILED = row(
    SYSTEM,
    ("user", ["When does the", {"text": " ferry", "learn": 0.5}, " leave?"]),
    ("assistant", PARTS),
    PIER,
    ("assistant", [{"text": "From pier three.", "learn": 0.0}]),
    PIER,
    ("assistant", "Three."),
)
# The loss weight of each part without one of its own, and of the ends of the three turns of the assistant: 2.5 is the
# largest weight within the first, nothing in the second is learned. Parts that nobody may look at are not learned
# unless they say so.
WEIGHTS: dict[str, tuple[Any, dict[str, float], list[float]]] = {
    "assistant": ("assistant", {"assistant": 1.0}, [2.5, 0.0, 1.0]),
    "answer": ("answer", {"last": 1.0}, [2.5, 0.0, 1.0]),
    "full": ("full", {"template": 1.0, "system": 1.0, "user": 1.0, "assistant": 1.0}, [2.5, 0.0, 1.0]),
    "kinds": (
        {"system": 0.1, "user": 0.2, "assistant": 0.3, "end": 4.0},
        {"system": 0.1, "user": 0.2, "assistant": 0.3},
        [4.0, 0.0, 4.0],
    ),
    "ends": ({"end": 4.0, "template": 0.5}, {"template": 0.5}, [4.0, 0.0, 4.0]),
}


@pytest.mark.parametrize("style", ["smollm2", "llama3"])
@pytest.mark.parametrize("case", sorted(WEIGHTS))
def test_the_weight_of_each_token_is_that_of_its_characters(style: str, case: str) -> None:
    """Against the whole conversation as transformers renders and tokenises it, with the weight of each character
    written down by hand.

    The parts end where this tokenizer splits a text anyway, so that its tokens are the same, cut in parts or not.
    """
    learn, default, ends = WEIGHTS[case]
    tokenizer = STYLES[style]()
    end_mark = {"smollm2": "<|im_end|>", "llama3": "<|eot_id|>"}[style]
    (conversation,) = conversations([DETAILED])
    messages = [{"role": t.role, "content": "".join(p.text for p in t.parts)} for t in conversation.turns]
    text = tokenizer.apply_chat_template(messages, tokenize=False, date_string="26 Jul 2024")
    weight, attend = [default.get("template", 0.0)] * len(text), [True] * len(text)
    at, ends = 0, list(ends)
    for index, turn in enumerate(DETAILED["messages"]):
        parts = turn["content"] if isinstance(turn["content"], list) else [turn["content"]]
        for part in parts:
            part = part if isinstance(part, dict) else {"text": part}
            at = text.index(part["text"], at)
            usual = default.get(turn["role"], 0.0)
            if turn["role"] == "assistant" and index == len(DETAILED["messages"]) - 1:
                usual = default.get("last", usual)
            usual = usual if part.get("attend", True) else 0.0
            for character in range(at, at + len(part["text"])):
                weight[character], attend[character] = part.get("learn", usual), part.get("attend", True)
            at += len(part["text"])
        if turn["role"] == "assistant":
            assert text.startswith(end_mark, at)
            weight[at : at + len(end_mark)] = [ends.pop(0)] * len(end_mark)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    starts = [start for start, _ in encoded["offset_mapping"]]
    expected = [
        (token, weight[start], attend[start]) for token, start in zip(encoded["input_ids"], starts, strict=True)
    ]
    expected[0] = (expected[0][0], 0.0, True)  # nothing predicts it
    found = tokens_of(Chat(ChatTemplate(tokenizer), learn).segments(conversation))
    upto = len(found)
    assert "".join(tokenizer.decode([token]) for token in encoded["input_ids"][upto:]).strip() == ""
    assert found == expected[:upto]
    assert len({learned for _, learned, _ in found}) > 3
    assert not all(attended for *_, attended in found)


def test_the_completions_of_a_prompt_are_given(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At 7:40."}]
    (prompted,) = conversations([{"prompt": [*turns, turns[0]], "completion": "At noon."}])

    def learned(learn: Any) -> str:
        found = tokens_of(Chat(ChatTemplate(tokenizer), learn).segments(prompted))
        return tokenizer.decode([token for token, weight, _ in found if weight])

    assert learned("assistant") == learned("answer") == learned({"assistant": 2.0, "end": 1.0}) == "At noon.<|im_end|>"
    assert learned({"end": 1.0}) == "<|im_end|>"
    assert "At 7:40.<|im_end|>" in learned("full")


@pytest.mark.parametrize("style", sorted(STYLES))
def test_every_turn_of_the_assistant_is_learned_with_its_end_in_every_family(style: str) -> None:
    """All tokens together spell the rendered conversation; blanks aside, which some tokenizers put before a text."""
    tokenizer = STYLES[style]()
    one = row(FERRY, ("assistant", "At 7:40."), PIER, ("assistant", "From pier 3."))
    (conversation,) = conversations([one])
    found = tokens_of(Chat(ChatTemplate(tokenizer)).segments(conversation))
    rendered = tokenizer.apply_chat_template(one["messages"], tokenize=False)
    end = {"llama2": "</s>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}.get(style, "<|im_end|>")

    def spelled(tokens: list[int]) -> str:
        return re.sub(r"\s", "", "".join(tokenizer.decode([token]) for token in tokens))

    assert spelled([token for token, *_ in found]) == re.sub(r"\s", "", rendered)
    assert spelled([token for token, weight, _ in found if weight == 1.0]) == f"At7:40.{end}Frompier3.{end}"
    assert {weight for _, weight, _ in found} == {0.0, 1.0}


def plain_loss(model: Any, rows: list[tuple[list[int], list[float]]]) -> tuple[float, float]:
    """Weighted negative log-likelihood of plain rows, one at a time, shifted by one; and the weights' sum."""
    total, weights = 0.0, 0.0
    for tokens, learn in rows:
        with torch.no_grad():
            logprobs = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0].double(), dim=-1)
        for index in range(1, len(tokens)):
            total -= learn[index] * float(logprobs[index - 1, tokens[index]])
            weights += learn[index]
    return total, weights


def masked_rows(tokenizer: PreTrainedTokenizerFast, rows: list[dict[str, Any]]) -> list[tuple[list[int], list[float]]]:
    """Rows with the masks that transformers makes from the template's generation marks, as TRL's assistant_only_loss
    takes them.
    """
    found = []
    for one in rows:
        encoded = tokenizer.apply_chat_template(
            one["messages"], chat_template=GENERATION, return_dict=True, return_assistant_tokens_mask=True
        )
        found.append((list(encoded["input_ids"]), [float(mask) for mask in encoded["assistant_masks"]]))
    return found


def packed_loss(model: Any, trees: list[PrefixTree]) -> tuple[float, float]:
    batch = PackedBatch.from_trees([trees])
    with torch.no_grad():
        return float(nll_objective(model, batch, 1.0)), batch.learn_weight


@pytest.mark.parametrize("max_tokens", [None, 60])
def test_the_loss_is_that_of_plain_rows_with_the_masks_of_transformers(
    tokenizer: PreTrainedTokenizerFast, max_tokens: int | None
) -> None:
    """Turns that conversations share are laid out once and count as often as they are said."""
    model = tiny_llama(vocab_size=len(tokenizer))
    plain = tiny_llama(vocab_size=len(tokenizer), backend="sdpa")
    expected = plain_loss(plain, masked_rows(tokenizer, ROWS))
    trees = Chat(ChatTemplate(tokenizer)).trees(conversations(ROWS), max_tokens)
    assert packed_loss(model, trees) == pytest.approx(expected, rel=1e-9)
    if max_tokens is None:
        assert [tree.name for tree in trees] == ["long", "alone", "tower"]
        assert [node.name for node in trees[0].nodes()] == ["early, twin", "", "long", "forked"]
        assert sum(tree.num_tokens for tree in trees) < 0.7 * sum(len(t) for t, _ in masked_rows(tokenizer, ROWS))
    else:
        assert len(trees) > 3


def test_weighted_parts_have_the_loss_of_plain_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    """Two conversations that differ in weights alone share all tokens."""
    model, plain = (tiny_llama(vocab_size=len(tokenizer), **change) for change in ({}, {"backend": "sdpa"}))
    said = ["At ", {"text": "7:40", "learn": 3.0}, {"text": ".", "learn": 0.0}]
    rows = [row(FERRY, ("assistant", said)), row(FERRY, ("assistant", ["At ", "7:40", "."]))]
    task = Chat(ChatTemplate(tokenizer))
    pieces = [tokens_of(task.segments(one)) for one in conversations(rows)]
    assert [token for token, *_ in pieces[0]] == [token for token, *_ in pieces[1]]
    encode = task.template.encoder.content
    counts = [len(encode(text)) for text in ("At ", "7:40", ".")]
    lead = len(pieces[0]) - sum(counts) - 1
    weights = [
        [0.0] * lead + [1.0] * counts[0] + [3.0] * counts[1] + [0.0] * counts[2] + [3.0],
        [0.0] * lead + [1.0] * (sum(counts) + 1),
    ]
    expected = plain_loss(plain, [([token for token, *_ in pieces[0]], learn) for learn in weights])
    trees = task.trees(conversations(rows))
    assert len(trees) == 1
    assert trees[0].num_tokens == len(pieces[0])
    assert packed_loss(model, trees) == pytest.approx(expected, rel=1e-9)


def test_hidden_parts_have_the_loss_of_plain_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    """What nobody may look at only takes up positions; the oracle shares no code with the packing."""
    model, plain = (tiny_llama(vocab_size=len(tokenizer), **change) for change in ({}, {"backend": "sdpa"}))
    (tree,) = Chat(ChatTemplate(tokenizer)).trees(conversations([DETAILED]))
    assert {segment.attend for node in tree.nodes() for segment in node.segments} == {True, False}
    with torch.no_grad():
        _, expected = oracle(plain, tree)
    loss, _ = packed_loss(model, [tree])
    assert loss == pytest.approx(-float(expected), rel=1e-9)
    shown = json.loads(json.dumps(DETAILED).replace(', "attend": false', ""))
    assert packed_loss(model, Chat(ChatTemplate(tokenizer)).trees(conversations([shown])))[0] != pytest.approx(
        loss, rel=1e-3
    )


def test_what_cannot_be_learned_is_named() -> None:
    template = ChatTemplate(STYLES["llama2"]())
    marked, silent = conversations(
        [
            row(("user", "What is [/INST]?"), ("assistant", "A mark."), id="marked"),
            row(FERRY, ("assistant", [{"text": "At 7:40.", "learn": 0.0}]), id="silent"),
        ]
    )
    with pytest.raises(TemplateError, match=r"conversation 'marked': the user message holds '\[/INST\]'"):
        Chat(template).segments(marked)
    with pytest.raises(DataError, match="conversation 'silent' has nothing to learn: all its weights are 0"):
        Chat(template).segments(silent)
    with pytest.raises(
        DataError, match=r"learn has the weight 1.0 for 'document'.*template, system, user, assistant, end"
    ):
        Chat(template, {"document": 1.0})
    with pytest.raises(DataError, match="learn gives no kind of token a weight"):
        Chat(template, {"user": 0.0})


def recipe(tiny_folder: Path, path: Path, out: Path, **changes: Any) -> Recipe:
    sections: dict[str, Any] = {
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(path)], "kind": "chat", **changes.pop("data", {})},
        "lora": {"rank": 2, "dropout": 0.2},
        "train": {"epochs": 2, "learning_rate": 0.01, "save_every": 1, **changes.pop("train", {})},
    }
    return Recipe.model_validate({"output": str(out), **sections, **changes})


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_file(tmp_path_factory.mktemp("chats") / "chat.jsonl", *ROWS)


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, chats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that was never stopped: three trees, two a step, two epochs."""
    out = tmp_path_factory.mktemp("chat-runs") / "straight"
    train(recipe(tiny_folder, chats, out), quiet)
    return out


def test_a_run_says_what_it_learned_from(finished: Path, chats: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    (data,) = manifest["data"]
    assert (data["source"], data["documents"], data["questions"]) == (str(chats), 6, 8)
    assert (manifest["trees"], manifest["questions"], manifest["dropped"]) == (3, 8, [])
    assert read_recipe(finished / "recipe.yaml").data.kind == "chat"
    assert len((finished / "metrics.jsonl").read_text().splitlines()) == 4


def test_the_first_loss_of_a_run_is_that_of_plain_rows(
    tiny_folder: Path, chats: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """All trees in one step, before anything was learned; a new adapter changes nothing."""
    settings = recipe(tiny_folder, chats, tmp_path / "run", train={"epochs": 1, "trees_per_step": 3})
    train(settings, quiet)
    (line,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    total, weight = plain_loss(AutoModelForCausalLM.from_pretrained(tiny_folder), masked_rows(tokenizer, ROWS))
    assert line["loss"] == pytest.approx(total / weight, rel=1e-4)


@pytest.mark.parametrize("step", [1, 2])
def test_ctrl_c_saves_and_resume_is_bit_equal(
    finished: Path, tiny_folder: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    out = tmp_path / "stopped"
    on_step(monkeypatch, step, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        train(recipe(tiny_folder, chats, out), quiet)
    monkeypatch.undo()
    resume(out, quiet)
    straight, resumed = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (finished, out))
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())


def test_what_is_left_out_is_counted(tiny_folder: Path, tmp_path: Path) -> None:
    """One row breaks the format, one has nothing to learn, one is too long; of the first kind the source has the
    reason.
    """
    bad = row(FERRY, id="unanswered")
    silent = row(FERRY, ("assistant", [{"text": "At 7:40.", "learn": 0}]), id="silent")
    long = row(FERRY, ("assistant", "7:40 " * 100), id="long")
    path = chat_file(tmp_path / "mixed.jsonl", bad, ROWS[5], silent, long)
    lenient = {"on_bad_record": "drop", "on_too_long": "drop"}
    said: list[str] = []
    section = {"row_tokens": 150, "epochs": 1}
    train(recipe(tiny_folder, path, tmp_path / "run", data=lenient, train=section), said.append)
    dropped = json.loads((tmp_path / "run" / "manifest.json").read_text())["dropped"]
    assert len(dropped) == 3
    assert re.search("'unanswered' has no turn of the assistant", dropped[0])
    assert dropped[1] == "conversation 'silent' has nothing to learn: all its weights are 0"
    assert re.fullmatch(r"long: \d{3} tokens, limit 150", dropped[2])
    assert any(re.search("1 trees, 1 turns of the assistant, .* 3 dropped", line) for line in said)
    for data, error, message in (
        ({"on_too_long": "drop"}, DataError, "'unanswered' has no turn"),
        ({"limit_documents": 3, "on_bad_record": "drop"}, PackingError, "tree of 'long' has .* train.row_tokens = 150"),
    ):
        with pytest.raises(error, match=message):
            train(recipe(tiny_folder, path, tmp_path / "none", data=data, train=section), quiet)
    good = chat_file(tmp_path / "silent.jsonl", silent)
    with pytest.raises(DataError, match="conversation 'silent' has nothing to learn"):
        train(recipe(tiny_folder, good, tmp_path / "none"), quiet)
    with pytest.raises(DataError, match="nothing is left to train on: all was dropped, first conversation 'silent'"):
        train(recipe(tiny_folder, good, tmp_path / "none", data={"on_bad_record": "drop"}), quiet)
    with pytest.raises(DataError, match=r"mixed\.jsonl holds conversations, not questions.* Set data\.kind: chat"):
        train(recipe(tiny_folder, path, tmp_path / "none", data={"kind": "qa"}), quiet)
    assert not (tmp_path / "none").exists()


def test_reasoning_modes_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"reasoning\.kind = blah has no place in conversations"):
        parse_recipe("output: x\ndata: {kind: chat, train: [a.jsonl]}\nreasoning: {kind: blah}", "r.yaml")
    with pytest.raises(RecipeError, match=r"data\.kind = 'talk'"):
        parse_recipe("output: x\ndata: {kind: talk}", "r.yaml")


def test_a_run_on_conversations_can_be_asked(
    tiny_folder: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is asked in the words of the recipe's prompt, whatever weights its conversations had."""
    out = tmp_path / "kinds"
    section = {"epochs": 1, "trees_per_step": 3}
    train(recipe(tiny_folder, chats, out, train=section, learn={"user": 0.5, "assistant": 1.0}), quiet)
    (tmp_path / "ferry.txt").write_text("The ferry leaves at 7:40.")
    words: list[str | Path] = ["ask", "--model", out, "--document", tmp_path / "ferry.txt", "--json", "When?"]
    assert palmette(monkeypatch, *words) == 0
    assert json.loads(capsys.readouterr().out)["question"] == "When?"


def shown_by(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert palmette(monkeypatch, "inspect", *words) == 0
    return capsys.readouterr().out


def test_inspect_shows_weights_and_masks(
    tiny_folder: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without colours: learned tokens between » and «, hidden ones in ( and ), other weights after the last token
    that has them.
    """
    path = chat_file(tmp_path / "chat.jsonl", {**DETAILED, "id": "detailed"}, *ROWS)
    shown = shown_by(monkeypatch, capsys, "--model", tiny_folder, "--data", path)
    joined = shown.replace("«)(»", "").replace("«»", "").replace(")(", "")
    assert "branch detailed, from position 0" in joined
    assert "When does the» ferry«[0.5] leave?<|im_end|>" in joined
    said = "»The ferry leaves« at(» pier«)[2.5]( seven)» forty.«[0.25]»<|im_end|>«[2.5]"
    assert said in joined
    assert "From pier three.<|im_end|>" in joined
    assert "»Three.<|im_end|>«" in joined
    assert "learned with the weight that follows" in joined
    # Two that open alike: the turn that both learn counts twice.
    both = shown_by(monkeypatch, capsys, "--model", finished, "--questions", "2").replace("«»", "")
    assert "branch early, from position 0" in both
    assert "»At 7:40.<|im_end|>«[2]" in both
    assert "branch long" in both
    assert "»From pier 3.<|im_end|>«" in both
    alone = shown_by(monkeypatch, capsys, "--model", finished, "--document", "2", "--table")
    cells = [line.replace("│", " ").split() for line in alone.splitlines() if "'" in line and line.split()[0].isdigit()]
    assert {line[2] for line in cells} == {"alone"}
    assert {line[6] for line in cells} == {"0", "1"}
    assert palmette(monkeypatch, "inspect", "--model", finished, "--document", "6") == 2
    assert "has 6 conversations, no number 6. Count from 0." in capsys.readouterr().err
    # A run on conversations also shows other data for what they are.
    shown = shown_by(monkeypatch, capsys, "--model", finished, "--data", "builtin:dev", "--questions", "1")
    assert read_source("builtin:dev").documents[0].id in shown
