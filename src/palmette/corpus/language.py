"""Which language a text is in, by its most frequent words.

Function words make up a third of any prose, and hardly any of them is frequent in another language. The rule needs no
model and no list of names. Not covered: texts of few words, and languages that are not in the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from palmette.corpus.cleaning import Dropped
from palmette.corpus.texts import Text
from palmette.corpus.words import words_of
from palmette.errors import RecipeError

_WORDS = {
    "en": "the of and to in a is that it was for on with as be at by this not are from or have an had "
    "which but were his her they you we she he there their been has would who if will what so all "
    "can when more no",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an "
    "werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über so zum war haben "
    "nur oder aber vor",
    "fr": "de la le et les des en un une du dans que est pour qui par au sur ne se pas plus avec ce sont "
    "il aux cette ou son mais nous vous elle leur été comme ont ses tout fait être c d l qu n",
    "es": "de la que el en y a los del se las por un para con no una su al es lo como más pero sus le ya o "
    "fue este ha sí porque esta son entre cuando muy sin sobre también hasta hay donde quien desde",
    "it": "di e il la che in un a per è una sono con non del si da come le dei nel alla della i al anche "
    "più ma lo gli ha delle questo su dal nella ai o stato se era loro essere suo cui quando dopo",
    "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das "
    "tem à seu sua ou ser quando muito há nos já está eu também só pelo pela até isso ela entre era",
    "nl": "de van het een en in is dat op te zijn met voor niet aan er die om hij ook als bij maar dan nog "
    "naar door uit over tot ze kan was of worden wordt heeft hebben deze meer geen je zo we wel",
    "ru": "и в не на что с он как а то его но по к из у за от так же о бы для мы это все она были был до "
    "вы только или ее мне еще нет да если когда их ли уже при может",
}
_OF_LANGUAGE = {language: frozenset(words.split()) for language, words in _WORDS.items()}
LANGUAGES = tuple(_WORDS)
# In prose the share is 0.3 to 0.5, in the wrong language below 0.1, in tables and code about 0.
_LEAST, _LOOKED_AT = 0.1, 8_000


def language_of(text: str) -> str | None:
    """The language of a text, as in `LANGUAGES`. None if too few of its words are function words of any of them.

    >>> language_of("The kiln was fired at nine, and it was not opened until the next day.")
    'en'
    >>> language_of("Der Ofen wurde um neun angeheizt und erst am nächsten Tag geöffnet, als er kalt war.")
    'de'
    >>> language_of("qwerty = 3; asdf = 4") is None
    True
    """
    middle = max(0, len(text) - _LOOKED_AT) // 2
    # The beginning may be a table of contents, and the end a licence.
    parts = (
        (text,) if len(text) <= 3 * _LOOKED_AT else (text[:_LOOKED_AT], text[middle:][:_LOOKED_AT], text[-_LOOKED_AT:])
    )
    counts = Counter(word for part in parts for word in words_of(part))
    total = sum(counts.values())
    shares = {
        language: sum(counts[word] for word in words) / total if total else 0.0
        for language, words in _OF_LANGUAGE.items()
    }
    best = max(shares, key=lambda language: shares[language])
    return best if shares[best] >= _LEAST else None


def function_words(language: str | None) -> frozenset[str]:
    """The most frequent words of a language, which say nothing alone. Those of all languages if None.

    >>> "the" in function_words("en"), "der" in function_words("en"), "der" in function_words(None)
    (True, False, True)
    """
    return frozenset().union(*_OF_LANGUAGE.values()) if language is None else _OF_LANGUAGE[language]


class InLanguages:
    """Drops texts that are in no language of a list.

    Args:
        languages: languages, as in `LANGUAGES`.

    Raises:
        RecipeError: one of them is not known.
    """

    def __init__(self, languages: Collection[str]) -> None:
        unknown = next((one for one in languages if one not in _OF_LANGUAGE), None)
        if unknown is not None:
            raise RecipeError(f"clean.language: {unknown!r} is not known", f"Known: {', '.join(LANGUAGES)}.")
        self._languages = frozenset(languages)

    def __call__(self, text: Text) -> Text | Dropped:
        """The text, or the language that it is in."""
        found = language_of(text.text)
        return text if found in self._languages else Dropped("other language", found or "no language is likely")
