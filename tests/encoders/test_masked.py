"""Masked language models: logits of chosen positions only, energies by their definition, and names."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from palmette.encoders.chain import Kernel, Space
from palmette.encoders.masked import MaskedModel, energies, head_logits, load_masked, text_energies
from palmette.errors import ModelError
from tests.support.conditionals import stationary
from tests.support.encoders import SMALL_BERT
from tests.support.masked import masked_word_piece, stock_models, tiny_bert


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])
def test_the_logits_of_some_positions_are_those_of_all(family: str) -> None:
    model = stock_models(30)[family]
    token_BT = torch.randint(5, 30, (3, 7), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": token_BT, "attention_mask": torch.ones_like(token_BT)}
    row_P, column_P = torch.tensor([2, 0, 0, 1]), torch.tensor([6, 0, 3, 3])
    with torch.no_grad():
        whole = model(**inputs).logits[row_P, column_P]
        assert torch.allclose(head_logits(model, inputs, row_P, column_P), whole, atol=1e-5)
        assert model(**inputs).logits.shape == (3, 7, 30)  # the model is as it was


@pytest.mark.parametrize("rows_per_batch", [64, 2])
def test_the_energy_is_that_of_masking_one_token_at_a_time(rows_per_batch: int) -> None:
    """By hand, row after row, with the whole model. The special tokens at the ends are masked by nobody."""
    model = tiny_bert()
    model = MaskedModel(model.model, model.tokenizer, "tiny", "tiny", rows_per_batch=rows_per_batch)
    texts = ["the red tower is high.", "a ferry was on pier 3"]
    rows = [model.row(model.content(text)) for text in texts]
    assert len(rows[0]) == len(rows[1]) == 8
    expected = []
    for row in rows:
        total = 0.0
        for column in range(1, len(row) - 1):
            masked = torch.tensor([[*row[:column], model.mask, *row[column + 1 :]]])
            with torch.no_grad():
                total -= float(model.model(input_ids=masked).logits[0, column].log_softmax(-1)[row[column]])
        expected.append(total)
    assert energies(model, torch.tensor(rows), range(1, 7)).tolist() == pytest.approx(expected, abs=1e-10)
    found, num_tokens = text_energies(model, texts)
    assert found == pytest.approx(expected, abs=1e-10)
    assert num_tokens == [6, 6]


def test_unknown_tokens_have_no_energy() -> None:
    model = tiny_bert()
    row = model.row(model.content("the zebra"))
    assert row == [2, *model.tokenizer.convert_tokens_to_ids(["the", "[UNK]"]), 3]
    assert model.counted(row) == [1]


def test_text_is_text() -> None:
    """[SEP] in a text is five signs that the vocabulary lacks, and never the token that ends a row."""
    model = tiny_bert()
    assert not {0, 2, 3, 4} & set(model.content("the [SEP] [MASK] tower"))


def test_a_real_network_keeps_the_law_too() -> None:
    """5 words at 3 places of a BERT in float64: 125 texts, with the law from their energies by definition, and the
    transition matrix from the kernel.
    """
    model = tiny_bert(initializer_range=0.4)
    words = model.tokenizer.convert_tokens_to_ids(["the", "tower", "is", "high", "red"])
    allowed_V = torch.zeros(len(model.tokenizer), dtype=torch.bool)
    allowed_V[words] = True
    kernel = Kernel(model, Space((2, 5, 5, 5, 3), (1, 2, 3), (1, 2, 3), allowed_V.repeat(3, 1)))
    states = list(itertools.product(words, repeat=3))
    index = {state: number for number, state in enumerate(states)}
    token_ST = torch.tensor([[2, *state, 3] for state in states])
    energy_S = kernel.at(token_ST).total_C
    pi = np.exp(-(energy_S - energy_S.min()).numpy())
    pi /= pi.sum()
    assert pi.max() > 3 / 125
    matrix = np.zeros((125, 125))
    for position in range(3):
        logq_SV = kernel.proposals(token_ST, torch.full((125, 1), position + 1))[:, 0]
        assert logq_SV[:, allowed_V].exp().sum(1).numpy() == pytest.approx(1)
        for number, state in enumerate(states):
            for word in words:
                other = index[(*state[:position], word, *state[position + 1 :])]
                old_logq, new_logq = logq_SV[number, state[position]], logq_SV[number, word]
                chance = kernel.log_acceptance(energy_S[number], energy_S[other], old_logq, new_logq, 1.0)
                matrix[number, other] += float((new_logq + chance).exp()) / 3
    matrix[np.arange(125), np.arange(125)] += 1 - matrix.sum(1)
    flow = pi[:, None] * matrix
    assert abs(flow - flow.T).max() < 1e-10
    assert abs(stationary(matrix) - pi).max() < 1e-10


@pytest.fixture(scope="module")
def bare_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head for masked tokens."""
    folder = tmp_path_factory.mktemp("bare")
    tokenizer = masked_word_piece()
    torch.manual_seed(3)
    BertModel(BertConfig(vocab_size=len(tokenizer), **SMALL_BERT)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_an_encoder_without_a_head_is_refused_or_gets_one(bare_encoder: Path) -> None:
    with pytest.raises(ModelError, match=r"has no head for masked tokens.*palmette train mlm"):
        load_masked(str(bare_encoder))
    one, other = (load_masked(str(bare_encoder), seed=seed) for seed in (1, 2))
    assert all(name.startswith("cls.predictions.") for name in one.fresh)
    words = one.model.get_input_embeddings().weight
    assert one.model.get_output_embeddings().weight is words  # tied, as BERT's is
    dense = "cls.predictions.transform.dense.weight"
    assert not torch.equal(one.model.state_dict()[dense], other.model.state_dict()[dense])


def test_a_text_that_is_too_long_is_refused() -> None:
    model = tiny_bert()
    with pytest.raises(ModelError, match="a text has 72 tokens, and 'tiny' reads at most 64"):
        model.row(model.content("the " * 70))
