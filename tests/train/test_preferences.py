"""The stages on preferences with a tiny model: what they learn, exact resume (law 7), what they begin from, and bad
input.
"""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from palmette.config.recipes import Recipe, read_section
from palmette.data.chat import Part, Turn
from palmette.data.preference import Comparison
from palmette.data.preference_sets import read_comparisons, read_verdicts
from palmette.errors import DataError, ModelError, PalmetteError, RecipeError, RunError
from palmette.inference.answerer import load_answerer
from palmette.inference.reward_model import load_reward
from palmette.model.loading import load_model, weights_hash
from palmette.tasks.preference import GOOD, PreferenceTrees, mismatched
from palmette.train.preferences import reference
from palmette.train.recipes.preferences import KtoRecipe
from palmette.train.run import resume, train
from palmette.train.stages import read_recipe
from palmette.train.steps.callbacks import TrainingInterrupted
from palmette.tree.chat import ChatTemplate
from tests.support.command import palmette
from tests.support.oracle import flat, plain
from tests.support.preferences import PLACES, STAGES, jsonl, recipe, rows
from tests.support.runs import adapter, assert_same, log, on_step, quiet
from tests.support.tokenizers import CHATML, byte_level_tokenizer
from tests.support.trl_losses import trl_dpo_loss, trl_kto_loss


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each stage that was never stopped."""
    folder = tmp_path_factory.mktemp("runs")
    for stage in STAGES:
        train(recipe(stage, tiny_folder, pairs, folder / stage), quiet)
    return {stage: folder / stage for stage in STAGES}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All that was trained."""
    head = folder / "adapter" / "reward_head.safetensors"
    return adapter(folder) | (load_file(head) if head.is_file() else {})


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_saves_and_resume_is_bit_equal(
    stage: str,
    finished: dict[str, Path],
    tiny_folder: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped in the first epoch; what the reference says is read from the disk afterwards, and not computed again."""
    out = tmp_path / "run"
    on_step(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(
        TrainingInterrupted, match=f"stopped after step 2. Continue with: palmette train {stage} --resume"
    ):
        train(recipe(stage, tiny_folder, pairs, out), quiet)
    monkeypatch.undo()
    assert (out / reference.REFERENCE).is_file() == (stage != "reward")
    monkeypatch.setattr(reference, "_scored", lambda *_: pytest.fail("scored again"))
    resume(out, quiet)
    assert_same(weights(finished[stage]), weights(out))
    ours, theirs = ([{**line, "seconds": 0} for line in log(folder)] for folder in (finished[stage], out))
    varying = {"seconds", "resident_mib", *(key for key in ours[0] if key.endswith("_per_second"))}
    for one, other in zip(ours, theirs, strict=True):
        assert {k: v for k, v in one.items() if k not in varying} == {
            k: v for k, v in other.items() if k not in varying
        }
    with pytest.raises(RunError, match="is finished"):
        resume(out, quiet)
    resolved = read_recipe(out / "recipe.yaml")
    assert type(resolved) is STAGES[stage], "the resolved recipe says its stage"
    assert resolved.model.dtype == "float32"


def test_a_reference_that_was_cut_off_is_gone_on_with(
    finished: dict[str, Path], tiny_folder: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second line is half there when the power goes; the first one is not computed again."""
    out, scored, calls = tmp_path / "run", reference._scored, []

    def cut(*arguments: Any) -> list[float]:
        calls.append(1)
        if len(calls) == 2:
            with (out / reference.REFERENCE).open("a") as stream:
                stream.write('{"batch": "abc", "logp')
            raise KeyboardInterrupt
        return scored(*arguments)

    monkeypatch.setattr(reference, "_scored", cut)
    with pytest.raises(KeyboardInterrupt):
        train(recipe("dpo", tiny_folder, pairs, out), quiet)
    resume(out, quiet)
    whole = (finished["dpo"] / reference.REFERENCE).read_text()
    assert len(whole.splitlines()) > 2
    assert len(calls) == len(whole.splitlines()) + 1
    assert (out / reference.REFERENCE).read_text() == whole
    assert_same(weights(finished["dpo"]), weights(out))


def test_dpo_raises_the_margin_from_nothing(tiny_folder: Path, pairs: Path, tmp_path: Path) -> None:
    """At the reference the loss is ln 2 and every reward 0, here to the last bit, without dropout; then the chosen
    side leads.
    """
    train(recipe("dpo", tiny_folder, pairs, tmp_path / "run", lora__dropout=0.0), quiet)
    first, *_, last = log(tmp_path / "run")
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert (first["margin"], first["chosen_reward"], first["accuracy"]) == (0.0, 0.0, 0.5)
    assert last["margin"] > 0.05
    assert last["accuracy"] == 1.0
    assert last["loss"] < first["loss"] - 0.02
    assert last["comparisons_per_second"] > 0


def test_kto_tells_the_two_apart(finished: dict[str, Path]) -> None:
    """At the reference: 1 - sigmoid(0) = 1/2 for each."""
    first, *_, last = log(finished["kto"])
    assert first["loss"] == pytest.approx(
        0.5, abs=1e-5
    )  # dropout takes another path through the layers than the reference
    assert first["kl"] == 0.0
    assert max(line["kl"] for line in log(finished["kto"])) > 0
    assert last["desirable_reward"] > last["undesirable_reward"] + 0.02
    assert last["loss"] < 0.5 - 0.005


@pytest.fixture
def of_tokens(tiny_folder: Path) -> PreferenceTrees:
    return PreferenceTrees(ChatTemplate(load_model(str(tiny_folder), dtype="float32").tokenizer))


def stock(folder: Path) -> Any:
    """The model as transformers runs it."""
    return load_model(str(folder), dtype="float32", fused=False).model


def test_the_first_loss_of_dpo_is_trls(
    tiny_folder: Path, other_folder: Path, pairs: Path, tmp_path: Path, of_tokens: PreferenceTrees
) -> None:
    """Against another model as the reference, on plain rows through stock layers. float32 carries 7 digits."""
    changes = {"dpo__reference": str(other_folder), "train__trees_per_step": 6, "train__epochs": 1}
    train(recipe("dpo", tiny_folder, pairs, tmp_path / "run", **changes), quiet)
    trees = [of_tokens.of_comparison(one) for one in read_comparisons(str(pairs)).records]
    names = [(one.name, side) for side in ("0", "1") for one in trees]
    with torch.no_grad():
        policy, other = (plain(stock(folder), trees) for folder in (tiny_folder, other_folder))
    reference_N = torch.stack([other[name].sum() for name in names])
    loss, logged = trl_dpo_loss(*flat(policy, names), reference_N, "sigmoid", beta=0.1)
    (line,) = log(tmp_path / "run")
    assert abs(line["loss"] - math.log(2)) > 0.01, "the reference is no other one"
    assert line["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert line["margin"] == pytest.approx(logged["rewards/margins"][0], rel=1e-3)


def test_the_first_loss_of_kto_is_trls(
    tiny_folder: Path, other_folder: Path, tmp_path: Path, of_tokens: PreferenceTrees
) -> None:
    lines = [
        {"id": place, "prompt": f"Where is the {place}?", "completion": f"Near pier {n}.", "label": n % 2 == 0}
        for n, place in enumerate(PLACES[:4])
    ]
    data = jsonl(tmp_path / "verdicts.jsonl", lines)
    changes = {"train__trees_per_step": 4, "train__epochs": 1}
    section = {"beta": 0.5, "undesirable_weight": 2.0, "reference": str(other_folder)}
    train(recipe("kto", tiny_folder, data, tmp_path / "run", kto=section, **changes), quiet)
    found = read_verdicts(str(data)).records
    trees = [of_tokens.of_verdict(*both) for both in zip(found, mismatched(found), strict=True)]
    with torch.no_grad():
        policy, other = (plain(stock(folder), trees) for folder in (tiny_folder, other_folder))

    def sums(of: dict[tuple[str, str], torch.Tensor], index: int) -> torch.Tensor:
        return torch.stack([of[one.name, one.root.children[index].name].sum() for one in trees])

    names = [(one.name, one.root.children[0].name) for one in trees]
    loss, kl = trl_kto_loss(
        *flat(policy, names),
        sums(other, 0),
        torch.tensor([leaf == GOOD for _, leaf in names]),
        sums(policy, 1),
        sums(other, 1),
        beta=0.5,
        desirable_weight=1.0,
        undesirable_weight=2.0,
    )
    (line,) = log(tmp_path / "run")
    assert line["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert line["kl"] == pytest.approx(kl, rel=1e-3)


def test_a_reward_model_learns_what_can_be_told_apart_and_is_loaded_whole(
    finished: dict[str, Path],
    tiny_folder: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = finished["reward"]
    assert {path.name for path in run.iterdir()} == {"recipe.yaml", "manifest.json", "metrics.jsonl", "adapter"}
    assert log(run)[-1]["accuracy"] == 1.0
    opened = load_reward(run)
    completions = [([{"role": "user", "content": "Where is the mill?"}], "Kindly follow the mill road.")]
    polite, rude, again = opened.scores([*completions, ("Where is the mill?", "Go!"), *completions])
    assert polite > rude
    assert again == pytest.approx(polite, rel=1e-4)
    with torch.no_grad():  # the parts by hand: base, adapter, stock layers, and the head on the last hidden state
        loaded = load_model(str(tiny_folder), adapter=run / "adapter", dtype="float32", fused=False)
        builder = PreferenceTrees(ChatTemplate(loaded.tokenizer), learned=False)
        asked = Turn("user", (Part("Where is the mill?"),))
        tree = builder.of_comparison(Comparison("x", (asked,), (completions[0][1], "Go!")))
        head = load_file(run / "adapter" / "reward_head.safetensors")
        tokens = [t for node in (tree.root, tree.root.children[0]) for s in node.segments for t in s.tokens]
        hidden_D = loaded.model.base_model.model.model(input_ids=torch.tensor([tokens])).last_hidden_state[0, -1]
        assert polite == pytest.approx(float(hidden_D @ head["weight"] + head["bias"]), rel=1e-3, abs=1e-4)

    held_out = jsonl(tmp_path / "held_out.jsonl", rows(("mill", "church", "museum")))
    out = tmp_path / "measured"
    assert palmette(monkeypatch, "eval", "reward", "--model", run, "--data", held_out, "--out", out) == 0
    shown = capsys.readouterr().out
    assert "3 comparisons" in shown
    assert "very comparisons" not in shown
    metrics = json.loads((out / "metrics.json").read_text())
    given = [json.loads(line)["rewards"] for line in (out / "rewards.jsonl").read_text().splitlines()]
    leads = [one[0] - one[1] for one in given]
    assert metrics["accuracy"] == 1.0
    assert metrics["log_loss"] == pytest.approx(sum(math.log1p(math.exp(-lead)) for lead in leads) / 3, rel=1e-9)
    assert metrics["weights_sha256"] == weights_hash(str(run / "adapter"))
    assert palmette(monkeypatch, "eval", "reward", "--model", run, "--data", pairs, "--limit", "2") == 0
    assert "was trained on these comparisons" in capsys.readouterr().out


def test_full_fine_tuning_keeps_the_head_beside_a_plain_model(tiny_folder: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes = {"train__method": "full", "train__learning_rate": 0.001, "train__epochs": 1}
    train(recipe("reward", tiny_folder, pairs, out, **changes), quiet)
    assert not [name for name in load_file(out / "model" / "model.safetensors") if "head" in name and "lm" not in name]
    assert len(load_reward(out).scores([("Where?", "Here."), ("Where?", "Go!")])) == 2


def test_margins_come_from_the_records(tiny_folder: Path, tmp_path: Path) -> None:
    """One pair: its lead follows from the loss without a margin, log(1 + exp(-lead)), and with one it is log(1 +
    exp(5 - lead)).
    """
    data = jsonl(tmp_path / "one.jsonl", [{**rows()[0], "margin": 5.0}])
    losses = []
    for margins in (False, True):
        out = tmp_path / str(margins)
        changes = {"train__epochs": 1, "lora__dropout": 0.0, "reward__margins": margins}
        train(recipe("reward", tiny_folder, data, out, **changes), quiet)
        losses.append(log(out)[0]["loss"])
    lead = -math.log(math.expm1(losses[0]))
    assert losses[1] == pytest.approx(math.log1p(math.exp(5 - lead)), rel=1e-5)


def test_bad_jobs_leave_nothing_behind(
    finished: dict[str, Path], tiny_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "none"
    verdict = {"prompt": "Where?", "completion": "Here.", "label": True}
    verdicts = jsonl(tmp_path / "verdicts.jsonl", [verdict])
    strange = tmp_path / "strange"
    byte_level_tokenizer(["<|im_start|>", "<|im_end|>", "<|x|>"], eos="<|im_end|>", template=CHATML).save_pretrained(
        strange
    )
    ranked = jsonl(tmp_path / "ranked.jsonl", [{"prompt": "Where?", "ranked": ["Here.", "There.", "No."]}])
    cases: list[tuple[str, type[PalmetteError], str, Path, dict[str, Any]]] = [
        (
            "dpo",
            DataError,
            "holds verdicts on completions, and preferences or votes on pairs of answers are needed here",
            verdicts,
            {},
        ),
        ("kto", DataError, "'label'", pairs, {"kto__pairs": False}),
        ("kto", DataError, "ranks 3 completions", ranked, {}),
        ("kto", DataError, "all 1 verdicts have the same prompt", verdicts, {"kto__pairs": False}),
        ("reward", DataError, "no record has a 'margin'", pairs, {"reward__margins": True}),
        ("dpo", DataError, "more than train.row_tokens = 10", pairs, {"train__row_tokens": 10}),
        ("dpo", ModelError, "has other tokens", pairs, {"dpo__reference": str(strange)}),
        ("dpo", ModelError, "needs", pairs, {"model__overrides": {"max_position_embeddings": 8}}),
    ]
    for stage, error, message, data, changes in cases:
        with pytest.raises(error, match=message):
            train(recipe(stage, tiny_folder, data, out, **changes), quiet)
        assert not out.exists(), message
    for stage, message, changes in (
        (
            "dpo",
            r"dpo.label_smoothing = 0.1 has no place in dpo.loss = ipo",
            {"dpo": {"loss": "ipo", "label_smoothing": 0.1}},
        ),
        ("dpo", "unknown key 'kto'", {"kto": {"beta": 1.0}}),
        ("reward", "reward.centring has no place", {"reward": {"loss": "plackett_luce", "centring": 0.1}}),
        ("dpo", "dpo.beta = 0", {"dpo": {"beta": 0.0}}),
    ):
        with pytest.raises(RecipeError, match=message):
            recipe(stage, tiny_folder, pairs, out, **changes)
    with pytest.raises(RecipeError, match="'data' is missing"):
        read_section(KtoRecipe, {"output": str(out)}, "r.yaml")
    sft = Recipe.model_validate({"output": str(out), "data": {"train": [str(pairs)], "kind": "preferences"}})
    with pytest.raises(DataError, match="is only for stages that learn from preferences"):
        train(sft, quiet)
    with pytest.raises(RunError, match="is not a reward model's run"):
        load_reward(finished["dpo"])
    with pytest.raises(RunError, match="is a reward model, which gives no answers"):
        load_answerer(str(finished["reward"]))
    with pytest.raises(RunError, match=r"is a run of the stage dpo, not of kto. Continue it with: palmette train dpo"):
        resume(finished["dpo"], quiet, stage="kto")


def test_records_of_several_sources_stay_apart(tiny_folder: Path, pairs: Path, tmp_path: Path) -> None:
    """Both files number their rows alike; dropped records are counted in the manifest."""
    lines: list[dict[str, Any]] = [{"prompt": "Where?", "chosen": "Here.", "rejected": "No."}]
    bad = {"prompt": "When?", "chosen": "Now.", "rejected": "Now."}
    first = jsonl(tmp_path / "a.jsonl", lines)
    second = jsonl(tmp_path / "b.jsonl", [{**lines[0], "chosen": "There."}, bad])
    out = tmp_path / "run"
    changes = {"data__train": [str(first), str(second)], "data__on_bad_record": "drop", "train__epochs": 1}
    train(recipe("dpo", tiny_folder, pairs, out, **changes), quiet)
    manifest = json.loads((out / "manifest.json").read_text())
    assert [source["records"] for source in manifest["data"]] == [1, 1]
    assert manifest["trees"] == 2
    assert len(manifest["dropped"]) == 1
    assert "'chosen' and 'rejected' are the same" in manifest["dropped"][0]


def test_by_the_command_line(
    tiny_folder: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe("dpo", tiny_folder, pairs, tmp_path / "run", train__epochs=1)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(made.model_dump()))
    assert palmette(monkeypatch, "train", "dpo", tmp_path / "recipe.yaml") == 0
    assert f'ask FILE "QUESTION" --model {tmp_path / "run"}' in capsys.readouterr().err
    assert (tmp_path / "run" / "loss.png").is_file()
    (tmp_path / "text.txt").write_text("The ferry leaves at 7:40.")
    asked = (tmp_path / "text.txt", "When?", "--model", tmp_path / "run")
    assert palmette(monkeypatch, "ask", *asked) == 0
    assert palmette(monkeypatch, "train", "dpo", "--resume", tmp_path / "run") == 2
    assert palmette(monkeypatch, "train", "kto") == 2
