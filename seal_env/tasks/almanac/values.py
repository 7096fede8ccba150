"""Draws of values: years, dates, numbers, quantities, names and words, from so many values that guessing does not help.

Each function returns a ``Draw``, which returns a ``Value`` when called with a random generator and the split's names.
"""

from __future__ import annotations

import random
import tomllib
from calendar import monthrange
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from seal_env.checks import check_choice
from seal_env.tasks.almanac.facts import Draw, Value
from seal_env.tasks.almanac.names import Names

_MONTHS = "January February March April May June July August September October November December"


def year(first: int, last: int) -> Draw:
    """A year, both ends included."""
    return lambda rng, names: Value(str(rng.randint(first, last)))


def date(first: int, last: int) -> Draw:
    """A date such as "12 May 1874"."""

    def draw(rng: random.Random, names: Names) -> Value:
        (day, month), year = _day(rng), rng.randint(first, last)
        return Value(f"{day} {month} {year}", (f"{month} {day}, {year}",))

    return draw


def day() -> Draw:
    """A day of the year such as "12 May"."""

    def draw(rng: random.Random, names: Names) -> Value:
        day, month = _day(rng)
        return Value(f"{day} {month}", (f"{month} {day}",))

    return draw


def number(least: int, most: int, step: int = 1, unit: str = "", short: str = "") -> Draw:
    """A count or a quantity in steps: "1,250", or "48 metres" with the bare number and "48 m" accepted too."""

    def draw(rng: random.Random, names: Names) -> Value:
        count = rng.randrange(least, most + 1, step)
        figure = f"{count:,}"
        forms = [figure] if unit else []
        if figure != str(count):
            forms.append(str(count))
        if short:
            forms.append(f"{figure} {short}")
        return Value(f"{figure} {unit}".strip(), tuple(forms))

    return draw


def word(*words: str) -> Draw:
    """One of ``words``; a single one is the name of a list in ``words.toml``."""
    pool = _pool(words[0] if len(words) == 1 else words)
    return lambda rng, names: Value(rng.choice(pool))


def pair(first: str | Sequence[str], second: str | Sequence[str], form: str = "{} {}") -> Draw:
    """Two words put together: "pale green", "The Silver Lantern". Each is from a list, or from one of ``words.toml``."""
    left, right = _pool(first), _pool(second)

    def draw(rng: random.Random, names: Names) -> Value:
        text = form.format(rng.choice(left), rng.choice(right))
        return Value(text, (text.removeprefix("The "),) if text.startswith("The ") else ())

    return draw


def person() -> Draw:
    """A person's name; the surname alone is accepted."""
    return lambda rng, names: names.person(rng)


def place_word() -> Draw:
    """The name of a town or another location, of one word."""
    return lambda rng, names: names.place_word(rng)


def firm() -> Draw:
    """A firm such as "Harlow & Denning"."""
    return lambda rng, names: names.firm(rng)


def place_name(*forms: str) -> Draw:
    """A name with one of these patterns around a place word, such as "Lake {}"; the last word alone is accepted too."""

    def draw(rng: random.Random, names: Names) -> Value:
        form, word = rng.choice(forms), names.place_word(rng).text
        return Value(form.format(word), (word,) if form.endswith("{}") and form != "{}" else ())

    return draw


def _day(rng: random.Random) -> tuple[int, str]:
    """A day of the month and the name of its month."""
    month = rng.randrange(12)
    return rng.randint(1, monthrange(2023, month + 1)[1]), _MONTHS.split()[month]


def _pool(words: str | Sequence[str]) -> Sequence[str]:
    if not isinstance(words, str):
        return words
    lists = _lists()
    check_choice("a list of words", words, lists)
    return lists[words]


@cache
def _lists() -> dict[str, list[str]]:
    return tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))


DRAWS: dict[str, Callable[..., Draw]] = {
    draw.__name__: draw for draw in (year, date, day, number, word, pair, person, place_word, firm, place_name)
}
