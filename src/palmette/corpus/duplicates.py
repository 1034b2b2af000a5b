"""Drops texts that came before: equal ones by a hash, and those that are nearly equal by MinHash.

MinHash (Broder, 1997): the least value that a random hash function takes over a set is the same for two sets with a
probability equal to their Jaccard similarity. Here the sets are word 5-grams. Signatures are cut into bands, and texts
that agree in a whole band are compared with all of their signatures (Leskovec et al., "Mining of Massive Datasets",
chapter 3).
"""

from __future__ import annotations

import hashlib
import math
import zlib

import numpy as np

from palmette.corpus.cleaning import Dropped
from palmette.corpus.texts import Text
from palmette.corpus.words import ngrams, words_of

NGRAM, NUM_HASHES = 5, 128
_SEED = 1


class ExactDuplicates:
    """Drops a text that equals an earlier one but for case and white space.

    16 bytes and the name of each text are kept.
    """

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def __call__(self, text: Text) -> Text | Dropped:
        """The text, or the earlier text that it equals."""
        digest = hashlib.blake2b(" ".join(text.text.lower().split()).encode(), digest_size=16).digest()
        first = self._seen.setdefault(digest, text.name)
        return text if first is text.name else Dropped("exact duplicate", f"equals {first}")


def shingles(text: str) -> np.ndarray:
    """The different word 5-grams of a text as 32-bit hashes. A shorter text is one gram.

    >>> len(shingles("a b c d e f")), len(shingles("a b")), len(shingles(""))
    (2, 1, 0)
    """
    words = words_of(text)
    if not words:
        return np.zeros(0, dtype=np.uint64)
    grams = set(ngrams(words, min(NGRAM, len(words))))
    return np.fromiter((zlib.crc32(gram.encode()) for gram in grams), dtype=np.uint64, count=len(grams))


class MinHash:
    """Signatures of sets.

    Args:
        num_hashes: length of a signature. The standard error of a similarity s is sqrt(s (1 - s) / num_hashes).
    """

    def __init__(self, num_hashes: int = NUM_HASHES) -> None:
        generator = np.random.default_rng(_SEED)
        # Multiplication by odd numbers modulo 2^64, of which the upper bits are mixed (Dietzfelbinger et al., 1997).
        self._a = generator.integers(0, 2**63, size=num_hashes, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._b = generator.integers(0, 2**63, size=num_hashes, dtype=np.uint64)

    def signature(self, shingles: np.ndarray) -> np.ndarray:
        """The signature (uint32) of a set that is not empty."""
        least = np.full(len(self._a), np.iinfo(np.uint32).max, dtype=np.uint32)
        for start in range(0, len(shingles), 4096):
            block = shingles[start : start + 4096]
            hashed = ((block[:, None] * self._a + self._b) >> np.uint64(32)).astype(np.uint32)
            least = np.minimum(least, hashed.min(axis=0))
        return least


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """The Jaccard similarity that two signatures show."""
    return float((one == other).mean())


def num_rows(threshold: float, num_hashes: int = NUM_HASHES) -> int:
    """How many hashes a band has, so that pairs at the threshold are met with a probability of 95 % or more.

    >>> num_rows(0.8), num_rows(0.5)
    (4, 2)
    """
    fitting = [
        rows
        for rows in range(1, num_hashes + 1)
        if num_hashes % rows == 0 and 1 - (1 - threshold**rows) ** (num_hashes // rows) >= 0.95
    ]
    return max(fitting)


class NearDuplicates:
    """Drops a text that is similar to an earlier one that was kept. Half a kilobyte a text is kept.

    Args:
        threshold: the Jaccard similarity of word 5-grams from which texts are near duplicates. It is estimated with a
            standard error of up to 0.044.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold, self._rows = threshold, num_rows(threshold)
        self._hash = MinHash()
        self._kept: list[tuple[str, np.ndarray]] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}

    def __call__(self, text: Text) -> Text | Dropped:
        """The text, or the earlier text that it is similar to."""
        grams = shingles(text.text)
        if not len(grams):
            return text
        signature = self._hash.signature(grams)
        bands = [(start, signature[start : start + self._rows].tobytes()) for start in range(0, NUM_HASHES, self._rows)]
        met = sorted({index for band in bands for index in self._bands.get(band, ())})
        for index in met:
            name, other = self._kept[index]
            found = similarity(signature, other)
            if found >= self._threshold:
                return Dropped("near duplicate", f"{math.floor(100 * found)} % of {name}")
        for band in bands:
            self._bands.setdefault(band, []).append(len(self._kept))
        self._kept.append((text.name, signature))
        return text
