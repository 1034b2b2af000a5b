"""Preferences as trees: each branch is the rendered conversation, and packing loses track of none."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palmette.data.chat import Part, Turn
from palmette.data.preference import Comparison, PreferenceError, Verdict, turn_text
from palmette.errors import DataError, ModelError, TemplateError
from palmette.model.forward import score_tokens
from palmette.objectives.branches import branch_sum, last_tokens
from palmette.tasks.leaf_labels import labels, ranks
from palmette.tasks.preference import PreferenceTrees, grow, mismatched
from palmette.train.steps.plan import StepPlan
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches
from palmette.tree.chat import ChatTemplate
from tests.support.models import tiny_llama
from tests.support.oracle import branches as paths_of
from tests.support.tokenizers import STYLES

TOKENIZERS = {style: build() for style, build in STYLES.items()}
TEMPLATES = {style: ChatTemplate(tokenizer) for style, tokenizer in TOKENIZERS.items()}

# Words that no tokenizer here merges with what stands around them, so that a rendered conversation has the tokens of
# its parts.
words = st.lists(st.sampled_from(["Ferry", "7:40", "granite", "is", "<think>", "né", "?"]), min_size=1, max_size=4)
texts = words.map(" ".join)


def turn(role: str, text: str) -> Turn:
    return Turn(role, (Part(text),))  # type: ignore[arg-type]


@st.composite
def prompts(draw: st.DrawFn) -> tuple[Turn, ...]:
    """A system message or none, some exchanges, and a question."""
    turns = [turn("system", draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        turns += [turn("user", draw(texts)), turn("assistant", draw(texts))]
    return (*turns, turn("user", draw(texts)))


@st.composite
def ranked(draw: st.DrawFn, name: str = "record") -> Comparison:
    completions = draw(st.lists(texts, min_size=2, max_size=5, unique=True))
    return Comparison(name, draw(prompts()), tuple(completions))


@st.composite
def several(draw: st.DrawFn) -> list[Comparison]:
    """Two to five comparisons, some of them under the prompt of another."""
    found: list[Comparison] = []
    for index in range(draw(st.integers(2, 5))):
        made = draw(ranked(f"r{index}"))
        again = found and draw(st.booleans())
        found.append(Comparison(made.id, found[0].prompt, made.completions) if again else made)
    return found


# What random comparisons may lack, on purpose: a system message, several turns, three completions; one prompt of two
# comparisons.
LONG_PROMPT = (turn("system", "is"), turn("user", "Ferry"), turn("assistant", "7:40"), turn("user", "granite ?"))
THREE = Comparison("record", LONG_PROMPT, ("né", "is", "Ferry 7:40"))
ALIKE = [Comparison(f"r{index}", LONG_PROMPT, ("né", "is", "7:40")[index:]) for index in range(2)]


def rendered(style: str, prompt: tuple[Turn, ...], completion: str) -> tuple[list[int], int]:
    """The tokens of a conversation that transformers rendered as a whole, up to the end of the turn; how many are
    the prompt's.
    """
    turns = [{"role": t.role, "content": turn_text(t)} for t in prompt]
    if style == "gemma" and turns[0]["role"] == "system":
        system, user, *rest = turns
        turns = [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest]
    tokenizer = TOKENIZERS[style]

    def ids(conversation: list[dict[str, str]], *, opened: bool = False) -> list[int]:
        text = tokenizer.apply_chat_template(
            conversation, tokenize=False, date_string="26 Jul 2024", add_generation_prompt=opened
        )
        found = list(tokenizer(text if opened else text.removesuffix("\n"), add_special_tokens=False)["input_ids"])
        if style == "llama2":  # the tokenizer forces a blank after each `<s>`; ours does at the very start only
            bos, blank = tokenizer.convert_tokens_to_ids(["<s>", "▁"])
            forced = {i for i in range(2, len(found)) if found[i - 1 : i + 1] == [bos, blank]}
            found = [token for index, token in enumerate(found) if index not in forced]
        return found

    return ids([*turns, {"role": "assistant", "content": completion}]), len(ids(turns, opened=True))


def without_thoughts(comparison: Comparison) -> Comparison:
    """Qwen's template would act on this string in the text; ours never does, which other tests show."""
    plain = tuple(turn(t.role, turn_text(t).replace("<think>", "x")) for t in comparison.prompt)
    texts = [text.replace("<think>", "x") for text in comparison.completions]
    return Comparison(comparison.id, plain, tuple(f"{text} {index}" for index, text in enumerate(texts)))


@pytest.mark.parametrize("style", sorted(STYLES))
def test_every_branch_is_the_rendered_conversation(style: str) -> None:
    """Tokens of each root-to-leaf path, and the learned ones among them: the completion and what ends it, nothing of
    the prompt.
    """
    seen: Counter[str] = Counter()
    trees, unlearned = PreferenceTrees(TEMPLATES[style]), PreferenceTrees(TEMPLATES[style], learned=False)

    @settings(max_examples=40, deadline=None)
    @example(THREE)
    @given(ranked().map(without_thoughts))
    def check(comparison: Comparison) -> None:
        tree = trees.of_comparison(comparison)
        paths = paths_of(tree.root)
        assert tree.name == "record"
        assert [path[-1].name for path in paths] == [str(rank) for rank in range(len(comparison.completions))]
        for path, completion in zip(paths, comparison.completions, strict=True):
            held = [(t, s.learn) for node in path for s in node.segments for t in s.tokens]
            expected, prompt = rendered(style, comparison.prompt, completion)
            assert [t for t, _ in held] == expected
            assert [learn for _, learn in held] == [0.0] * prompt + [1.0] * (len(expected) - prompt)
            assert path[0] is tree.root
            assert path[0].num_tokens == prompt
        bare = unlearned.of_comparison(comparison)
        assert bare.learn_weight == 0
        assert [s.tokens for n in bare.nodes() for s in n.segments] == [
            s.tokens for n in tree.nodes() for s in n.segments
        ]
        seen["system"] += comparison.prompt[0].role == "system"
        seen["several turns"] += len(comparison.prompt) > 2
        seen["more than two"] += len(paths) > 2

    check()
    assert min(seen[case] for case in ("system", "several turns", "more than two")) > 0, seen


@pytest.mark.parametrize("style", ["smollm2", "llama2"])
@pytest.mark.parametrize("learned", [True, False])
def test_packed_branches_are_those_of_rows_of_their_own(style: str, learned: bool) -> None:
    """What a branch's last token sees is its conversation; and scored tokens go to the branch whose completion they
    are of.
    """
    seen: Counter[str] = Counter()
    trees = PreferenceTrees(TEMPLATES[style], learned=learned)

    @settings(max_examples=40, deadline=None)
    @example(ALIKE, 1)
    @example(ALIKE, 2)
    @given(several().map(lambda found: [without_thoughts(one) for one in found]), st.integers(1, 3))
    def check(comparisons: list[Comparison], num_rows: int) -> None:
        rows = [comparisons[start::num_rows] for start in range(min(num_rows, len(comparisons)))]
        batch = PackedBatch.from_trees([[trees.of_comparison(one) for one in row] for row in rows])
        branches = find_branches(batch)
        by_id = {one.id: one for one in comparisons}
        named = [(one.id, str(rank)) for one in comparisons for rank in range(len(one.completions))]
        assert sorted(branches.names) == sorted(named)
        may_attend_BTT = batch.may_attend_BTT()
        row_P, column_P = batch.learn_BT.nonzero(as_tuple=True)
        branch_P = branches.of_tokens(batch, row_P, column_P)
        for index, (name, rank) in enumerate(branches.names):
            expected, prompt = rendered(style, by_id[name].prompt, by_id[name].completions[int(rank)])
            row, last = int(branches.row_N[index]), int(branches.last_N[index])
            assert batch.token_BT[row][may_attend_BTT[row, last]].tolist() == expected
            assert int(batch.position_BT[row, last]) == len(expected) - 1
            completion = batch.token_BT[row_P, column_P][branch_P == index].tolist()
            assert completion == (expected[prompt:] if learned else [])
        if learned:
            found = last_tokens(branch_P, len(branches))
            assert (row_P[found].tolist(), column_P[found].tolist()) == (
                branches.row_N.tolist(),
                branches.last_N.tolist(),
            )
        rank_N, list_N = ranks(branches)
        assert rank_N.tolist() == [int(rank) for _, rank in branches.names]
        order = list(branches.by_tree())
        assert [order[number] for number in list_N.tolist()] == [name for name, _ in branches.names]
        seen["several in a row"] += any(len(row) > 1 for row in rows)
        seen["several rows"] += len(rows) > 1
        seen["a prompt shared by trees"] += batch.num_tokens < sum(
            trees.of_comparison(one).num_tokens for one in comparisons
        )

    check()
    assert len(seen) == 3
    assert min(seen.values()) > 0, seen


LONG = Comparison("long", (turn("user", "Is the ferry of granite?"),), ("Yes, of granite.", "No.", "?"))
SHORT = Comparison("short", (turn("user", "When?"),), ("7:40", "No."))


def test_branch_log_probabilities_equal_rows_of_their_own_and_ignore_siblings() -> None:
    """float64 carries 15 to 16 digits; sums over a few dozen terms lose two or three."""
    model = tiny_llama(vocab_size=len(TOKENIZERS["smollm2"]))
    plain = tiny_llama(vocab_size=len(TOKENIZERS["smollm2"]), backend="sdpa")
    trees = PreferenceTrees(TEMPLATES["smollm2"])

    def sums(*comparisons: Comparison) -> dict[tuple[str, str], torch.Tensor]:
        batch = PackedBatch.from_trees([[trees.of_comparison(one) for one in comparisons]])
        scores, branches = score_tokens(model, batch), find_branches(batch)
        branch_P = branches.of_tokens(batch, scores.row_P, scores.column_P)
        return dict(zip(branches.names, branch_sum(scores.logprob_P, branch_P, len(branches)).detach(), strict=True))

    found = sums(LONG, SHORT)
    for one in (LONG, SHORT):
        for rank, completion in enumerate(one.completions):
            ids, prompt = rendered("smollm2", one.prompt, completion)
            logprob_TV = torch.log_softmax(plain(input_ids=torch.tensor([ids])).logits[0], dim=-1)
            expected = sum(logprob_TV[i - 1, ids[i]] for i in range(prompt, len(ids)))
            torch.testing.assert_close(found[one.id, str(rank)], expected, rtol=1e-11, atol=1e-11)
    poisoned = sums(Comparison("long", LONG.prompt, ("Yes, of granite.", "7:40 7:40 7:40", "?")), SHORT)
    assert abs(float(poisoned["long", "1"] - found["long", "1"])) > 0.1
    for name in found.keys() - {("long", "1")}:
        torch.testing.assert_close(poisoned[name], found[name], rtol=1e-12, atol=1e-12)


def test_steps_hold_whole_comparisons() -> None:
    made = [Comparison(f"r{i}", SHORT.prompt, SHORT.completions[: 2 + i]) for i in range(5)]
    trees = [PreferenceTrees(TEMPLATES["smollm2"]).of_comparison(one) for one in made]
    plan = StepPlan(trees, trees_per_step=2, row_tokens=96, tokens_per_batch=96, seed=3)
    found = [
        find_branches(batch).by_tree() for step in range(plan.steps_per_epoch) for batch in plan.step_batches(0, step)
    ]
    assert sorted(name for batch in found for name in batch) == [one.id for one in made]
    assert all(list(leaves) == ["0", "1"] for batch in found for leaves in batch.values())


def test_a_tree_over_the_limit_is_refused_or_counted_and_never_cut() -> None:
    of = PreferenceTrees(TEMPLATES["smollm2"]).of_comparison
    sizes = [of(one).num_tokens for one in (LONG, SHORT)]
    assert sizes[0] > sizes[1]
    both = grow([LONG, SHORT], of, max_tokens=sizes[0])
    assert [tree.num_tokens for tree in both.trees] == sizes
    assert (both.records, both.dropped) == ((LONG, SHORT), ())
    trunk, *leaves = (str(node.num_tokens) for node in of(LONG).nodes())
    parts = f"{trunk} of its prompt, {' + '.join(leaves)} of its completions"
    message = f"record 'long' has {sizes[0]} tokens ({parts}), more than train.row_tokens = {sizes[0] - 1}"
    with pytest.raises(DataError, match=re.escape(f"{message} (in all: 1 too long, good records: 1)")):
        grow([SHORT, LONG], of, max_tokens=sizes[0] - 1)
    left = grow([LONG, SHORT], of, max_tokens=sizes[0] - 1, on_too_long="drop")
    assert (left.records, [tree.name for tree in left.trees]) == ((SHORT,), ["short"])
    assert [(one.reason, "'long'" in one.problem) for one in left.dropped] == [("too long", True)]
    with pytest.raises(DataError, match="nothing is left to train on: all were dropped: 2 too long"):
        grow([LONG, SHORT], of, max_tokens=3, on_too_long="drop")


def test_completions_with_the_same_tokens_are_identical() -> None:
    """SentencePiece vocabularies write a blank and "▁" alike."""
    twins = Comparison("twins", SHORT.prompt, ("7:40 sharp", "7:40▁sharp"))
    of = PreferenceTrees(TEMPLATES["llama2"]).of_comparison
    with pytest.raises(PreferenceError, match="record 'twins': completions 0 and 1 have the same"):
        of(twins)
    with pytest.raises(DataError, match=r"'twins'.*\(in all: 1 identical, good records: 1\)"):
        grow([twins, SHORT], of, max_tokens=500, on_too_long="drop")
    assert grow([twins, SHORT], of, max_tokens=500, on_bad_record="drop").records == (SHORT,)
    PreferenceTrees(TEMPLATES["smollm2"]).of_comparison(twins)


def test_what_a_template_cannot_hold_is_named() -> None:
    marked = Comparison("marked", (turn("user", "a [/INST] b"),), ("x", "y"))
    with pytest.raises(TemplateError, match=r"record 'marked': the user message holds '\[/INST\]'"):
        PreferenceTrees(TEMPLATES["llama2"]).of_comparison(marked)


def verdict(name: str, asked: str, label: bool = True) -> Verdict:
    return Verdict(name, (turn("user", asked),), f"completion {name}", label)


def test_verdicts_have_one_branch_and_that_of_another_prompt() -> None:
    trees = PreferenceTrees(TEMPLATES["smollm2"])
    first, second = verdict("v1", "When?"), verdict("v2", "Where is the ferry?", False)
    batch = PackedBatch.from_trees([[trees.of_verdict(first, second)], [trees.of_verdict(second)]])
    branches = find_branches(batch)
    assert branches.names == (("v1", "good"), ("v1", "other"), ("v2", "bad"))
    judged_N, good_N = labels(branches)
    assert (judged_N.tolist(), good_N.tolist()) == ([True, False, True], [True, False, False])
    branch_P = branches.of_tokens(batch, *batch.learn_BT.nonzero(as_tuple=True))
    learned = batch.token_BT[batch.learn_BT != 0]
    for index, (prompt, completion) in enumerate([(first, first), (first, second), (second, second)]):
        ids, cut = rendered("smollm2", prompt.prompt, completion.completion)
        row, last = int(branches.row_N[index]), int(branches.last_N[index])
        assert batch.token_BT[row][batch.may_attend_BTT()[row, last]].tolist() == ids
        assert learned[branch_P == index].tolist() == ids[cut:]


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=7))
def test_mismatched_completions_come_from_the_next_prompt(asked: list[str]) -> None:
    """Going round the list from each place, one by one."""
    verdicts = [verdict(f"v{index}", text) for index, text in enumerate(asked)]
    if len(set(asked)) == 1:
        with pytest.raises(DataError, match=f"all {len(asked)} verdicts have the same prompt"):
            mismatched(verdicts)
        return
    for index, found in enumerate(mismatched(verdicts)):
        turned = verdicts[index + 1 :] + verdicts[:index]
        assert found is next(other for other in turned if other.prompt != verdicts[index].prompt)


def test_grow_takes_verdicts_with_their_others() -> None:
    verdicts = [verdict("v1", "When?"), verdict("v2", "Where?")]
    others = dict(zip([one.id for one in verdicts], mismatched(verdicts), strict=True))
    trees = PreferenceTrees(TEMPLATES["smollm2"])
    grown = grow(verdicts, lambda one: trees.of_verdict(one, others[one.id]), max_tokens=200)
    assert [[child.name for child in tree.root.children] for tree in grown.trees] == [["good", "other"]] * 2
    with pytest.raises(DataError, match="nothing is left to train on: there are no records"):
        grow([], partial(trees.of_verdict), max_tokens=200)


def test_records_that_the_template_or_the_model_does_not_take_are_dropped_by_name() -> None:
    """Qwen's template cuts reasoning out of completions. The model has one position less than the long record needs."""
    cut = Comparison("cut", SHORT.prompt, ("<think>Hm.</think>Yes.", "No."))
    of = PreferenceTrees(TEMPLATES["qwen"]).of_comparison
    with pytest.raises(
        TemplateError, match=r"record 'cut': .*changes the assistant message.*\(in all: 1 template, good records: 1"
    ):
        grow([SHORT, cut], of, max_tokens=500)
    left = grow([cut, SHORT], of, max_tokens=500, on_bad_record="drop")
    assert (left.records, [one.reason for one in left.dropped]) == ((SHORT,), ["template"])

    positions = of(LONG).num_positions
    assert of(SHORT).num_positions < positions

    def check(needed: int, what: str) -> None:
        if needed >= positions:
            raise ModelError(f"{what} needs {needed} positions", "Split it.")

    with pytest.raises(ModelError, match=r"record 'long' needs .*\(in all: 1 too long, good records: 1\)"):
        grow([SHORT, LONG], of, max_tokens=500, check_positions=check)
    for policies in ({"on_bad_record": "drop"}, {"on_too_long": "drop"}):
        assert grow([SHORT, LONG], of, max_tokens=500, check_positions=check, **policies).records == (SHORT,)  # type: ignore[arg-type]
