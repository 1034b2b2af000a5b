"""Prefix trees on disk, by number: an Arrow file that is read through a memory map.

In memory is only where batches of trees begin. A tree comes back equal to what was written.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

from palmette.cache import cache_folder, mark_used, remove_abandoned
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

FOLDER = "trees"
_BATCH = 256  # trees that are written together
# One entry a tree, a node, a segment, a token.
_COLUMNS = ("tree", "node", "num_children", "num_segments", "num_tokens", "kind", "text", "attend", "learn", "tag")
_TOKENS = "tokens"


class StoredTrees(Sequence[PrefixTree]):
    """Trees that are added one after the other, and read once all are there.

    They are in a file of their own in the user's cache, which goes with this object.
    """

    def __init__(self) -> None:
        import pyarrow

        strings, numbers = pyarrow.list_(pyarrow.string()), pyarrow.list_(pyarrow.int32())
        masks = (pyarrow.list_(pyarrow.bool_()), pyarrow.list_(pyarrow.float64()))
        types = (pyarrow.string(), strings, numbers, numbers, numbers, strings, strings, *masks, strings, numbers)
        self._schema = pyarrow.schema(list(zip((*_COLUMNS, _TOKENS), types, strict=True)))
        parent = cache_folder() / FOLDER
        parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(parent)  # of processes that were killed
        folder = tempfile.mkdtemp(dir=parent, prefix=".")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._path = Path(folder) / "trees.arrow"
        self._writer: Any = pyarrow.ipc.new_file(str(self._path), self._schema)
        self._waiting: list[dict[str, Any]] = []
        self._starts: list[int] = [0]
        self._batches: list[Any] = []

    def extend(self, trees: Iterable[PrefixTree]) -> None:
        """Add trees."""
        for tree in trees:
            self._waiting.append(_record(tree))
            if len(self._waiting) == _BATCH:
                self._write()

    def finish(self) -> None:
        """Write what is left. From now on the trees can be read, and none can be added."""
        import pyarrow

        self._write()
        self._writer.close()
        reader = pyarrow.ipc.open_file(pyarrow.memory_map(str(self._path)))
        self._batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]

    def _write(self) -> None:
        import pyarrow

        if self._waiting:
            self._writer.write_batch(pyarrow.RecordBatch.from_pylist(self._waiting, schema=self._schema))
            self._starts.append(self._starts[-1] + len(self._waiting))
            self._waiting = []
            mark_used(self._path.parent)  # another run must not take it for abandoned

    def __len__(self) -> int:
        return self._starts[-1] + len(self._waiting)

    @overload
    def __getitem__(self, index: int) -> PrefixTree: ...
    @overload
    def __getitem__(self, index: slice) -> list[PrefixTree]: ...
    def __getitem__(self, index: int | slice) -> PrefixTree | list[PrefixTree]:
        """A tree, or those of a slice."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        mark_used(self._path.parent)
        batch = bisect_right(self._starts, index) - 1
        (record,) = self._batches[batch].slice(index - self._starts[batch], 1).to_pylist()
        return _tree(record)


def _record(tree: PrefixTree) -> dict[str, Any]:
    """A tree as a row: its nodes depth first, their segments, and the tokens of these."""
    nodes = list(tree.nodes())
    segments = [segment for node in nodes for segment in node.segments]
    return {
        "tree": tree.name,
        "node": [node.name for node in nodes],
        "num_children": [len(node.children) for node in nodes],
        "num_segments": [len(node.segments) for node in nodes],
        "num_tokens": [len(segment.tokens) for segment in segments],
        "kind": [segment.kind for segment in segments],
        "text": [segment.text for segment in segments],
        "attend": [segment.attend for segment in segments],
        "learn": [segment.learn for segment in segments],
        "tag": [segment.tag for segment in segments],
        _TOKENS: [token for segment in segments for token in segment.tokens],
    }


def _tree(record: dict[str, Any]) -> PrefixTree:
    """The tree of a row."""
    segments, first = [], 0
    columns = zip(*(record[name] for name in ("num_tokens", "kind", "text", "attend", "learn", "tag")), strict=True)
    for count, *others in columns:
        segments.append(Segment(tuple(record[_TOKENS][first : first + count]), *others))
        first += count
    done: list[Node] = []  # from the last node to the first, each takes its children from those done before it
    last = len(segments)
    for name, num_children, num_segments in zip(
        *(reversed(record[key]) for key in ("node", "num_children", "num_segments")), strict=True
    ):
        children = tuple(done.pop() for _ in range(num_children))
        done.append(Node(tuple(segments[last - num_segments : last]), children, name))
        last -= num_segments
    (root,) = done
    return PrefixTree(root, record["tree"])
