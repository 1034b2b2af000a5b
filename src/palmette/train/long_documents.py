"""Documents that are longer than a row, in windows such as the span decoder reads.

Each question is learned once. One with an answer is asked in the window to which the span decoder would ascribe the
answer. Questions without an answer are dealt out to the windows in turn. So a document of many windows teaches as many
answers and refusals as its questions say, which is the prior that the span decoder assumes (`decode/posterior.py`).

Not covered: a question whose answer can only be understood from text outside its window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from palmette.data.records import Document, Question
from palmette.decode.effort import Effort
from palmette.decode.spans import Window, cut_windows, words
from palmette.numbers import count
from palmette.tasks.extractive_qa import ExtractiveQa, learned_answer
from palmette.tree.prefix_tree import PrefixTree

# The decoder's windows.
_EFFORT = Effort()
# Windows are cut by the tokens of single words. Together these may have a few more.
_SURE = 0.9
_LEAST_TOKENS = 32
# Stands for a document that does not matter.
_ANY = "."


@dataclass
class Splits:
    """How many documents did not fit into one tree, and what that cost.

    Attributes:
        split: documents whose questions are in several trees, and these trees.
        repeated: the tokens that these trees have in common with the first one of their document.
        cut: documents that were cut into windows, and the trees of these windows.
    """

    split: tuple[int, int] = (0, 0)
    repeated: int = 0
    cut: tuple[int, int] = (0, 0)

    def add(self, trees: Sequence[PrefixTree]) -> None:
        """Count the trees of a document, or of a window of it."""
        if len(trees) > 1:
            self.split = self.split[0] + 1, self.split[1] + len(trees)
            self.repeated += sum(tree.root.num_tokens for tree in trees[1:])

    def lines(self) -> list[str]:
        """What happened, in words. Empty if every document has one tree.

        >>> for line in Splits(split=(1, 3), repeated=800, cut=(2, 9)).lines():
        ...     print(line)
        1 document is split over 3 trees, which repeat 800 tokens of it
        2 documents longer than a row are read in 9 trees of windows
        """
        said = []
        if self.split[0]:
            documents, trees = self.split
            one = documents == 1
            said.append(
                f"{count(documents, 'document')} {'is' if one else 'are'} split over {trees} trees, "
                f"which repeat {self.repeated:,} tokens of {'it' if one else 'them'}"
            )
        if self.cut[0]:
            documents, trees = self.cut
            verb = "is" if documents == 1 else "are"
            said.append(f"{count(documents, 'document')} longer than a row {verb} read in {trees} trees of windows")
        return said


def cut_document(task: ExtractiveQa, document: Document, max_tokens: int) -> list[Document]:
    """The windows of a document in which its questions are learned, each as a document of its own.

    Args:
        task: builds the trees.
        document: the document, whose questions all have a tree if they had the room.
        max_tokens: the most tokens of a tree.

    Returns:
        The windows with questions, in order. A window has about 1,024 tokens, or fewer where a tree has no more room.
        Empty if there is no room for a window beside a question.
    """
    branches = [task.training_branch(document, question)[1] for question in document.questions]
    trunk, _ = task.training_branch(replace(document, text=_ANY), replace(document.questions[0], answers=()))
    room = max_tokens - sum(len(segment.tokens) for segment in trunk) - max(one.num_tokens for one in branches)
    room = int(_SURE * room / (2 if task.prompt.again else 1))
    if room < _LEAST_TOKENS:
        return []
    tokens = min(_EFFORT.window_tokens, room)
    answers = [learned_answer(question) for question in document.questions]
    longest = max((len(words(answer.text)) for answer in answers if answer), default=0)
    windows = cut_windows(
        document.text,
        lambda texts: [len(ids) for ids in task.template.encoder.contents(texts)],
        max_words=max(_EFFORT.max_words, longest + 1),
        window_tokens=tokens,
        overlap_tokens=min(_EFFORT.overlap_tokens, tokens // 4),
    )
    asked: list[list[Question]] = [[] for _ in windows]
    refused = 0
    for question, answer in zip(document.questions, answers, strict=True):
        if answer is None:
            asked[refused % len(windows)].append(question)
            refused += 1
            continue
        place = _owner(windows, answer.start)
        moved = replace(answer, start=answer.start - windows[place].start)
        asked[place].append(replace(question, answers=(moved,), plausible=()))
    return [
        Document(
            f"{document.id} (window {number} of {len(windows)})",
            document.text[window.start : window.end],
            tuple(questions),
            document.title,
        )
        for number, (window, questions) in enumerate(zip(windows, asked, strict=True), start=1)
        if questions
    ]


def _owner(windows: Sequence[Window], start: int) -> int:
    """The window to which a span that starts there belongs."""
    return max((index for index, window in enumerate(windows) if window.words[0][0] <= start), default=0)
