"""How much memory a model needs to answer or to be trained, by arithmetic.

Training needs the weights, what the optimizer keeps (`train/steps/optimizer.py`), and the activations of one forward
pass. Logits are computed for the learned tokens only, so they count with their number and not with the context. With
gradient checkpointing a layer keeps its input, and one layer at a time is computed again.

On a CPU attention keeps its weights for the backward pass, which grow with the square of the context. On a GPU it does
not: FlexAttention computes them again. `benchmarks/plan.py` compares the figures of the CPU with measured peaks of
SmolLM2-135M. Those of the GPU have not been measured.

The row is taken as one document that fills the context, with few questions. Many short questions take less, since they
do not see each other. Not covered: DPO and other stages with a second model or samples, and several GPUs.

Letters: T tokens of the row, h hidden size, i width of the MLP, q and k widths of queries and of keys, r rank of the
adapter, b bytes of a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from palmette.model.outline import Outline

Device = Literal["gpu", "cpu"]
Method = Literal["answer", "lora", "qlora", "full"]

GIB = 2**30
# The process without a model: Python, libraries, and what loading leaves behind. On a GPU the context of CUDA, its
# libraries, and memory that the allocator cannot use.
_PROCESS: Mapping[tuple[Device, bool], int] = {
    ("cpu", False): 500_000_000,
    ("cpu", True): 580_000_000,
    ("gpu", False): 1_000_000_000,
    ("gpu", True): 1_000_000_000,
}
_LOADING = 500_000_000  # the process while a model is loaded on a CPU
_FUSED = ("llama", "mistral", "qwen2")  # families whose layers run as one operation on a CPU
# bits of a weight in 4-bit NormalFloat with quantized scales: 8 bits for 64 weights, 32 for 256 of these
_FOUR_BITS = 4 + 8 / 64 + 32 / (64 * 256)
_BLOCK = 200  # about the length of the blocks that attention is cut into on a CPU
_LOGIT_ROWS = 64  # rows of logits that are processed at once in float32
_ANSWER_ROWS = 256  # rows of logits of a pass of the span decoder, at most
_STORED = {"bfloat16": 2, "float16": 2}  # bytes of a stored weight. All others, GGUF files among them, load as float32.


@dataclass(frozen=True)
class PlannedWork:
    """What a model is to do.

    Attributes:
        method: "answer", or how it is trained: "lora", "qlora" (LoRA on a base in 4 bits), or "full".
        device: where.
        context: tokens of the longest row.
        checkpointing: whether activations are computed again in the backward pass.
        learned: tokens of the row that are learned.
        rank: rank of the adapter on all linear layers.
        value_bytes: bytes of a weight or activation: 2 for bfloat16, 4 for float32.
    """

    method: Method
    device: Device
    context: int
    checkpointing: bool = False
    learned: int = 300
    rank: int = 16
    value_bytes: int = 2

    @property
    def trains(self) -> bool:
        """Whether it is training."""
        return self.method != "answer"


@dataclass(frozen=True)
class Need:
    """The memory that a job needs at its peak, in bytes.

    Attributes:
        parts: what it is made of while the model works.
        loading: what loading takes at its peak, on the same device.
    """

    parts: Mapping[str, int]
    loading: int

    @property
    def total(self) -> int:
        """The peak."""
        return max(sum(self.parts.values()), self.loading)


def memory_need(outline: Outline, job: PlannedWork) -> Need:
    """The memory that a job needs.

    Args:
        outline: the model.
        job: what it is to do.
    """
    weights = _weights(outline, job)
    parts = {"process": _PROCESS[job.device, job.trains], "weights": weights}
    if not job.trains:
        parts |= _answering(outline, job)
    else:
        trained = outline.num_parameters if job.method == "full" else job.rank * outline.linear_width
        own = 0 if job.method == "full" else trained * job.value_bytes
        # Masters and two moments in float32, and the gradients: first in the model's dtype, then in float32.
        backward = {"gradients": trained * job.value_bytes, **_activations(outline, job)}
        step = {"gradients": 4 * trained}
        parts |= {"adapter": own, "optimizer": 12 * trained}
        parts |= backward if sum(backward.values()) > sum(step.values()) else step
    loading = 0
    if job.device == "cpu":
        stored = _STORED.get(outline.stored_dtype or "", 4)
        copy = 0 if stored == job.value_bytes else stored * outline.num_parameters
        loading = _LOADING + weights + (copy if job.trains else 0)
    return Need(parts, loading)


def _weights(outline: Outline, job: PlannedWork) -> int:
    if job.method != "qlora":
        return outline.num_parameters * job.value_bytes
    rest = outline.num_parameters - outline.linear_parameters
    return int(outline.linear_parameters * _FOUR_BITS / 8) + rest * job.value_bytes


def _answering(outline: Outline, job: PlannedWork) -> dict[str, int]:
    tokens, width = job.context, job.value_bytes
    layer = tokens * width * (4 * outline.hidden_size + 3 * outline.intermediate_size) + _attention(outline, job)
    return {
        "cached keys and values": tokens * width * outline.cached_values,
        "activations": layer + 2 * tokens * tokens,  # the mask, and a copy of it
        "logits": _ANSWER_ROWS * outline.vocabulary * (width + 4),
    }


def _activations(outline: Outline, job: PlannedWork) -> dict[str, int]:
    """Activations, attention weights and logits at the end of the forward pass, with what goes back through a layer."""
    tokens, width, layers = job.context, job.value_bytes, outline.num_layers
    layer, attention = tokens * _token_bytes(outline, job), _attention(outline, job)
    kept = 1 if job.checkpointing else layers
    inputs = layers * tokens * outline.hidden_size * width if job.checkpointing else 0
    backward = tokens * width * (3 * outline.intermediate_size + 2 * outline.hidden_size)
    logits = job.learned * outline.vocabulary * 2 * width + 2 * 4 * _LOGIT_ROWS * outline.vocabulary
    mask = 2 * tokens * tokens if job.device == "cpu" else 0
    return {
        "activations": inputs + kept * layer + backward + mask,
        "attention weights": kept * attention,
        "logits": logits,
    }


def _token_bytes(outline: Outline, job: PlannedWork) -> int:
    """Bytes that the backward pass through a layer needs of each token, without the weights of attention."""
    h, i, b = outline.hidden_size, outline.intermediate_size, job.value_bytes
    q, k = outline.num_heads * outline.head_size, outline.num_key_heads * outline.head_size
    low = 0 if job.method == "full" else 7 * job.rank
    if job.device == "cpu" and outline.family in _FUSED:
        # The inputs of both norms and of both groups of projections, queries, keys, values, heads, gate and up.
        return b * (4 * h + 2 * q + 2 * k + 2 * i + low) + 8
    # As before, with norms in float32, the activation and its product. All weights: the normed values too.
    full = 2 * h if job.method == "full" else 0
    return 8 * h + b * (2 * h + 2 * q + 2 * k + 4 * i + low + full) + 4 * outline.num_heads


def _attention(outline: Outline, job: PlannedWork) -> int:
    """Bytes of the weights of attention of a layer. Blocks of queries see the keys up to their own end."""
    if job.device == "gpu":
        return 0
    return outline.num_heads * job.value_bytes * job.context * (job.context + _BLOCK) // 2


def longest_context(outline: Outline, job: PlannedWork, room: int) -> int:
    """The longest context of a job that fits into so many bytes, to 64 tokens. 0 if none does.

    Args:
        outline: the model.
        job: the job, whose own context does not count.
        room: bytes that it may take.
    """
    most = outline.num_positions or 1 << 20
    low, high = 0, most // 64
    while low < high:
        middle = (low + high + 1) // 2
        if memory_need(outline, replace(job, context=64 * middle)).total <= room:
            low = middle
        else:
            high = middle - 1
    return 64 * low
