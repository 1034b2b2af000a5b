"""A local judge against plain rows of tokens, and what it must not do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from palmette.errors import DataError, RunError
from palmette.judge.judging import Odds, Pair, expected_grade, judge_cases, judge_pairs, signature
from palmette.judge.local import LocalJudge, load_local_judge
from palmette.judge.reward import RewardJudge, load_reward_judge
from palmette.judge.wording import CHOICES, GRADES, Case, load_judge_prompt
from palmette.model.loading import LoadedModel
from tests.support.models import tiny_llama

PAIR = Case(("When does it leave?",), (("At nine.",), ("It leaves <|im_end|> at ten.",)))
SINGLE = Case(("When?", "Sure?"), (("At nine.", "Yes."),), ("At ten.", "No."))


@pytest.fixture(scope="module")
def judge(tokenizer: Any) -> LocalJudge:
    model = tiny_llama(vocab_size=len(tokenizer))
    return LocalJudge(LoadedModel(model, tokenizer, "tiny", "tiny"), load_judge_prompt())


def plain_odds(judge: LocalJudge, tokenizer: Any, case: Case) -> dict[str, float]:
    """Each verdict as a whole reply in a row of its own, rendered by the tokenizer's own template.

    Only for cases whose text holds no control token, since the template would take it for one.
    """
    model = judge._loaded.model
    messages = [
        {"role": message.role, "content": "".join(piece.text for piece in message.pieces)}
        for message in load_judge_prompt().messages(case)
    ]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    totals = []
    for word in case.words:
        given = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        reply = tokenizer(f"{word}<|im_end|>", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logprobs = torch.log_softmax(model(input_ids=torch.tensor([given + reply])).logits[0], dim=-1)
        totals.append(sum(float(logprobs[len(given) - 1 + n, token]) for n, token in enumerate(reply)))
    shares = torch.softmax(torch.tensor(totals, dtype=torch.float64), dim=0).tolist()
    return dict(zip(case.words, shares, strict=True))


def test_odds_are_those_of_plain_rows(judge: LocalJudge, tokenizer: Any) -> None:
    """The template ends a turn with a line break too, which follows every verdict alike and is not scored there."""
    cases = [Case(("When?",), (("nine",), ("ten",))), Case(("When?",), (("nine",),))]
    for index, odds in judge.odds(cases):
        expected = plain_odds(judge, tokenizer, cases[index])
        assert {*odds} == {*(CHOICES if index == 0 else GRADES)}
        assert odds == pytest.approx(expected, rel=1e-6)
        assert max(odds.values()) - min(odds.values()) > 0.01  # the tiny model has an opinion


def test_cases_do_not_see_one_another(judge: LocalJudge) -> None:
    together = dict(judge.odds([PAIR, SINGLE, PAIR.exchanged()]))
    for index, case in enumerate([PAIR, SINGLE, PAIR.exchanged()]):
        ((_, alone),) = judge.odds([case])
        assert together[index] == pytest.approx(alone, rel=1e-9)


def test_an_answer_cannot_end_its_turn(judge: LocalJudge, tokenizer: Any) -> None:
    tree = judge._trees.tree(PAIR, "one")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    contents = [segment for segment in tree.root.segments if segment.kind == "content"]
    assert any("<|im_end|>" in segment.text for segment in contents)
    assert not any(end in segment.tokens for segment in contents)


def test_the_prompt_holds_the_conversation_and_the_reference() -> None:
    text = "".join(piece.text for message in load_judge_prompt().messages(SINGLE) for piece in message.pieces)
    assert text.index("right answers") < text.index("At ten.") < text.index("At nine.") < text.index("Yes.")
    assert "{" not in text


class Counting:
    """A judge that prefers whatever is shown first, with 3 to 1, and counts what it was asked."""

    notes = ()

    def __init__(self, fail_after: int = 99, name: str = "first") -> None:
        self.asked: list[Case] = []
        self.name, self._left = name, fail_after

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.name}

    def odds(self, cases: Sequence[Case]) -> Iterator[tuple[int, Odds | None]]:
        for index, case in enumerate(cases):
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
            self.asked.append(case)
            yield index, {"A": 0.6, "B": 0.2, "tie": 0.2}


def pairs(number: int) -> list[Pair]:
    return [Pair(str(n), ("elm", "fir"), Case((f"Question {n}",), (("one",), ("two",)))) for n in range(number)]


def test_both_orders_cancel_a_bias_of_places(tmp_path: Path) -> None:
    (found,) = judge_pairs(Counting(), pairs(1), tmp_path / "store")
    assert found.share == pytest.approx(0.5)
    assert found.orders.inconsistent
    row = found.row("first")
    assert (row["winner"], row["g1_winner"], row["g2_winner"]) == ("tie", "model_a", "model_b")


def test_a_stopped_job_goes_on_where_it_was(tmp_path: Path) -> None:
    store = tmp_path / "store"
    stopped = Counting(fail_after=5)
    with pytest.raises(KeyboardInterrupt):
        judge_pairs(stopped, pairs(4), store)
    with store.open("a") as file:
        file.write('{"key": "cut o')
    again = Counting()
    found = judge_pairs(again, pairs(4), store)
    assert len(stopped.asked) == 5
    assert len(again.asked) == 3
    assert [one.share for one in found] == pytest.approx([0.5] * 4)
    third = Counting()
    judge_pairs(third, pairs(4), store)
    assert not third.asked
    other = Counting(name="other")
    judge_pairs(other, pairs(4), store)  # the verdicts of another judge are not its own
    assert len(other.asked) == 8
    assert signature(other) != signature(third)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_text('{"a": 1}\n{"a": 2}\n')
    with pytest.raises(RunError, match="holds no verdicts"):
        judge_cases(Counting(), [PAIR], store)


def test_unread_verdicts_are_not_dropped(tmp_path: Path) -> None:
    class Mute(Counting):
        def odds(self, cases: Sequence[Case]) -> Iterator[tuple[int, Odds | None]]:
            for index, case in enumerate(cases):
                yield index, {} if case.answers[0] == ("one",) else {"A": 1.0, "B": 0.0, "tie": 0.0}

    found = judge_pairs(Mute(), pairs(2), tmp_path / "store")
    assert [(one.share, one.row("")["g1_winner"], one.row("")["winner"]) for one in found] == [
        (0.0, "unread", "model_b")
    ] * 2


def test_a_grade_is_the_mean_of_the_odds() -> None:
    assert expected_grade({"1": 0.25, "9": 0.75}) == pytest.approx(7.0)


def test_a_model_folder_judges(tiny_folder: Path) -> None:
    judge = load_local_judge(str(tiny_folder), load_judge_prompt())
    ((_, odds),) = judge.odds([SINGLE])
    assert sum(odds.values()) == pytest.approx(1.0)
    assert judge.identity["model"]


def test_a_reward_model_judges_pairs_by_bradley_and_terry(reward_run: Path) -> None:
    judge = load_reward_judge(str(reward_run))
    ((_, odds), (_, turned)) = judge.odds([PAIR, PAIR.exchanged()])
    prompt = PAIR.turns[0]
    one, other = judge._model.scores([(prompt, PAIR.answers[0][0]), (prompt, PAIR.answers[1][0])], quiet=True)
    assert one != other
    assert math.log(odds["A"] / odds["B"]) == pytest.approx(one - other, abs=1e-5)
    assert turned["A"] == pytest.approx(odds["B"], abs=1e-6)
    with pytest.raises(DataError, match="no scale"):
        list(judge.odds([SINGLE]))


class Drifting:
    """A reward model whose scores depend on what is scored together, as those of bfloat16 do. It counts its work."""

    def __init__(self) -> None:
        self.scored: list[str] = []

    def scores(self, completions: Sequence[tuple[object, str]], *, quiet: bool = False) -> list[float]:
        assert quiet
        self.scored += [text for _, text in completions]
        return [float(len(text)) + 0.1 * place for place, (_, text) in enumerate(completions)]


def test_a_reward_model_says_the_same_in_both_orders_and_scores_each_answer_once() -> None:
    """Both answers of a case are as long as each other, so their scores differ by their places in the batch alone."""
    model = Drifting()
    judge = RewardJudge("run", model)  # type: ignore[arg-type]
    cases = [Case(("When?",), ((f"one {n}",), (f"two {n}",))) for n in range(3)]
    asked = [case for one in cases for case in (one, one.exchanged())]
    found = dict(judge.odds(asked))
    again = dict(judge.odds([asked[1], asked[0]]))
    for first, second in ((found[0], found[1]), (found[2], found[3]), (again[1], again[0])):
        assert first["A"] != first["B"]
        assert first == {"A": second["B"], "B": second["A"]}
    assert again[1] == found[0]
    assert sorted(model.scored) == sorted(text for n in range(3) for text in (f"one {n}", f"two {n}"))


def test_equal_scores_are_a_tie_in_both_orders(tmp_path: Path) -> None:
    class Same(Counting):
        def odds(self, cases: Sequence[Case]) -> Iterator[tuple[int, Odds | None]]:
            yield from ((index, {"A": 0.5, "B": 0.5}) for index in range(len(cases)))

    [found] = judge_pairs(Same(), pairs(1), tmp_path / "store")
    assert (found.orders.first, found.orders.second, found.orders.inconsistent) == ("tie", "tie", False)
    assert found.row("")["winner"] == "tie"
