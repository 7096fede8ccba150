"""Invented names, built from a few recurring syllables, so that a small tokenizer needs few tokens for them.

The seed does not change which split has a name: a place word, a person or a title of one split occurs in no other. First names
and surnames recur in all splits, but never as the same pair.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

from seal_env.checks import check_choice
from seal_env.tasks.almanac.facts import Value
from seal_env.tasks.task import SPLITS

_FIRST_STEMS = (
    "Al Ed El Mar Lor Cor Ber Hel Ros Wil Tam Nor Dor Gar Lin Or Sel Fer Mel Bran Cal Ger Hal Is Jor Lan Os Per Ran Ul Ven Wen"
)
_WOMEN = "a anne ina wen ora ena ette ild issa elle"
_MEN = "an ric ard win mund bert olf ion en am"
_STEMS = (
    "Mar Vel Cor Lor Har Den Tor Bran Cal Wel Hal Ash Pen Tre Ros Dun Kil Bel Car Fen Gar Hol Lin Mor Nor Or Pel Ran Sel "
    "Tam Ul Wen Yar Al Ber Cas Dor El Fal Gil Is Jor Kes Lam Ster Wim"
)
_SURNAME_ENDS = "wick low den ning man ton by ley ock ell ford combe worth more kin gate ham dale rick ster wood bury son land"
_MIDDLES = " a en er i o an el in ar or ber lin den ma is al ri"  # the first is empty
_PLACE_ENDS = (
    "wick mere ford ton by stead holm low more den ley combe burgh thorpe vale gate worth ham dale wood bury land haven "
    "port mouth moor well bourne cliff beck garth rick fell ster stow wold field minster brook shaw"
)
_CLUMSY = re.compile(
    r"(.)\1\1|aa|ii|ae|ao|erer|arar|oror|inin|enen|elel|denden|alal|anan|isis|ulul|elal|alel|wenwen|berber|corcor"
)


def _spelt(*parts: str) -> list[str]:
    """All concatenations of a syllable of each part, without clumsy repetitions of letters, in a fixed scrambled order."""
    words = {"".join(syllables) for syllables in product(*(part.split(" ") for part in parts))}
    kept = sorted(word for word in words if not _CLUMSY.search(word.lower()))
    random.Random("almanac words").shuffle(kept)
    return kept


def _check_split(split: str) -> int:
    check_choice("split", split, SPLITS)
    return SPLITS.index(split)


@cache
def _place_words() -> list[list[str]]:
    """Names of locations, by split."""
    words = _spelt(_STEMS, _MIDDLES, _PLACE_ENDS)
    return [words[split :: len(SPLITS)] for split in range(len(SPLITS))]


@cache
def _surnames() -> list[str]:
    return _spelt(_STEMS, _SURNAME_ENDS)


@cache
def _first_names() -> tuple[list[str], list[str]]:
    """Women's and men's, without those that could be either."""
    women, men = _spelt(_FIRST_STEMS, _WOMEN), _spelt(_FIRST_STEMS, _MEN)
    both = set(women) & set(men)
    return [name for name in women if name not in both], [name for name in men if name not in both]


def is_woman(first_name: str) -> bool:
    """Whether this invented first name is a woman's."""
    return first_name in _first_names()[0]


class _Pairs:
    """Pairs of two word lists, numbered and dealt out to the splits so that no residue of an index shows in a name."""

    def __init__(self, first: Sequence[str], second: Sequence[str], form: str) -> None:
        self.first, self.second, self.form = first, second, form
        self.prime = _prime_below(len(first) * len(second))
        self.step = int(self.prime * 0.6180339887)
        self.size = self.prime // len(SPLITS)

    def name(self, split: int, number: int) -> str:
        """Name ``number`` (0 to ``size`` - 1) of a split."""
        scrambled = (number * len(SPLITS) + split) * self.step % self.prime
        high, low = divmod(scrambled, len(self.second))
        return self.form.format(self.first[high], self.second[low])


def _prime_below(number: int) -> int:
    while any(number % divisor == 0 for divisor in range(2, math.isqrt(number) + 1)):
        number -= 1
    return number


@cache
def _people() -> _Pairs:
    women, men = _first_names()
    return _Pairs(women + men, _surnames(), "{} {}")


@cache
def _firms() -> _Pairs:
    return _Pairs(_surnames(), _surnames(), "{} & {}")


@dataclass(frozen=True)
class TitleSpace:
    """All titles of one kind.

    Attributes:
        forms: patterns with ``{}`` for a place word; or ``person`` or ``firm``.
    """

    forms: tuple[str, ...]

    def size(self, split: str) -> int:
        """How many titles a split has."""
        number = _check_split(split)
        return self._pairs.size if self._pairs else len(_place_words()[number]) * len(self.forms)

    def title(self, split: str, number: int) -> str:
        """Title ``number`` (0 to ``size`` - 1) of a split; each number has its own title."""
        which = _check_split(split)
        if self._pairs:
            return self._pairs.name(which, number)
        word, form = divmod(number, len(self.forms))
        return self.forms[form].format(_place_words()[which][word])

    def shuffled(self, seed: int, split: str, index: int, salt: str) -> str:
        """The ``index``-th title in an order drawn from ``seed``: none comes back before all have been used."""
        size = self.size(split)
        step, shift = _affine(f"{seed}/{split}/{salt}", size)
        return self.title(split, (index * step + shift) % size)

    @cached_property
    def _pairs(self) -> _Pairs | None:
        return {"person": _people, "firm": _firms}[self.forms[0]]() if self.forms[0] in ("person", "firm") else None


@cache
def _affine(key: str, size: int) -> tuple[int, int]:
    rng = random.Random(key)
    while True:
        step = rng.randrange(size // 4, size)
        if math.gcd(step, size) == 1:
            return step, rng.randrange(size)


class Names:
    """Names for the people, locations and firms that articles of one split mention."""

    def __init__(self, split: str) -> None:
        self.split = split
        self._split = _check_split(split)

    def person(self, rng: random.Random) -> Value:
        """A person; the surname alone is accepted too."""
        people = _people()
        name = people.name(self._split, rng.randrange(people.size))
        return Value(name, (name.split()[1],), person=True)

    def place_word(self, rng: random.Random) -> Value:
        """The name of a town or another location, of one word."""
        return Value(rng.choice(_place_words()[self._split]))

    def firm(self, rng: random.Random) -> Value:
        """A firm of two partners."""
        firms = _firms()
        name = firms.name(self._split, rng.randrange(firms.size))
        return Value(name, (name.replace("&", "and"),))
