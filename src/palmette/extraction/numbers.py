"""Numbers and amounts of money as people write them, read by rule. What is not certain is refused, with the reason."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal

DecimalMark = Literal[".", ","]

_SPACES = "\u00a0\u202f\u2009"
_GROUPS = rf" '\u2019{_SPACES}"  # between groups of three digits, besides a point or a comma
_DIGITS = re.compile(rf"(?<![\w.,])\.\d+|(?:\d{{1,3}}(?:[{_GROUPS}]\d{{3}}(?!\d))+|\d+)(?:[.,]\d+)*")
_MINUS = "-\u2212\u2013"  # also the minus sign and the dash
_SCALES = {
    "thousand": 10**3,
    "million": 10**6,
    "millions": 10**6,
    "mn": 10**6,
    "billion": 10**9,
    "billions": 10**9,
    "bn": 10**9,
    "trillion": 10**12,
}
_OTHER_SCALES = (  # which no rule reads
    "hundred hundreds thousands trillions dozen dozens lakh lakhs crore crores mio mrd mln bln tn trn tausend "
    "millionen milliarde milliarden milliard milliards mille mil millón millones"
)
_UNREAD_SCALES = frozenset(_OTHER_SCALES.split())
_LETTER_SCALE = re.compile(rf"\d[\s{_SPACES}]+(?:k|m|mm|b)\b", re.IGNORECASE)
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: value for value, word in enumerate(_ONES.split())}
_WORDS |= {word: 10 * number for number, word in enumerate(_TENS.split(), start=2)}
_MULTIPLES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_OTHER_NUMERALS = (  # beside which a numeral is not the whole number
    "half halves third thirds quarter quarters fourth fourths fifth fifths eighth eighths tenth tenths point minus "
    "negative millions billions"
)
_BESIDE = frozenset(_OTHER_NUMERALS.split()) | _UNREAD_SCALES - _MULTIPLES.keys()

# Signs and words of currencies, the longest first where one holds another. A bare sign that several countries use
# stays as it is, since no document says by it whose money it is.
_CURRENCIES = {
    "US$": "USD",
    "USD": "USD",
    "CA$": "CAD",
    "C$": "CAD",
    "A$": "AUD",
    "AU$": "AUD",
    "NZ$": "NZD",
    "HK$": "HKD",
    "S$": "SGD",
    "R$": "BRL",
    "€": "EUR",
    "£": "GBP",
    "₹": "INR",
    "₩": "KRW",
    "₽": "RUB",
    "₺": "TRY",
    "₪": "ILS",
    "₴": "UAH",
    "₫": "VND",
    "$": "$",
    "¥": "¥",
}
_CURRENCY_WORDS = {
    "us dollars": "USD",
    "u.s. dollars": "USD",
    "united states dollars": "USD",
    "american dollars": "USD",
    "canadian dollars": "CAD",
    "australian dollars": "AUD",
    "dollars": "$",
    "dollar": "$",
    "euros": "EUR",
    "euro": "EUR",
    "pounds sterling": "GBP",
    "swiss francs": "CHF",
    "yen": "JPY",
    "rupees": "INR",
    "renminbi": "CNY",
}
_CODES = (
    "AED ARS AUD BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KES KRW MAD MXN MYR NGN "
    "NOK NZD PEN PHP PKR PLN QAR RON RUB SAR SEK SGD THB TRY TWD UAH USD UYU VND ZAR"
)
_SIGN = re.compile("|".join(map(re.escape, sorted(_CURRENCIES, key=len, reverse=True))))
_CODE = re.compile(rf"\b(?:{_CODES.replace(' ', '|')})\b")
_SCALE = re.compile(rf"\b(?:{'|'.join(_SCALES)})\b", re.IGNORECASE)
_DASH = re.compile(rf"\s[{_MINUS}](?:{_SIGN.pattern})?$")
_MINUS_WORD = re.compile(rf"\b(?:minus|negative)\s*(?:{_SIGN.pattern})?\s*$", re.IGNORECASE)


class NotNormalisedError(Exception):
    """A value that no rule reads with certainty. The message is the reason, for people."""


def read_number(text: str, decimal: DecimalMark | None = None) -> Decimal:
    """The number that a text holds, in digits or in English words.

    Args:
        text: the text, such as "1,250.50", "thirty (30) days" or "5.2 million". A per cent sign is left out, so "5 %"
            is 5.
        decimal: what parts the decimals where a text does not say it. If None, the comma of "1,250" parts thousands,
            and "1.250" is refused, since it is written for both 1250 and 1.25.

    Raises:
        NotNormalisedError: the text holds no number, several different ones, or one that can be read in two ways.

    >>> read_number("$1,250.50"), read_number("thirty (30) days"), read_number("1.250", ",")
    (Decimal('1250.50'), Decimal('30'), Decimal('1250'))
    """
    found = _in_digits(text, decimal)
    if not found:
        return Decimal(_in_words(text))
    distinct = list(dict.fromkeys(found))
    if len(distinct) > 1:
        raise NotNormalisedError(f"it holds several numbers: {', '.join(f'{one:f}' for one in distinct)}")
    return distinct[0]


def read_amount(text: str, decimal: DecimalMark | None = None) -> tuple[Decimal, str]:
    """The amount of money that a text holds, and its currency.

    Args:
        text: the text, such as "$1,250" or "EUR 3.4 million".
        decimal: as in `read_number`.

    Returns:
        The amount, and the ISO 4217 code of the currency. A sign of several currencies, such as "$", stays as it is.

    Raises:
        NotNormalisedError: the text holds no amount or several, or names no currency or several.

    >>> read_amount("US$ 1,250"), read_amount("£ 3.4 million"), read_amount("$5")
    ((Decimal('1250'), 'USD'), (Decimal('3400000'), 'GBP'), (Decimal('5'), '$'))
    """
    around = _CODE.sub("", _SIGN.sub("", _SCALE.sub("", text)))
    if re.fullmatch(r"\s*\([^()]*\)\s*", around):
        raise NotNormalisedError("it stands in brackets, which may mean that it is negative")
    if letter := _LETTER_SCALE.search(text):
        raise NotNormalisedError(f"no rule reads what {letter[0]!r} counts")
    number = read_number(text, decimal)
    named = _currencies(text)
    if not named:
        raise NotNormalisedError("it names no currency")
    if len(named) > 1:
        raise NotNormalisedError(f"it names several currencies: {', '.join(named)}")
    return number, named[0]


def _currencies(text: str) -> list[str]:
    """The currencies that a text names, each once. One that says whose dollar "$" is takes its place."""
    found = [_CURRENCIES[match[0]] for match in _SIGN.finditer(text)]
    found += [match[0] for match in _CODE.finditer(text)]
    lowered = text.lower()
    for word, code in _CURRENCY_WORDS.items():  # the longer ones stand before those that they hold
        if re.search(rf"\b{re.escape(word)}\b", lowered):
            found.append(code)
            lowered = lowered.replace(word, " ")
    named = list(dict.fromkeys(found))
    for sign, codes in (("$", ("USD", "CAD", "AUD", "NZD", "HKD", "SGD", "MXN")), ("¥", ("JPY", "CNY"))):
        if sign in named and any(code in named for code in codes):
            named.remove(sign)
    return named


def _in_digits(text: str, decimal: DecimalMark | None) -> list[Decimal]:
    found = []
    for match in _DIGITS.finditer(text):
        before, after = text[: match.start()], text[match.end() :]
        if before[-1:].isalpha() or re.match(r"(?!(?:mn|bn)\b)[^\W\d_]", after):
            raise NotNormalisedError(f"{match[0]!r} is written together with letters")
        number = _digits(match[0], decimal)
        words = re.match(rf"(?:[\s{_SPACES}-]*([^\W\d_]+)\b)?(?:[\s{_SPACES}]+([^\W\d_]+)\b)?", after)
        scale, second = ((word or "").lower() for word in (words.groups() if words else ("", "")))
        if scale in _UNREAD_SCALES or (scale in _SCALES and second in {*_SCALES, *_UNREAD_SCALES}):
            raise NotNormalisedError(f"no rule reads what {f'{match[0]} {scale}'!r} counts")
        if scale in _SCALES:
            number = (number * _SCALES[scale]).normalize() + 0  # "+ 0" writes 3E+6 out again
        found.append(-number if _is_negative(before, match[0]) else number)
    return found


def _is_negative(before: str, written: str) -> bool:
    """Whether what stands before a number makes it negative."""
    signless = re.sub(rf"[\s{_SPACES}]+$", "", _SIGN.sub("", before[-6:]))
    if signless[-1:] and signless[-1] in _MINUS and not signless[:-1].rstrip()[-1:].isalnum():
        return True
    if _DASH.search(before):  # after a word: a minus, or a dash between the two
        raise NotNormalisedError(f"the dash before {written!r} may mean that it is negative")
    return _MINUS_WORD.search(before) is not None


def _digits(written: str, decimal: DecimalMark | None) -> Decimal:
    """A number in digits, of which points and commas may be decimal marks or part thousands."""
    bare = re.sub(rf"[{_GROUPS}]", "", written)
    marks = [character for character in bare if character in ".,"]
    if not marks:
        return Decimal(bare)
    grouping = "." if decimal == "," else ","
    if len(set(marks)) == 2:
        mark = marks[-1]
        grouping = marks[0]
        if marks.count(mark) > 1:
            raise NotNormalisedError(f"the marks of {written!r} cannot be told apart")
    elif len(marks) > 1 or (marks[0] == grouping and _grouped(bare, grouping)):
        mark, grouping = "", marks[0]
    elif decimal is None and marks[0] == "." and _grouped(bare, "."):
        raise NotNormalisedError(f"{written!r} can be read in two ways, and decimal of the schema says which")
    else:
        mark, grouping = marks[0], ""
    whole, _, part = bare.partition(mark) if mark else (bare, "", "")
    if grouping and grouping in whole and not _grouped(whole, grouping):
        raise NotNormalisedError(f"the marks of {written!r} part no thousands")
    return Decimal(whole.replace(grouping, "") + ("." + part if part else ""))


def _grouped(digits: str, mark: str) -> bool:
    """Whether a mark parts groups of three digits, or of two as in India, with three at the end, and no 0 first."""
    first, *others = digits.split(mark)
    *middle, last = others
    begins = 1 <= len(first) <= 3 and first[0] != "0"
    return begins and len(last) == 3 and {len(group) for group in middle} <= {2, 3}


def _in_words(text: str) -> int:
    """A number in English words. The text may hold other words around it."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    numeral = [*_WORDS, *_MULTIPLES]
    runs: list[list[str]] = [[]]
    for index, word in enumerate(words):
        joins = word == "and" and runs[-1] and index + 1 < len(words) and words[index + 1] in numeral
        if word in numeral or joins:
            runs[-1].append(word)
        elif runs[-1]:
            runs.append([])
    found = [run for run in runs if any(word in _WORDS for word in run)]
    if not found:
        raise NotNormalisedError("it holds no number")
    if len(found) > 1:
        raise NotNormalisedError(f"it holds several numbers: {', '.join(' '.join(run) for run in found)}")
    for word in words:
        if word in _BESIDE:
            raise NotNormalisedError(f"no rule reads {word!r} beside {' '.join(found[0])!r}")
    total, group, last, multiple = 0, 0, 10**12, 10**15
    for word in (word for word in found[0] if word != "and"):
        if word in _WORDS:
            value = _WORDS[word]
            if last <= value or (0 < last < 20):  # "twenty thirty", "five six"
                raise NotNormalisedError(f"{' '.join(found[0])!r} is no number")
            group, last = group + value, value
        elif last == 100 if word == "hundred" else multiple <= _MULTIPLES[word] or (total and not group):
            raise NotNormalisedError(f"{' '.join(found[0])!r} is no number")
        elif word == "hundred":
            group, last = max(group, 1) * 100, 100
        else:
            multiple = _MULTIPLES[word]
            total, group, last = total + max(group, 1) * multiple, 0, 1000
    return total + group
