"""Takes out what belongs to a page or a library and not to its text."""

from __future__ import annotations

import re
from dataclasses import replace

from palmette.corpus.texts import Text

# Lines that C4 takes out (Raffel et al., 2020, section 2.2), where they are short. Notices of privacy are left, since
# collections of policies are about them.
_LINE = re.compile(
    r"enable javascript|javascript is (?:disabled|required)|us(?:es?|e of) cookies|accept (?:all )?cookies|lorem ipsum",
    re.I,
)
_LONGEST = 200
# What Project Gutenberg writes before and after a book.
_START = re.compile(r"^\*\*\* ?START OF TH(?:E|IS) PROJECT GUTENBERG EBOOK[^\n]*\n", re.MULTILINE | re.IGNORECASE)
_END = re.compile(r"^\*\*\* ?END OF TH(?:E|IS) PROJECT GUTENBERG EBOOK", re.MULTILINE | re.IGNORECASE)


def without_boilerplate(text: Text) -> Text:
    """A text without lines about cookies and JavaScript, and without the notices of Project Gutenberg.

    The notices are taken out of a file of one book. Several books in a file stay as they are.

    >>> page = "Home\\nThis site uses cookies.\\nThe kiln was fired at nine."
    >>> without_boilerplate(Text("a", page, "a")).text
    'Home\\nThe kiln was fired at nine.'
    """
    whole = text.text
    starts = [match.end() for match in _START.finditer(whole)] or [0]
    ends = [match.start() for match in _END.finditer(whole)] or [len(whole)]
    if len(starts) == len(ends) == 1 and starts[0] <= ends[0]:  # else it is several books, or parts of some
        whole = whole[starts[0] : ends[0]]
    lines = whole.split("\n")
    kept = [line for line in lines if len(line) > _LONGEST or not _LINE.search(line)]
    return replace(text, text="\n".join(kept))
