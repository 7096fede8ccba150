"""Draws of values: years, dates, numbers, quantities, names and words, from so many values that guessing does not help.

Each function returns a ``Draw``, which returns a ``Value`` when called with a random generator and the split's names.
"""

from __future__ import annotations

import random

from seal_env.tasks.almanac.facts import Draw, Value
from seal_env.tasks.almanac.names import Names

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def year(first: int, last: int) -> Draw:
    """A year, both ends included."""
    return lambda rng, names: Value(str(rng.randint(first, last)))


def date(first: int, last: int) -> Draw:
    """A date such as "12 May 1874"."""

    def draw(rng: random.Random, names: Names) -> Value:
        month = rng.randrange(12)
        day, year = rng.randint(1, _DAYS[month]), rng.randint(first, last)
        return Value(f"{day} {MONTHS[month]} {year}", (f"{MONTHS[month]} {day}, {year}",))

    return draw


def day() -> Draw:
    """A day of the year such as "12 May"."""

    def draw(rng: random.Random, names: Names) -> Value:
        month = rng.randrange(12)
        number = rng.randint(1, _DAYS[month])
        return Value(f"{number} {MONTHS[month]}", (f"{MONTHS[month]} {number}",))

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


def word(words: str) -> Draw:
    """One of ``words``, separated by commas or line breaks."""
    pool = [entry.strip() for entry in words.replace("\n", ",").split(",") if entry.strip()]
    return lambda rng, names: Value(rng.choice(pool))


def pair(first: str, second: str, form: str = "{} {}") -> Draw:
    """Two words put together, one of each space-separated list: "pale green", "The Silver Lantern"."""
    left, right = first.split(), second.split()

    def draw(rng: random.Random, names: Names) -> Value:
        text = form.format(rng.choice(left), rng.choice(right))
        return Value(text, (text.removeprefix("The "),) if text.startswith("The ") else ())

    return draw


def person() -> Draw:
    """A person's name; the surname alone is accepted."""
    return lambda rng, names: names.person(rng)


def place() -> Draw:
    """A place of one word."""
    return lambda rng, names: names.place(rng)


def firm() -> Draw:
    """A firm such as "Harlow & Denning"."""
    return lambda rng, names: names.firm(rng)


def place_name(*forms: str) -> Draw:
    """A name with one of these patterns around a place, such as "Lake {}"; the last word alone is accepted too."""

    def draw(rng: random.Random, names: Names) -> Value:
        form, word = rng.choice(forms), names.place(rng).text
        return Value(form.format(word), (word,) if form.endswith("{}") and form != "{}" else ())

    return draw


COLOURS = pair(
    "pale dark bright dull deep soft dusty smoky",
    "red blue green yellow brown grey violet orange pink purple amber gold",
)
WOODS = "oak ash elm pine beech cedar walnut birch larch maple cherry willow"
WORK = (
    "baker, weaver, potter, tanner, cooper, miller, mason, glazier, saddler, tinsmith, clockmaker, shepherd, farrier, notary, "
    "printer, bookbinder, ropemaker, sailmaker, gardener, beekeeper, thatcher, brewer, dyer, chandler, cobbler, tailor, "
    "ferryman, customs clerk, schoolteacher, midwife, apothecary, surveyor, cartwright, wheelwright, basket weaver, furrier, "
    "fishmonger, innkeeper, hatter, glover, lamplighter, locksmith, goldsmith, organ tuner, butcher, grocer, blacksmith, "
    "joiner, plasterer, quarryman"
)
FOODS = (
    "smoked eel, barley bread, plum cake, goat cheese, honey biscuits, pickled herring, onion soup, roast chestnuts, "
    "pear tart, rye pancakes, mutton pie, apple dumplings, salted almonds, poppy seed rolls, turnip stew, quince jelly, "
    "ginger cake, oat porridge, cherry pie, mushroom pasties, fried perch, walnut bread, blackberry tart, lentil soup, "
    "buttered crab, saffron buns, black pudding, cabbage rolls, nettle soup, elderberry jam, bean stew, sheep cheese, "
    "potato fritters, carrot cake, baked trout, hazelnut cream, mustard eggs, spiced ham, fig pudding, rhubarb pie, "
    "duck sausage, leek tart, buckwheat noodles, candied ginger, grilled mackerel"
)
ADJECTIVES = (
    "Silver Hollow Quiet Crooked Golden Distant Broken Hidden Patient Wandering Frozen Burning Gentle Seventh Scarlet Empty "
    "Iron Borrowed Sleeping Northern Paper Salted Forgotten Little Winter Painted Blind Narrow Restless Copper"
)
NOUNS = (
    "Lantern Orchard Harbour Mirror Garden Bell Compass Sparrow Kettle Stair Ladder River Candle Anchor Window Feather Bridge "
    "Clock Fox Meadow Letter Crown Shepherd Needle Tide Chimney Violin Gate Falcon Well"
)
