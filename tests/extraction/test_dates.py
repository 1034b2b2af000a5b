"""Dates by rule: tables of examples, each date written by hand."""

from __future__ import annotations

import pytest

from palmette.extraction.dates import read_date
from palmette.extraction.numbers import NotNormalisedError

DATES = {
    "3 May 2021": "2021-05-03",
    "May 3, 2021": "2021-05-03",
    "May 3rd 2021": "2021-05-03",
    "MAY 3, 2021": "2021-05-03",
    "3-May-2021": "2021-05-03",
    "the 22nd day of August, 2005": "2005-08-22",
    "22nd day of August 2005": "2005-08-22",
    "Sept. 1, 2010": "2010-09-01",
    "November 28, 2018 (the Effective Date)": "2018-11-28",
    "2021-05-03": "2021-05-03",
    "2021/5/3": "2021-05-03",
    "13/04/2021": "2021-04-13",
    "04/13/2021": "2021-04-13",
    "04.04.2021": "2021-04-04",
    "3. Mai 2021": "2021-05-03",
    "1er mars 2020": "2020-03-01",
    "3 de mayo de 2021": "2021-05-03",
    "29 February 2024": "2024-02-29",
    "3 Augu\u017ft 1776": "1776-08-03",
    "3 APR\u0130L 2020": "2020-04-03",
    "Invoice 2021-0012 - 3 May 2021": "2021-05-03",
    "May 3, 2021, being 2021-05-03": "2021-05-03",
}
NO_DATES = {
    "03/04/2021": "two ways",
    "8/22/05": "two digits",
    "May 2021": "no day",
    "2021": "no whole date",
    "three years": "no whole date",
    "29 February 2023": "there is no day",
    "13/13/2021": "there is no day",
    "3-5 May 2021": "another day beside 2021-05-05",
    "1st and 2nd January 2020": "another day",
    "from 3 May to 5 June 2021": "another day",
    "May 3 to June 4, 2021": "another day",
    "from 03/04 to 13/05/2021": "another day",
    "May 3, 2021 to May 4, 2022": "several dates: 2021-05-03, 2022-05-04",
}


@pytest.mark.parametrize("text", DATES)
def test_a_date_is_read(text: str) -> None:
    assert read_date(text).isoformat() == DATES[text]


@pytest.mark.parametrize("text", NO_DATES)
def test_what_is_no_certain_date_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(NotNormalisedError, match=NO_DATES[text]):
        read_date(text)


def test_the_schema_says_whether_the_day_comes_first() -> None:
    assert read_date("03/04/2021", day_first=True).isoformat() == "2021-04-03"
    assert read_date("03/04/2021", day_first=False).isoformat() == "2021-03-04"
