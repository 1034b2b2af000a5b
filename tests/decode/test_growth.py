"""Branches grown on a prefix cache, against one plain row after another."""

from __future__ import annotations

import pytest
import torch

from palmette.decode.growth import grow, likeliest
from palmette.decode.prefix_cache import PrefixCache
from palmette.errors import PackingError
from tests.support.models import tiny_llama

PROMPTS = ([3, 1, 4], [3, 1, 5, 9], [2, 6])


def plainly(tokens: list[int]) -> torch.Tensor:
    """The logits after a row of tokens, by stock attention."""
    with torch.no_grad():
        logits: torch.Tensor = tiny_llama(torch.float64, "sdpa")(input_ids=torch.tensor([tokens])).logits[0, -1]
    return logits


def greedily(tokens: list[int], count: int) -> list[int]:
    found: list[int] = []
    for _ in range(count):
        found.append(int(plainly(tokens + found).argmax()))
    return found


@torch.inference_mode()
def test_each_branch_ends_by_its_own_rule_and_can_be_continued() -> None:
    """Four branches: one ended by a stop token, one by the rule, one by its limit, one that may have no token at
    all.
    """
    cache = PrefixCache(tiny_llama(torch.float64), 64)
    slots = [cache.append(prompt, -1) for prompt in (*PROMPTS, PROMPTS[0])]
    wanted = [greedily(prompt, 6) for prompt in PROMPTS]
    end = wanted[0][2]
    assert end not in wanted[0][:2]
    assert end not in wanted[1]
    assert end not in wanted[2][:4]
    found = grow(
        cache,
        slots,
        likeliest,
        limits=[6, 6, 4, 0],
        stop_tokens={end},
        stop=lambda index, tokens: index == 1 and len(tokens) == 3,
    )
    assert [growth.tokens for growth in found] == [wanted[0][:2], wanted[1][:3], wanted[2][:4], []]
    assert [(growth.reason, growth.end) for growth in found] == [
        ("end", end),
        ("stop", None),
        ("length", None),
        ("length", None),
    ]
    assert found[3].slot == slots[3]
    below = [cache.append([7, 8], growth.slot) for growth in found]
    logits_RV = cache.read(below)
    for row, (prompt, growth) in enumerate(zip((*PROMPTS, PROMPTS[0]), found, strict=True)):
        # transformers' rotary angles are float32.
        assert torch.allclose(logits_RV[row], plainly([*prompt, *growth.tokens, 7, 8]), atol=1e-5)


@torch.inference_mode()
def test_branches_that_begin_at_one_slot_share_it() -> None:
    """Two branches below one prompt, led apart by the chooser: each sees its own tokens alone."""
    cache = PrefixCache(tiny_llama(torch.float64), 16)
    slot = cache.append(PROMPTS[0], -1)
    found = grow(
        cache,
        [slot, slot],
        lambda logits_RV, rows: [10 + row if len(logits_RV) == 2 and cache.length == 3 else 20 + row for row in rows],
        limits=2,
    )
    assert [growth.tokens for growth in found] == [[10, 20], [11, 21]]
    assert cache.length == 3 + 2 * 2
    logits_RV = cache.read([growth.slot for growth in found])
    for row, growth in enumerate(found):
        assert torch.allclose(logits_RV[row], plainly([*PROMPTS[0], *growth.tokens]), atol=1e-5)


def test_a_full_cache_is_an_error() -> None:
    cache = PrefixCache(tiny_llama(torch.float64), 4)
    slot = cache.append(PROMPTS[0], -1)
    with pytest.raises(PackingError, match="of 4 tokens has no room for 5"):
        grow(cache, [slot], likeliest, limits=3)
