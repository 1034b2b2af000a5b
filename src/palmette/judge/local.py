"""A local model as a judge. It generates nothing: its possible verdicts are the branches of one tree.

The question, with the answers in it, is read once. Each verdict is a whole reply of the assistant, with the tokens that
end it, so "1" is another reply than "10". What is read off is the log-probability of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from palmette.inference.base import load_merged
from palmette.inference.names import ModelName, resolve_answerer
from palmette.judge.wording import Case, JudgePrompt
from palmette.model.attention import skips_hidden
from palmette.model.checks import check_model
from palmette.model.forward import branch_logprobs, check_positions, evaluating, score_tokens
from palmette.model.loading import LoadedModel, dtype_name
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate, Message, Piece
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

TOKENS_PER_BATCH = 8192
_VERDICT = "verdict"


class VerdictTrees:
    """Builds the trees of a judge's questions.

    Args:
        tokenizer: the judge's tokenizer.
        prompt: what it is asked.

    Raises:
        TemplateError: the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any, prompt: JudgePrompt) -> None:
        self._prompt = prompt
        # Literal, since nobody can correct what models have written.
        self._template = ChatTemplate(tokenizer, literal=True)

    def tree(self, case: Case, name: str) -> PrefixTree:
        """A case with its possible verdicts as branches, each named by its word.

        Raises:
            TemplateError: the chat template cannot hold the messages.
        """
        asked = self._prompt.messages(case)
        trunk: tuple[Segment, ...] = ()
        leaves = []
        for word in case.words:
            reply = Message("assistant", (Piece(word, learn=1.0, tag=_VERDICT),))
            segments = self._template.segments([*asked, reply])
            cut = next(index for index, segment in enumerate(segments) if segment.tag == _VERDICT)
            trunk = tuple(segments[:cut])
            leaves.append(Node(tuple(segments[cut:]), name=word))
        return PrefixTree(Node(trunk, tuple(leaves)), name)


class LocalJudge:
    """A chat model that scores its possible verdicts.

    Args:
        loaded: the model, with one of our attention backends, and its tokenizer.
        prompt: what it is asked.
        tokens_per_batch: the most tokens in memory at the same time. A tree that is longer is scored by itself.

    Attributes:
        name: the model's name.
        notes: nothing.

    Raises:
        TemplateError: the tokenizer has no chat template.
    """

    notes = ()

    def __init__(self, loaded: LoadedModel, prompt: JudgePrompt, tokens_per_batch: int = TOKENS_PER_BATCH) -> None:
        self.name, self._loaded, self._prompt, self._most = loaded.name, loaded, prompt, tokens_per_batch
        self._trees = VerdictTrees(loaded.tokenizer, prompt)

    @property
    def identity(self) -> dict[str, Any]:
        """What its verdicts depend on."""
        loaded = self._loaded
        return {
            "kind": "model",
            "model": loaded.content or f"{loaded.name} {loaded.folder}",
            "dtype": dtype_name(loaded.model.dtype),
            "prompt": self._prompt.sha256,
        }

    def odds(self, cases: Sequence[Case]) -> Iterator[tuple[int, Mapping[str, float]]]:
        """The index of each case with the probability of each verdict. They sum to 1.

        Raises:
            ModelError: a case is longer than the model reads.
            TemplateError: the chat template cannot hold the messages.
        """
        trees = [self._trees.tree(case, str(index)) for index, case in enumerate(cases)]
        model = self._loaded.model
        for index, tree in enumerate(trees):
            check_positions(model, tree.num_positions, f"judging pair or answer {index + 1}")
        if not trees:
            return
        longest = max(tree.num_tokens for tree in trees)
        batches = PackedBatch.pack(
            trees,
            row_tokens=longest,
            tokens_per_batch=self._most,
            one_row=skips_hidden(model),
        )
        for batch in batches:
            with torch.inference_mode(), evaluating(model):
                scores = score_tokens(model, batch.to(model.device))
                rows = branch_logprobs(batch, scores)
            found: dict[int, dict[str, float]] = {}
            for (tree_name, word), logprob in (item for row in rows for item in row.items()):
                found.setdefault(int(tree_name), {})[word] = float(logprob)
            for index, logprobs in found.items():
                yield index, _normalised(logprobs, cases[index].words)


def _normalised(logprobs: Mapping[str, float], words: Sequence[str]) -> dict[str, float]:
    shares = torch.softmax(torch.tensor([logprobs[word] for word in words], dtype=torch.float64), dim=0)
    return dict(zip(words, shares.tolist(), strict=True))


def load_local_judge(name: ModelName, prompt: JudgePrompt) -> LocalJudge:
    """Load a model as a judge.

    Args:
        name: a run folder, a model folder, a GGUF file, or a hub id.
        prompt: what it is asked.

    Raises:
        ModelError: the model is missing, or cannot honour the attention mask of a tree.
        RunError: the run is not finished.
        TemplateError: it has no chat template.
    """
    loaded = load_merged(resolve_answerer(name))
    check_model(loaded.model, training=False, weights=loaded.content)
    loaded.model.eval()
    return LocalJudge(loaded, prompt)
