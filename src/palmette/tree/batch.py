"""Packed batches, which hold laid-out trees as tensors, and their attention mask.

Shapes: B rows, T tokens in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from palmette.tree.packing import padded_length, plan_packing
from palmette.tree.prefix_tree import Layout, PrefixTree, lay_out


@dataclass(frozen=True)
class PackedBatch:
    """Rows of laid-out trees, padded on the right.

    Attributes:
        token_BT: token ids (int64). 0 in the padding.
        position_BT: depth along the branch (int64).
        subtree_end_BT: one past the last index of the subtree of the token's node (int64). Padding sees only itself.
        predictor_BT: index in the row of the previous token on the branch (int64). -1 if there is none.
        attend_BT: attend mask (bool).
        learn_BT: learn mask, which holds weights (float32). 0 in the padding.
        node_BT: index into `rows[b].nodes` (int64). -1 in the padding.
        rows: the layouts that the tensors were made from.
    """

    token_BT: torch.Tensor
    position_BT: torch.Tensor
    subtree_end_BT: torch.Tensor
    predictor_BT: torch.Tensor
    attend_BT: torch.Tensor
    learn_BT: torch.Tensor
    node_BT: torch.Tensor
    rows: tuple[Layout, ...]

    @classmethod
    def from_trees(cls, rows: Sequence[Sequence[PrefixTree]]) -> PackedBatch:
        """Make a batch from the trees of each row.

        Raises:
            PackingError: a tree learns its first token, which nothing predicts.
        """
        layouts = tuple(lay_out(*trees) for trees in rows)
        width = padded_length(max(len(layout) for layout in layouts))

        def tensor(name: str, fill: float, dtype: torch.dtype) -> torch.Tensor:
            values = [getattr(layout, name) + [fill] * (width - len(layout)) for layout in layouts]
            return torch.tensor(values, dtype=dtype)

        own_end = torch.arange(1, width + 1).expand(len(layouts), width)
        node_BT = tensor("node", -1, torch.int64)
        return cls(
            token_BT=tensor("token", 0, torch.int64),
            position_BT=tensor("position", 0, torch.int64),
            subtree_end_BT=torch.where(node_BT >= 0, tensor("subtree_end", 0, torch.int64), own_end),
            predictor_BT=tensor("predictor", -1, torch.int64),
            attend_BT=tensor("attend", False, torch.bool),
            learn_BT=tensor("learn", 0.0, torch.float32),
            node_BT=node_BT,
            rows=layouts,
        )

    @classmethod
    def pack(
        cls,
        trees: Sequence[PrefixTree],
        *,
        row_tokens: int,
        tokens_per_batch: int,
        one_row: bool = False,
        parts: int = 1,
    ) -> list[PackedBatch]:
        """Pack trees into as few batches as a token budget allows. `plan_packing` explains the arguments.

        Under a dense mask, each of three trees of 20 tokens gets a padded row of 32 tokens. A batch of 64 tokens holds
        two of them.

        >>> from palmette.tree.prefix_tree import Node
        >>> from palmette.tree.segments import Segment
        >>> trees = [PrefixTree(Node((Segment((token,) * 20),)), str(token)) for token in (5, 6, 7)]
        >>> batches = PackedBatch.pack(trees, row_tokens=64, tokens_per_batch=64)
        >>> [[layout.nodes for layout in batch.rows] for batch in batches]
        [[[('5', '')], [('6', '')]], [[('7', '')]]]

        Raises:
            PackingError: a tree is longer than `row_tokens`, or learns its first token.
        """
        plan = plan_packing(
            trees, row_tokens=row_tokens, tokens_per_batch=tokens_per_batch, one_row=one_row, parts=parts
        )
        return [cls.from_trees([[trees[index] for index in row] for row in rows]) for rows in plan]

    def may_attend_BTT(self) -> torch.Tensor:
        """The attention mask, which is True at [b, i, j] if token i of row b may attend to token j.

        >>> from palmette.tree.prefix_tree import Node
        >>> from palmette.tree.segments import Segment
        >>> trunk = (Segment((5,)), Segment((6,), attend=False))
        >>> leaves = (Node((Segment((7,)),)), Node((Segment((8,)),)))
        >>> batch = PackedBatch.from_trees([[PrefixTree(Node(trunk, leaves))]])
        >>> print(batch.may_attend_BTT()[0, :4, :4].int().numpy())
        [[1 0 0 0]
         [1 1 0 0]
         [1 0 1 0]
         [1 0 0 1]]
        """
        row = torch.arange(self.token_BT.shape[1], device=self.token_BT.device)
        i, j = row[:, None], row[None, :]
        inside = (j <= i) & (i < self.subtree_end_BT[:, None, :])
        return inside & (self.attend_BT[:, None, :] | (i == j))

    @property
    def num_tokens(self) -> int:
        """The number of tokens, without padding."""
        return sum(len(layout) for layout in self.rows)

    @property
    def learn_weight(self) -> float:
        """The sum of the learn weights."""
        return float(self.learn_BT.double().sum())

    @property
    def max_position(self) -> int:
        """The deepest position of any token."""
        return int(self.position_BT.max())

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on another device."""
        moved = {name: getattr(self, name).to(device) for name in self.__dataclass_fields__ if name != "rows"}
        return PackedBatch(**moved, rows=self.rows)
