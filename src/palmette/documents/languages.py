"""Which single-byte encoding a text is in, by the letters that languages write beyond ASCII.

Each encoding turns the same bytes into other letters. Read in the right one, the letters are those that a language
uses most. Read in a wrong one, they are rare, of no language, or capitals and symbols in the middle of words. So for
every encoding and every language written in it, the letters get a log-probability, and the largest one decides.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache

# The letters of each language beyond ASCII, the most frequent first. Only the order counts.
_WESTERN = {
    "English": "éàáèíóúâêîôûäëïöüçñãõåæøœß",  # with names and words from everywhere
    "French": "éàèêçôîûùâïëœæÿ",
    "German": "äüöß",
    "Spanish": "óíáñéúü",
    "Portuguese": "ãçáéõóíêàúâôü",
    "Italian": "àèùòìé",
    "Dutch, Afrikaans": "ëéèïêôüöûîáó",
    "Catalan": "àéóèòçíúïü",
    "Swedish": "äåöé",
    "Danish, Norwegian": "øåæéòó",
    "Finnish": "äöåšž",
    "Estonian": "äõüöšž",
    "Icelandic": "íðáóæéþúöý",
    "Faroese": "ðíáøóúýæ",
    "Albanian": "ëç",
}
_CENTRAL = {
    "Polish": "łąęóżśćńź",
    "Czech": "íáéěřčžýůšúťďóň",
    "Slovak": "áíéýčžšúľťôňďóäĺŕ",
    "Hungarian": "áéöóőíüúű",
    "Romanian": "ăîşâţ",
    "Croatian, Slovene, Serbian": "čšžćđ",
}
_TURKISH = {"Turkish": "ışüçğöiâîû", "Azerbaijani": "ıüşçöğ"}
_BALTIC = {"Lithuanian": "ėųšįžčūąę", "Latvian": "āīēšņļūžčķģ", "Estonian": "äõüöšž"}
_CYRILLIC = {
    "Russian": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё",
    "Ukrainian": "оаніирвтеслкудмпзяьбгйчюхцїжєщшґф",
    "Bulgarian": "аиоентрсвлкдпмзгяъубчцйжщхшюфь",
    "Serbian": "аиоенрстујквдмплгзбчцшжћњљђхџф",
    "Macedonian": "аоиетнрсвјкдплумзгбчцшжхќљњѓџѕф",
    "Belarusian": "аінеорыстклвяудмпзьбчюгжйёшцэўхф",
}
_GREEK = {"Greek": "ατοιενρσκηπςυμλίόάγέδήωχθύφώβξζψϊΐϋΰ"}
_HEBREW = {"Hebrew": "יוהלרבתמאשנעםדקחפסכגטצןזךףץ"}
_ARABIC = {"Arabic": "اليمونرتبةعدسفهكقأحجشطصىخإذغضثزئءآظؤ"}
# Of encodings that fit alike the first one is taken.
_LANGUAGES = {
    "cp1252": _WESTERN,
    "cp1250": _CENTRAL,
    "cp1251": _CYRILLIC,
    "cp1253": _GREEK,
    "cp1254": _TURKISH,
    "cp1257": _BALTIC,
    "cp1255": _HEBREW,
    "cp1256": _ARABIC,
    "iso8859_15": _WESTERN,
    "iso8859_2": _CENTRAL,
    "koi8_r": {name: letters for name, letters in _CYRILLIC.items() if name in ("Russian", "Bulgarian")},
    "koi8_u": _CYRILLIC,
    "iso8859_5": _CYRILLIC,
    "iso8859_7": _GREEK,
}
_SYMBOLS = frozenset("\u00a0‘’‚“”„«»‹›–—…€£§°®©™·•№²³¹½ªº¿¡±×µ¢")
_JOINS = frozenset("’‘·–—\u00a0")  # stand between letters
_BEYOND = re.compile(r"[^\x00-\x7f]")
_LAST_LATIN = "\u024f"
_SAMPLE = 1 << 14
# Probabilities of a character beyond ASCII, in a text whose language it is not a letter of.
_SYMBOL, _FOREIGN, _CONTROL = 0.01, 0.0005, 1e-6
# How probable letters are in their places, in terms of a small letter: the first capital of a word, one after another
# capital, and what stands where words have no such thing.
_FIRST, _CAPITALS, _ODD = 0.1, 0.7, 0.001
# English with a few foreign letters is likelier, before anything is read, than a text in one of the other languages.
_PRIOR = {"English": 3.0}
# Letters get -1 to -3 nats on average in the right encoding. Text in Chinese read in a wrong one gets -6.
_LEAST = -4.2


def single_byte_encoding(raw: bytes) -> str | None:
    """The single-byte encoding that a text is in. None if no language is likely in any of them.

    Encodings that give the same text are not told apart: a text in ISO 8859-9 is said to be in Windows-1254.

    Args:
        raw: the text. Its first 16 KiB from the first byte beyond ASCII on are looked at.
    """
    start = max(next((index for index, byte in enumerate(raw) if byte > 127), 0) - 1, 0)
    best: tuple[float, str] | None = None
    for encoding, languages in _LANGUAGES.items():
        try:
            raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        text = raw[start : start + _SAMPLE].decode(encoding)
        if encoding == "cp1252" and not any(character.isalpha() and character > "\x7f" for character in text):
            return encoding  # no language says anything about symbols alone
        found = _characters(text)
        for language, letters in languages.items():
            score = _PRIOR.get(language, 0.0) + _log_probability(found, letters)
            if best is None or score > best[0] + 1e-9:
                best = score, encoding
    number = sum(byte > 127 for byte in raw[start : start + _SAMPLE])
    return best[1] if best and best[0] >= _LEAST * number else None


def _characters(text: str) -> Counter[tuple[str, float]]:
    """The characters beyond ASCII, each with how probable its place is."""
    found: Counter[tuple[str, float]] = Counter()
    for match in _BEYOND.finditer(text):
        character, index = match[0], match.start()
        found[character, _place(character, text[index - 1 : index], text[index + 1 : index + 2])] += 1
    return found


def _place(character: str, before: str, after: str) -> float:
    """How probable it is to find a character, or a small letter in its place, between two others."""
    if not character.isalpha():
        return _ODD if character not in _JOINS and before.isalpha() and after.isalpha() else 1.0
    if character > _LAST_LATIN and any(one.isascii() and one.isalpha() for one in (before, after)):
        return _ODD
    if character.isupper():
        return _ODD if before.islower() else _CAPITALS if before.isupper() else _FIRST
    return 1.0


def _log_probability(found: Counter[tuple[str, float]], letters: str) -> float:
    """The log-probability of characters beyond ASCII, in nats, in a text in the language of the letters."""
    return sum(
        count * math.log(place * _probability(character, letters)) for (character, place), count in found.items()
    )


@cache
def _probability(character: str, letters: str) -> float:
    rank = letters.find(character.lower()[:1])
    if rank >= 0:
        return 1 / (rank + 2) / sum(1 / (other + 2) for other in range(len(letters)))
    if character in _SYMBOLS:
        return _SYMBOL
    return _FOREIGN if character.isprintable() else _CONTROL
