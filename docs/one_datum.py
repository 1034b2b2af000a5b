"""The example of docs/explanation/one-datum.md: a document with two questions, from its text to the tensors of a batch.

Everything in it is computed by the code that trains. The tokenizer is trained on the built-in corpus, so that no
model is needed.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.synth.tokenizer import train_tokenizer
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import Layout, Node, PrefixTree

PAGE = Path(__file__).parent / "explanation" / "one-datum.md"
BEGIN, END = "<!-- example -->\n", "<!-- end -->"
TEXT = "The ferry leaves at 7:40 from pier 3."
_VOCABULARY, _LONGEST = 2000, 34


def with_example(page: str) -> str:
    """The page with its example as the code gives it now."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{textwrap.indent(example(), '    ')}\n{END}{rest.partition(END)[2]}"


def example() -> str:
    """The document with its questions as segments, and the tensors that hold them."""
    texts = [f"{one.text} {' '.join(q.text for q in one.questions)}" for one in read_source("builtin:train").documents]
    task = ExtractiveQa(ChatTemplate(train_tokenizer(texts, _VOCABULARY)))
    questions = (
        Question("when", "When does the ferry leave?", (Answer("7:40", TEXT.index("7:40")),)),
        Question("who", "Who steers it?"),
    )
    tree = task.training_tree(Document("timetable", TEXT, questions))
    batch = PackedBatch.from_trees([[tree]])
    return "\n".join([*_segments(tree, batch.rows[0]), "", *_tensors(batch)]) + "\n"


def _segments(tree: PrefixTree, row: Layout) -> list[str]:
    """A line for each segment: where its tokens stand, whether later tokens may look at them, and what is learned."""
    lines, at = [f"{'node':<6} {'part':<9} {'row':<7} {'position':<8} attend learn  text"], 0

    def add(node: Node, name: str) -> None:
        nonlocal at
        for segment in node.segments:
            end = at + len(segment.tokens)
            if not segment.tokens:
                continue
            text = segment.text.replace("\n", "⏎")
            text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
            rows, depth = _run(at, end), _run(row.position[at], row.position[end - 1] + 1)
            assert {bool(one) for one in row.learn[at:end]} == {bool(segment.learn)}
            attend, learn = "yes" if segment.attend else "no", f"{segment.learn:g}"
            lines.append(f"{name:<6} {segment.tag or 'template':<9} {rows:<7} {depth:<8} {attend:<6} {learn:<6} {text}")
            at = end
        for child in node.children:
            add(child, child.name)

    add(tree.root, "trunk")
    return lines


def _run(start: int, end: int) -> str:
    return f"{start}-{end - 1}" if end - start > 1 else f"{start}"


def _tensors(batch: PackedBatch) -> list[str]:
    """What a packed batch holds, and what is computed from it."""
    names = ("token", "position", "subtree_end", "predictor", "attend", "learn", "node")
    lines = [f"{name + '_BT':<15} {_shape(getattr(batch, f'{name}_BT'))}" for name in names]
    mask, row = batch.may_attend_BTT(), batch.rows[0]
    learned = sum(weight > 0 for weight in row.learn)
    first = [index for index in range(1, len(row)) if row.node[index] != row.node[index - 1]]
    return [
        *lines,
        f"{'may_attend_BTT':<15} {_shape(mask)}, {int(mask.sum()):,} of {mask.numel():,} are True",
        f"tokens          {batch.num_tokens}, and {batch.token_BT.shape[1] - batch.num_tokens} of padding",
        f"learned         {learned} tokens, and the denominator of the loss is {batch.learn_weight:g}",
        *(f"row index {index:<5} is predicted by the hidden state at {row.predictor[index]}" for index in first),
    ]


def _shape(tensor: object) -> str:
    shape, dtype = tuple(getattr(tensor, "shape")), str(getattr(tensor, "dtype")).removeprefix("torch.")  # noqa: B009
    return f"{shape} {dtype}"


def main() -> None:
    """Write the example into its page."""
    PAGE.write_text(with_example(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
