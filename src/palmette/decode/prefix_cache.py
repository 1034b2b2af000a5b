"""A growing prefix tree with the keys and values of its tokens.

Branches are added pass by pass, and each attends to its ancestors only.

Letters: R read positions, N new tokens, C cached tokens, H heads, D size of a head, or of a hidden state, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from palmette.errors import PackingError
from palmette.model.forward import check_positions, masked_logits_with_hidden, num_layers

# Keys and values [1, H, T, D] of each layer, for T tokens.
States = Sequence[tuple[torch.Tensor, torch.Tensor]]


class _Slab(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, [1, H, capacity, D], filled from the left."""

    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity, self.filled = capacity, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Reserve the memory, once the shapes are known."""
        self.keys = key_states.new_empty((*key_states.shape[:2], self.capacity, key_states.shape[-1]))
        self.values = value_states.new_empty((*value_states.shape[:2], self.capacity, value_states.shape[-1]))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add keys and values of new tokens. The result is those of all tokens so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.filled = self.filled, self.filled + key_states.shape[-2]
        self.keys[:, :, start : self.filled] = key_states
        self.values[:, :, start : self.filled] = value_states
        return self.keys[:, :, : self.filled], self.values[:, :, : self.filled]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the mask that transformers would build."""
        return self.filled + query_length, 0

    def get_seq_length(self) -> int:
        """The number of tokens so far."""
        return self.filled

    def get_max_length(self) -> int:
        """The most tokens that fit."""
        return self.capacity


class PrefixCache:
    """Tokens in the order in which they were added, each with its parent, and their keys and values.

    The attention rule is that of the prefix tree, without its depth-first order. A token attends to itself, and to its
    ancestors whose attend mask is set.

    Args:
        model: a causal language model with one of our attention backends, in evaluation mode.
        capacity: the most tokens it can hold.
    """

    def __init__(self, model: Any, capacity: int) -> None:
        self._model = model
        self.capacity, self.length, self._done = capacity, 0, 0
        self._visible_CC = torch.zeros(capacity, capacity, dtype=torch.bool)
        self._attend_C = torch.zeros(capacity, dtype=torch.bool)
        self._token_C = torch.zeros(capacity, dtype=torch.int64)
        self._position_C = torch.zeros(capacity, dtype=torch.int64)
        self._slabs = [_Slab(capacity) for _ in range(num_layers(model))]

    def append(self, tokens: Sequence[int], parent: int, *, attend: bool = True) -> int:
        """Add a run of tokens below the token at slot `parent`. A parent of -1 makes it a root.

        The model reads them at the next `read`.

        Returns:
            The slot of the last token, or `parent` if there are no tokens.

        Raises:
            PackingError: there is no room.
        """
        start, end = self.length, self.length + len(tokens)
        if end > self.capacity:
            raise PackingError(
                f"a prefix cache of {self.capacity} tokens has no room for {end}", "Raise tokens_per_batch."
            )
        if not tokens:
            return parent
        rows = self._visible_CC[start:end]
        rows.zero_()
        if parent >= 0:
            rows[:, :start] = self._visible_CC[parent, :start] & self._attend_C[:start]
        own = torch.ones(len(tokens), len(tokens), dtype=torch.bool)
        rows[:, start:end] = own.tril() if attend else own.tril().triu()
        self._attend_C[start:end] = attend
        self._token_C[start:end] = torch.tensor(tokens)
        first = int(self._position_C[parent]) + 1 if parent >= 0 else 0
        self._position_C[start:end] = torch.arange(first, first + len(tokens))
        self.length = end
        return end - 1

    def read(self, slots: Sequence[int]) -> torch.Tensor:
        """Run the model over the tokens added since the last call. The result is logits [R, V] at some of their slots.

        Raises:
            PackingError: a slot was read before, or is empty.
            ModelError: the mask did not reach the model's attention, or a branch is longer than the model's positions.
        """
        return self.read_with_hidden(slots)[0]

    def read_with_hidden(self, slots: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """As `read`, with the hidden states [R, D] at these slots, as the output layer reads them."""
        start, end = self._done, self.length
        if not slots or min(slots) < start or max(slots) >= end:
            raise PackingError(f"slots to read must lie in {start}..{end - 1}", "Read what was appended last.")
        check_positions(self._model, int(self._position_C[start:end].max()) + 1, "a branch")
        for slab in self._slabs:
            slab.filled = start
        device = self._model.device
        found = masked_logits_with_hidden(
            self._model,
            self._token_C[None, start:end].to(device),
            self._position_C[None, start:end].to(device),
            self._visible_CC[None, start:end, :end].to(device),
            torch.tensor(slots, device=device) - start,
            past_key_values=Cache(layers=self._slabs),
        )
        self._done = end
        return found

    @property
    def num_unread(self) -> int:
        """The number of tokens that were added since the last call of `read`."""
        return self.length - self._done

    def states(self, start: int, end: int) -> States:
        """A copy of the keys and values of the tokens in the slots from `start` up to `end`, which were read."""
        return [
            (
                slab.keys[:, :, start:end].clone(memory_format=torch.contiguous_format),
                slab.values[:, :, start:end].clone(memory_format=torch.contiguous_format),
            )
            for slab in self._slabs
        ]

    def restore(self, tokens: Sequence[int], parent: int, states: States) -> int:
        """Add a run of tokens that the model has read before, with their keys and values.

        They must have been read below the same tokens. All tokens in the cache must have been read.

        Returns:
            The slot of the last token.

        Raises:
            PackingError: there is no room, or tokens of the cache were not read.
        """
        if self.num_unread:
            raise PackingError(f"{self.num_unread} tokens of the cache were not read", "Read them first.")
        start, last = self.length, self.append(tokens, parent)
        for slab, (keys, values) in zip(self._slabs, states, strict=True):
            slab.filled = start
            slab.update(keys, values)
        self._done = self.length
        return last

    def truncate(self, length: int) -> None:
        """Forget every token from slot `length` on."""
        self.length, self._done = min(self.length, length), min(self._done, length)
