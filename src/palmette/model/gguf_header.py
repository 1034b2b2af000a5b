"""The header of a GGUF file, read without its weights and without its vocabulary, in a moment even for a large file.

The layout follows the specification of GGUF, versions 2 and 3
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). `gguf.GGUFReader` reads the same and makes an object of
each of the hundred thousand tokens, which takes ten seconds.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from palmette.errors import ModelError, reason_of

# Formats of numbers by the type's number. Strings are 8, lists are 9.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9
_LONGEST_LIST = 4096  # a longer list is a vocabulary, and left out
_MOST = 1 << 24  # keys, tensors, or bytes of a string. More means that the file is damaged.


@dataclass(frozen=True)
class GgufLayout:
    """What the header of a GGUF file says.

    Attributes:
        architecture: such as "llama".
        keys: values of the keys of the architecture, without its name in front.
        general: values of the keys `general.*`, such as "license".
        shapes: shapes of the tensors by name, the fastest dimension first, as the file has them.
        types: the type of each tensor, such as "Q4_K".
    """

    architecture: str
    keys: Mapping[str, Any]
    general: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]

    def size(self, name: str) -> int:
        """The number of values of a tensor."""
        return math.prod(self.shapes[name])

    def usual_type(self, names: Iterable[str]) -> str:
        """The type that most values of these tensors have."""
        counted: Counter[str] = Counter()
        for name in names:
            counted[self.types[name]] += self.size(name)
        return counted.most_common(1)[0][0]


def read_layout(file: Path) -> GgufLayout:
    """Read the header of a GGUF file.

    Raises:
        ModelError: the file cannot be read, is no GGUF file, or is damaged or cut off.
    """
    try:
        with file.open("rb") as stream:
            return _read(stream)
    except OSError as error:
        raise ModelError(f"cannot read the GGUF file {str(file)!r}: {reason_of(error)}", "Check the path.") from error
    except (ValueError, KeyError, struct.error) as error:
        raise ModelError(
            f"{file} cannot be read as a GGUF model, it may be damaged or cut off", "Fetch the file again."
        ) from error


def _read(stream: BinaryIO) -> GgufLayout:
    from gguf import GGMLQuantizationType

    if stream.read(4) != b"GGUF" or _number(stream, 4) not in (2, 3):
        raise ValueError("no GGUF file of version 2 or 3")
    num_tensors, num_keys = (_limited(_number(stream, 10)) for _ in range(2))
    fields = {}
    for _ in range(num_keys):
        name = _string(stream)
        fields[name] = _value(stream, _number(stream, 4))
    shapes, types = {}, {}
    for _ in range(num_tensors):
        name = _string(stream)
        shapes[name] = tuple(_number(stream, 10) for _ in range(_limited(_number(stream, 4))))
        types[name] = GGMLQuantizationType(_number(stream, 4)).name
        _number(stream, 10)  # where its values are
    architecture = str(fields["general.architecture"])
    keys, general = (_below(fields, f"{prefix}.") for prefix in (architecture, "general"))
    return GgufLayout(architecture, keys, general, shapes, types)


def _below(fields: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in fields.items() if name.startswith(prefix)}


def _number(stream: BinaryIO, kind: int) -> Any:
    form = f"<{_NUMBERS[kind]}"
    return struct.unpack(form, stream.read(struct.calcsize(form)))[0]


def _limited(number: int) -> int:
    if number > _MOST:
        raise ValueError("a count that no file has")
    return number


def _string(stream: BinaryIO) -> str:
    length = _limited(_number(stream, 10))
    text = stream.read(length)
    if len(text) < length:
        raise ValueError("cut off")
    return text.decode("utf-8", "replace")


def _value(stream: BinaryIO, kind: int) -> Any:
    """A value of a key. None for a list that is long, of which nothing is kept."""
    if kind == _STRING:
        return _string(stream)
    if kind != _LIST:
        return _number(stream, kind)
    inner, length = _number(stream, 4), _limited(_number(stream, 10))
    if length <= _LONGEST_LIST or inner == _LIST:
        return [_value(stream, inner) for _ in range(length)]
    if inner == _STRING:
        for _ in range(length):
            stream.seek(_limited(_number(stream, 10)), 1)
    else:
        stream.seek(length * struct.calcsize(f"<{_NUMBERS[inner]}"), 1)
    return None
