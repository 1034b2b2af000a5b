"""The built-in texts and prompts that retention is measured on."""

from __future__ import annotations

import re

from palmette.data.general import chat_prompts, passages


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_the_passages_are_what_they_say() -> None:
    texts = passages()
    assert len(texts) >= 12
    assert len({passage.id for passage in texts}) == len({passage.register for passage in texts}) == len(texts)
    for passage in texts:
        assert 150 <= len(passage.text.split()) <= 250, passage.id
        assert passage.text == passage.text.strip()
        # What a first token that nothing predicts holds can be decoded by itself.
        assert passage.text[0].isascii()


def test_no_passage_repeats_another_or_a_prompt() -> None:
    """No run of eight words stands in two of them; no two prompts say the same."""
    seen: dict[tuple[str, ...], str] = {}
    for item in (*passages(), *chat_prompts()):
        words = words_of(item.text)
        for start in range(len(words) - 7):
            run = tuple(words[start : start + 8])
            assert seen.setdefault(run, item.id) == item.id, (run, item.id)
    assert len(seen) > 2000
    assert len({" ".join(words_of(prompt.text)) for prompt in chat_prompts()}) == len(chat_prompts())


def test_the_prompts_are_of_many_kinds() -> None:
    prompts = chat_prompts()
    assert len(prompts) >= 24
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    assert len({prompt.kind for prompt in prompts}) >= 8
    assert all(4 <= len(words_of(prompt.text)) <= 40 for prompt in prompts)


def test_the_code_among_the_passages_is_code() -> None:
    (code,) = (passage.text for passage in passages() if passage.register == "code with comments")
    compile(code, "passage", "exec")
    assert code.count("# ") >= 3
