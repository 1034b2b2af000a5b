"""Chat templates of real model families: what is built from them equals what transformers renders with them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmette.errors import TemplateError
from palmette.tree.chat import ChatTemplate, Message, Piece
from tests.support.families import FAMILIES, family_tokenizer
from tests.support.tokenizers import CHATML, byte_level_tokenizer

TEXT_ONLY = [family for family in FAMILIES if family != "smolvlm"]
TOKENIZERS = {family: family_tokenizer(family) for family in FAMILIES}
TEMPLATES = {family: ChatTemplate(tokenizer) for family, tokenizer in TOKENIZERS.items()}
# Families that have no place for a system message, so that it goes in front of the first user message.
FOLDED = {"gemma-2", "mistral-7b-v0.2", "orion"}
# The end of prompts that are not the generation prompt without options, each read off what is built and
# then held against the generation prompt by the tests below:
# Qwen3: `enable_thinking=False` gives the empty block. DeepSeek-R1, and the V3 template here: the generation prompt
# opens a block, and a finished one reads "<think>\n...\n</think>\n\n". GLM-4.5: "<think></think>\n" before an answer
# without reasoning. Qwen3.8: the whole conversation holds an empty block. ChatGLM3: a line break and a blank.
ENDS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "qwen3": ("<|im_start|>assistant\n<think>\n\n</think>\n\n", {"enable_thinking": False}),
    "qwen3.8": ("<|im_start|>assistant\n<think>\n\n</think>\n\n", None),
    "deepseek-r1-distill": ("<\uff5cAssistant\uff5c><think>\n\n</think>\n\n", None),
    "deepseek-v3": ("<\uff5cAssistant\uff5c><think>\n\n</think>\n\n", None),
    "glm-4-moe": ("<|assistant|>\n<think></think>\n", None),
    "chatglm3": ("<|assistant|>\n ", None),
}
# Families that remove blank lines from contents. They get the document without any.
SQUEEZING = {"falcon-7b"}
DOCUMENT = "The ferry leaves at 7:40.\n\n\nIt is red.\r\n\r\n  - from pier 3\n\tdaily"


def squeezed(text: str) -> str:
    """A text without blank lines and carriage returns."""
    return "\n".join(line for line in text.splitlines() if line)


def turns(family: str, *, asked: str = "When does it leave?", said: str = "At 7:40.") -> list[Message]:
    """Two questions about a document, the second of which is asked here."""
    contents = [
        ("system", "Be exact."),
        ("user", squeezed(DOCUMENT) if family in SQUEEZING else DOCUMENT),
        ("assistant", "I have read it."),
        ("user", asked),
        ("assistant", said),
    ]
    return [Message(role, (Piece(text, tag=role),)) for role, text in contents]


def rendered(family: str, messages: list[Message], **options: Any) -> str:
    """The conversation as transformers renders it."""
    plain = [{"role": message.role, "content": message.pieces[0].text} for message in messages]
    if family in FOLDED:
        plain[1]["content"] = f"{plain[0]['content']}\n\n{plain[1]['content']}"
        plain = plain[1:]
    options = {"tokenize": False, "date_string": "26 Jul 2024", **options}
    return str(TOKENIZERS[family].apply_chat_template(plain, **options))


def prompt(family: str, messages: list[Message]) -> str:
    """What is built up to the last message of the assistant."""
    segments = TEMPLATES[family].segments(messages)
    last = max(index for index, segment in enumerate(segments) if segment.tag == "assistant")
    return "".join(segment.text for segment in segments[:last])


def test_there_are_at_least_20_families() -> None:
    assert len(TEXT_ONLY) >= 20
    assert set(ENDS) | FOLDED | SQUEEZING <= set(TEXT_ONLY)


@pytest.mark.parametrize("family", TEXT_ONLY)
def test_prompts_end_as_the_generation_prompt(family: str) -> None:
    messages = turns(family)
    built = prompt(family, messages)
    roles = [message.role for message in messages]
    end, options = ENDS.get(family, ("", {}))
    assert built.endswith(end)
    assert TEMPLATES[family].generation_options(roles) == options
    if options is not None:
        assert built == rendered(family, messages[:-1], add_generation_prompt=True, **options)
    else:  # the longest part that the two have in common is the generation prompt, or it is but for white space
        wanted = rendered(family, messages[:-1], add_generation_prompt=True)
        assert built.startswith(wanted)
        assert built.removeprefix(wanted).strip() in ("", "</think>", "<think></think>")


@pytest.mark.parametrize("family", TEXT_ONLY)
def test_the_segments_spell_what_the_family_writes(family: str) -> None:
    """Up to the end of the last turn.

    Where the prompt holds a block that the whole conversation has not, without it.
    """
    messages = turns(family)
    text = "".join(segment.text for segment in TEMPLATES[family].segments(messages))
    if family in ("deepseek-r1-distill", "deepseek-v3"):
        text = text.replace("<think>\n\n</think>\n\n", "")
    whole = rendered(family, messages)
    if text.endswith("<eos>") and not whole.endswith("<eos>"):  # nothing in the template ends the turn
        assert whole == text.removesuffix("<eos>")
    else:
        assert whole.startswith(text)
        assert whole.removeprefix(text).strip() in ("", "<eos>", "<|END_OF_TURN_TOKEN|>")


@pytest.mark.parametrize("family", TEXT_ONLY)
@given(asked=st.text(max_size=20), said=st.text("ab \n\t\r\u2028<>/[]{}|", max_size=12))
def test_white_space_and_brackets_in_contents_fare_as_in_the_template(family: str, asked: str, said: str) -> None:
    """Either the text is what transformers renders for the very contents, or the conversation is refused."""
    messages = turns(family, asked=asked or "?", said=said or "?")
    try:
        built = prompt(family, messages)
    except TemplateError:
        removed = family in SQUEEZING and ("\r\n" in said or "\n\n" in said)
        assert removed or asked != asked.strip() or said != said.strip() or not asked.isprintable() or "<" in said
        return
    options = ENDS.get(family, ("", {}))[1]
    wanted = rendered(family, messages[:-1], add_generation_prompt=True, **(options or {}))
    assert built.startswith(wanted.rstrip()) or not asked.strip()


@pytest.mark.parametrize("family", sorted(SQUEEZING))
@pytest.mark.parametrize("text", ["One.\n\nTwo.", "One.\r\nTwo."])
def test_contents_are_refused_where_the_template_removes_blank_lines_or_carriage_returns(
    family: str, text: str
) -> None:
    messages = turns(family, asked=text)
    assert text not in rendered(family, messages)
    with pytest.raises(TemplateError, match="changes the user message"):
        TEMPLATES[family].segments(messages)


# What each family does with a reasoning block in the assistant's last message. The others write it as it is.
THINKING = {
    "deepseek-r1-distill": "changes the assistant message|begins with <think>",
    "deepseek-v3": "changes the assistant message|begins with <think>",
    "falcon-7b": "changes the assistant message",  # for its blank line
    "glm-4-moe": "begins with <think>",
    "qwen3": "begins with <think>",
    "qwen3.8": "begins with <think>",
}


@pytest.mark.parametrize("family", TEXT_ONLY)
def test_reasoning_blocks_are_refused_where_the_template_acts_on_them(family: str) -> None:
    messages = turns(family, said="<think>\nThe table says so.\n</think>\n\nAt 7:40.")
    whole = rendered(family, messages)
    if family in THINKING:
        with pytest.raises(TemplateError, match=THINKING[family]):
            TEMPLATES[family].segments(messages)
        assert ChatTemplate(TOKENIZERS[family], literal=True).segments(messages)
    else:
        text = "".join(segment.text for segment in TEMPLATES[family].segments(messages))
        assert "<think>\nThe table says so.\n</think>\n\nAt 7:40." in text
        assert whole.startswith(text) or text.removesuffix("<eos>") == whole


@pytest.mark.parametrize("family", ["deepseek-r1-distill", "deepseek-v3", "glm-4-moe", "qwen3"])
def test_reasoning_in_an_earlier_turn_is_refused_where_the_template_removes_it(family: str) -> None:
    messages = turns(family)
    messages[2] = Message("assistant", (Piece("<think>\nHm.\n</think>\n\nI have read it."),))
    assert "Hm." not in rendered(family, messages)
    with pytest.raises(TemplateError, match="changes the assistant message"):
        TEMPLATES[family].segments(messages)


def test_multimodal_templates_are_refused_by_name() -> None:
    with pytest.raises(TemplateError, match="alters or leaves out the content of the user message"):
        TEMPLATES["smolvlm"].segments(turns("smolvlm"))


def chatml(content: str = "m.content", prompt: str = "<|im_start|>assistant\n", before: str = "") -> ChatTemplate:
    template = CHATML.replace("m.content", content).replace(
        "{% if add_generation_prompt %}<|im_start|>assistant\n", "{% if add_generation_prompt %}" + prompt
    )
    control = ["<|im_start|>", "<|im_end|>"]
    return ChatTemplate(byte_level_tokenizer(control, eos="<|im_end|>", template=before + template))


ACTING = {
    "blank lines": ("m.content.strip().replace('\\n\\n', '\\n')", "One.\n\nTwo.", r"writes '.*\\nTwo.*' in place of"),
    "line ends": ("m.content.replace('\\r\\n', '\\n')", "One.\r\nTwo.", "changes the user message"),
    "a cut": ("m.content[:200]", "long " * 60, "changes the user message"),
    "removed characters": ("m.content.replace('|', '')", "a | b", "changes the user message"),
    "an error": ("m.content + ('' if 'No' not in m.content else 1)", "No", "rejects the conversation"),
}


@pytest.mark.parametrize("case", sorted(ACTING))
def test_templates_that_act_on_real_content_are_refused_by_name(case: str) -> None:
    """None of this shows in probes, so a conversation without such content passes, and one with it is refused."""
    content, text, message = ACTING[case]
    template = chatml(content)
    question = [Message("user", (Piece("When?"),)), Message("assistant", (Piece("?"),))]
    assert template.segments(question)
    with pytest.raises(TemplateError, match=message):
        template.segments([Message("user", (Piece(text),)), question[1]])
    assert ChatTemplate(template._tokenizer, literal=True).segments([Message("user", (Piece(text),)), question[1]])


def test_a_generation_prompt_of_another_kind_is_refused() -> None:
    with pytest.raises(TemplateError, match=r"generation prompt with .*<\|im_start\|>bot.*but writes"):
        chatml(prompt="<|im_start|>bot\n").segments(turns("qwen3"))


def test_a_generation_prompt_that_closes_a_block_is_taken() -> None:
    """As DeepSeek-V3.1 does without reasoning: the whole conversation has no such block before an answer."""
    template = chatml(prompt="<|im_start|>assistant\n</think>")
    texts = [segment.text for segment in template.segments(turns(""))]
    assert texts[-3] == "<|im_end|>\n<|im_start|>assistant\n</think>"
    assert "".join(texts).count("</think>") == 1
    assert template.generation_options(["user", "assistant"]) == {}
