"""Numbers and amounts of money by rule: tables of examples, each value written by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from palmette.extraction.numbers import NotNormalisedError, read_amount, read_number

NUMBERS = {
    "42": "42",
    "1,250.50": "1250.50",
    "1.250,50": "1250.50",
    "1,250": "1250",
    "12,34,567": "1234567",
    "1 250 000": "1250000",
    "1\u202f250": "1250",
    "1'000": "1000",
    "1.000.000": "1000000",
    "1,5": "1.5",
    "0.125": "0.125",
    "3.14159": "3.14159",
    "5 %": "5",
    "thirty (30) days": "30",
    "five percent (5%)": "5",
    "-5": "-5",
    "\u22125": "-5",
    "$-5": "-5",
    "5.2 million": "5200000",
    "3 million": "3000000",
    "4bn": "4000000000",
    "twenty-five": "25",
    "a period of two hundred and fifty days": "250",
    "one million two hundred thousand": "1200000",
    "sixty": "60",
    ".5 %": "0.5",
    "-.5": "-0.5",
    "No.5": "5",
    "0,250": "0.250",
    "minus 5": "-5",
    "two trillion": "2000000000000",
}
NO_NUMBERS = {
    "": "no number",
    "the tenant": "no number",
    "3 to 5": "several numbers: 3, 5",
    "three or four": "several numbers: three, four",
    "twenty thirty": "is no number",
    "A4": "together with letters",
    "5th": "together with letters",
    "1.2.3": "part no thousands",
    "1,2,3.4": "part no thousands",
    "1.250": "two ways",
    "1250 100": "several numbers: 1250, 100",
    "2021 500": "several numbers: 2021, 500",
    "a loss of -5": "may mean that it is negative",
    "minus five": "no rule reads 'minus'",
    "one half": "no rule reads 'half'",
    "two and a half million": "no rule reads 'half'",
    "two millions": "no rule reads 'millions'",
    "two dozen": "no rule reads 'dozen'",
    "two thousand one million": "is no number",
    "five hundred hundred": "is no number",
    "5 lakh": "no rule reads what '5 lakh' counts",
    "2 hundred": "no rule reads",
    "5 thousand million": "no rule reads",
}
AMOUNTS = {
    "$5": ("5", "$"),
    "US$ 1,250": ("1250", "USD"),
    "1,250 USD": ("1250", "USD"),
    "USD $500": ("500", "USD"),
    "US dollars 40": ("40", "USD"),
    "C$ 40": ("40", "CAD"),
    "A$5": ("5", "AUD"),
    "€3,50": ("3.50", "EUR"),
    "EUR 3.4 million": ("3400000", "EUR"),
    "£0.99": ("0.99", "GBP"),
    "¥500": ("500", "¥"),
    "twenty dollars": ("20", "$"),
    "$.01": ("0.01", "$"),
    "5 million euros": ("5000000", "EUR"),
    "500 Swiss francs": ("500", "CHF"),
}
NO_AMOUNTS = {
    "5": "names no currency",
    "$5 and €5": "several currencies: \\$, EUR",
    "$5 and $6": "several numbers",
    "($5,000)": "negative",
    "$(5,000)": "negative",
    "USD (5.2) million": "negative",
    "a loss -$5": "negative",
    "£5 m": "no rule reads what '5 m' counts",
    "3 Millionen €": "no rule reads what '3 millionen' counts",
    "3 milliards €": "no rule reads",
    "€ 1.250": "two ways",
    "dollars": "no number",
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_read(text: str) -> None:
    assert read_number(text) == Decimal(NUMBERS[text])


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_certain_number_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(NotNormalisedError, match=NO_NUMBERS[text]):
        read_number(text)


@pytest.mark.parametrize("text", AMOUNTS)
def test_an_amount_has_a_currency(text: str) -> None:
    number, currency = AMOUNTS[text]
    assert read_amount(text) == (Decimal(number), currency)


@pytest.mark.parametrize("text", NO_AMOUNTS)
def test_what_is_no_certain_amount_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(NotNormalisedError, match=NO_AMOUNTS[text]):
        read_amount(text)


@pytest.mark.parametrize(
    ("text", "decimal", "number"),
    [("1.250", ".", "1.25"), ("1.250", ",", "1250"), ("1,250", ",", "1.25"), ("1,250", ".", "1250")],
)
def test_the_schema_says_what_parts_the_decimals(text: str, decimal: str, number: str) -> None:
    assert read_number(text, decimal) == Decimal(number)  # type: ignore[arg-type]
