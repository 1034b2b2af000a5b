"""Elementwise passes, compiled or in torch: against torch's and transformers' own functions and automatic gradients
in float64.
"""

from __future__ import annotations

import itertools
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from palmette.model import blocks
from palmette.model.kernels import Kernels, NativeKernels, TorchKernels, kernels_for

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler on this machine")
# One rounding to bfloat16 is at most 2^-9 of a value; sums of rounded products come to a little more.
ROUNDING = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 2**-8}
WAYS = [
    pytest.param(TorchKernels, torch.float64, id="torch-float64"),
    pytest.param(TorchKernels, torch.bfloat16, id="torch-bfloat16"),
    pytest.param(None, torch.float32, id="compiled-float32", marks=needs_compiler),
    pytest.param(None, torch.bfloat16, id="compiled-bfloat16", marks=needs_compiler),
]
each_way = pytest.mark.parametrize(("maker", "dtype"), WAYS)


@pytest.fixture(autouse=True)
def fresh_choice() -> Iterator[None]:
    """`kernels_for` remembers what it chose."""
    kernels_for.cache_clear()
    yield
    kernels_for.cache_clear()


def made(maker: Callable[[], Kernels] | None, dtype: torch.dtype) -> Kernels:
    if maker is not None:
        return maker()
    kernels = kernels_for(dtype, "cpu")
    assert kernels.name == "compiled", "there is a compiler, but it could not be used"
    return kernels


def draw(dtype: torch.dtype, *shape: int, seed: int = 0, width: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return (width * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)


def assert_near(found: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype, times: float = 1) -> None:
    """Within two roundings of the dtype, relative to each value or to a typical one."""
    typical, limit = float(wanted.abs().mean()), 2 * times * ROUNDING[dtype]
    torch.testing.assert_close(found.double(), wanted, rtol=limit, atol=limit * typical)


@each_way
def test_rms_norm(maker: Callable[[], Kernels] | None, dtype: torch.dtype) -> None:
    kernels = made(maker, dtype)
    x, weight, grad, before = (draw(dtype, *s, seed=i) for i, s in enumerate([(5, 37), (37,), (5, 37), (5, 37)]))
    exact = x.to(torch.float64, copy=True).requires_grad_()
    wanted = torch.nn.functional.rms_norm(exact, (37,), weight.double(), 1e-3)
    (slope,) = torch.autograd.grad(wanted, exact, grad.double())
    y, inverse = kernels.rms_norm(x, weight, 1e-3)
    assert_near(y, wanted.detach(), dtype)
    total = before.clone()
    kernels.rms_norm_backward(grad, x, weight, inverse, total)
    assert_near(total, before.double() + slope, dtype)


@each_way
def test_swiglu(maker: Callable[[], Kernels] | None, dtype: torch.dtype) -> None:
    kernels = made(maker, dtype)
    gate, up, grad = (draw(dtype, 7, 33, seed=i, width=6) for i in range(3))
    gate[0, :4] = torch.tensor([-300.0, 300.0, -90.0, 0.0])  # beyond what e^x can hold
    exact = [x.to(torch.float64, copy=True).requires_grad_() for x in (gate, up)]
    wanted = torch.nn.functional.silu(exact[0]) * exact[1]
    slopes = torch.autograd.grad(wanted, exact, grad.double())
    assert_near(kernels.swiglu(gate, up), wanted.detach(), dtype)
    left = gate.clone(), up.clone()
    found = kernels.swiglu_backward(gate, up, grad)
    for got, slope in zip(found, slopes, strict=True):
        assert_near(got, slope, dtype)
    assert_near(grad, wanted.detach(), dtype)
    for now, before in zip((gate, up), left, strict=True):
        assert torch.equal(now, before), "what is kept for the way back was changed"


@each_way
def test_rotary_positions(maker: Callable[[], Kernels] | None, dtype: torch.dtype) -> None:
    kernels = made(maker, dtype)
    x_BTHD, angle = draw(dtype, 2, 5, 3, 8), draw(torch.float64, 2, 5, 4, width=3)
    cos, sin = (torch.cat((table, table), -1).to(dtype) for table in (angle.cos(), angle.sin()))
    exact = x_BTHD.double().clone().transpose(1, 2).requires_grad_()
    wanted, _ = apply_rotary_pos_emb(exact, exact, cos.double(), sin.double())
    grad = draw(dtype, 2, 3, 5, 8, seed=3)
    (slope,) = torch.autograd.grad(wanted, exact, grad.double())
    assert_near(kernels.rotate(x_BTHD, cos, sin), wanted.detach(), dtype)
    assert_near(kernels.rotate_backward(grad, cos, sin), slope.transpose(1, 2), dtype)


@each_way
def test_masked_softmax(maker: Callable[[], Kernels] | None, dtype: torch.dtype) -> None:
    kernels = made(maker, dtype)
    scores, grad = draw(dtype, 3, 6, 19, width=9), draw(dtype, 3, 6, 19, seed=1)
    mask = draw(torch.float64, 6, 19, seed=2) > 0.5
    mask[torch.arange(6), torch.arange(6)] = True
    mask[0], scores[0, 0, 1:] = False, 200.0  # one visible key, far below the hidden ones
    mask[0, 0] = True
    exact = scores.to(torch.float64, copy=True).requires_grad_()
    wanted = torch.softmax((0.3 * exact).masked_fill(~mask, float("-inf")), -1)
    kernels.masked_softmax(scores, mask, 0.3)
    assert_near(scores, wanted.detach(), dtype)
    assert not scores.double()[:, ~mask].any(), "a hidden key got some weight"
    assert float(scores[0, 0, 0]) == 1
    weights = wanted.detach().to(dtype)
    (slope,) = torch.autograd.grad(wanted, exact, grad.double())
    # Rounded weights no longer add up to 1, so the gradient is theirs: p (g - sum p g), the closed form.
    rounded = 0.3 * weights.double() * (grad.double() - (grad.double() * weights.double()).sum(-1, keepdim=True))
    assert_near(rounded, slope, dtype, 4)
    kernels.softmax_backward(grad, weights, 0.3)
    assert_near(grad, rounded, dtype)


@each_way
def test_scatter_add(maker: Callable[[], Kernels] | None, dtype: torch.dtype) -> None:
    """By hand: rows 4, 0 and 2 of five get something, on top of the ones that were there."""
    kernels = made(maker, dtype)
    wide = torch.promote_types(dtype, torch.float32)
    source, total = draw(dtype, 2, 3, 4), torch.ones(2, 5, 4, dtype=wide)
    kernels.scatter_add(source, torch.tensor([4, 0, 2]), total)
    added = {4: 0, 0: 1, 2: 2}
    for row in range(5):
        wanted = torch.ones(2, 4, dtype=wide) + (source[:, added[row]].to(wide) if row in added else 0)
        torch.testing.assert_close(total[:, row], wanted, rtol=0, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_a_number_stays_so(dtype: torch.dtype) -> None:
    """A loss that is not finite must be noticed, so nothing on the way may hide it."""
    kernels = made(None, dtype)
    x = draw(dtype, 2, 8)
    x[0, 3] = float("nan")
    assert kernels.rms_norm(x, x[1].clone(), 1e-5)[0][0].isnan().all()
    assert kernels.swiglu(x, x)[0, 3].isnan()
    assert not kernels.swiglu(x, x)[1].isnan().any()
    scores = x[None].clone()
    kernels.masked_softmax(scores, torch.ones(2, 8, dtype=torch.bool), 1.0)
    assert scores[0, 0].isnan().all()
    assert not scores[0, 1].isnan().any()


@needs_compiler
def test_results_round_to_nearest_even_like_torch() -> None:
    """silu(200) is 200 in float32, so swiglu is the rounding of 200 times something: torch's own must agree to the
    bit.
    """
    kernels, up = made(None, torch.bfloat16), draw(torch.bfloat16, 4096)
    found = kernels.swiglu(torch.full_like(up, 200.0), up)
    assert torch.equal(found, (200.0 * up.float()).to(torch.bfloat16))


@needs_compiler
def test_the_number_of_threads_changes_no_bit() -> None:
    kernels, before = made(None, torch.bfloat16), torch.get_num_threads()
    x, weight, mask = draw(torch.bfloat16, 301, 64), draw(torch.bfloat16, 64), torch.ones(43, 64, dtype=torch.bool)
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            scores = x.view(7, 43, 64).clone()
            kernels.masked_softmax(scores, mask, 0.5)
            results.append((*kernels.rms_norm(x, weight, 1e-5), scores))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_compiler
@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="the list of loaded libraries is read from /proc")
def test_torch_and_the_kernels_share_one_thread_pool() -> None:
    """Two OpenMP libraries in a process would have their threads wait for each other's processors."""
    made(None, torch.float32)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert len(set(re.findall(r"\S*lib[ig]omp\S*\.so\S*", maps))) == 1


@pytest.mark.parametrize(
    "environment", [{"PALMETTE_COMPILE": "0"}, {"CC": "false"}, {"CC": "no-such-compiler"}], ids=str
)
def test_without_a_compiler_torch_serves(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert kernels_for(torch.float32, "cpu").name == "torch"


@needs_compiler
def test_what_was_compiled_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path))
    assert isinstance(kernels_for(torch.float32, "cpu"), NativeKernels)
    (file,) = tmp_path.rglob("*.so")
    made_at = file.stat().st_mtime_ns
    kernels_for.cache_clear()
    kernels_for(torch.float32, "cpu")
    kernels_for(torch.bfloat16, "cpu")
    assert file.stat().st_mtime_ns == made_at
    assert len(list(tmp_path.rglob("*.so"))) == 2, "float32 and bfloat16 need a file each"
    assert kernels_for(torch.float64, "cpu").name == kernels_for(torch.float32, "cuda").name == "torch"


def test_cuts_cost_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all ways to cut a row of 10 tokens: a trunk of 4, branches of 3 and 3, costs counted from the mask
    itself.
    """
    monkeypatch.setattr(blocks, "_GRID", 1)
    end = np.array([10, 10, 10, 10, 7, 7, 7, 10, 10, 10])
    i, j = np.arange(10)[:, None], np.arange(10)[None, :]
    mask = (j <= i) & (i < end[None, :])

    def cost(cuts: tuple[int, ...], overhead: float) -> float:
        pieces = itertools.pairwise((0, *cuts, 10))
        return sum((b - a) * mask[a:b].any(axis=0).sum() + overhead for a, b in pieces)

    numbers = set()
    for overhead in (0.5, 3.0, 6.0, 30.0):
        monkeypatch.setattr(blocks, "_OVERHEAD", overhead)
        ways = [cuts for size in range(10) for cuts in itertools.combinations(range(1, 10), size)]
        found = tuple(blocks.cheapest_cuts(mask.sum(axis=1))[1:-1])
        assert cost(found, overhead) == min(cost(way, overhead) for way in ways)
        numbers.add(len(found))
    assert len(numbers) > 2, "all overheads led to the same cuts"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told how to take memory")
def test_freed_memory_is_kept() -> None:
    """In a process of its own, since it lasts: 124 MiB that were freed are used again without a page fault for each
    4 KiB.
    """
    code = """
import ctypes, resource, sys
from palmette.model.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def use():
    blocks = [libc.malloc(31 << 20) for _ in range(4)]
    for block in blocks:
        libc.memset(block, 1, 31 << 20)
    for block in blocks:
        libc.free(block)
for _ in range(3):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, check=True).stdout)
        for how in ("keep", "as ever")
    }
    assert faults["as ever"] > 10_000, "memory is kept anyway, so nothing is shown"
    assert faults["keep"] < 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told how to take memory")
def test_what_has_grown_is_given_back() -> None:
    """In a process of its own: 248 MiB are freed and kept; they go back where memory is above the height that was
    noted, not before.
    """
    code = """
import ctypes, psutil
from palmette.model.memory import ResidentLimit, keep_freed_memory
assert keep_freed_memory()
limit = ResidentLimit()
assert not limit.hold()
limit.reached()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
resident = lambda: psutil.Process().memory_info().rss >> 20
before = resident()
blocks = [libc.malloc(31 << 20) for _ in range(8)]
for block in blocks:
    libc.memset(block, 1, 31 << 20)
for block in blocks:
    libc.free(block)
high = resident()
print(high - before, limit.hold(), resident() - before, limit.hold())
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    kept, given_back, left, again = ran.stdout.split()
    assert (given_back, again) == ("True", "False")
    assert int(kept) > 240
    assert int(left) < 20
