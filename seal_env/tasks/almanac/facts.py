"""Values, relations, facts and kinds of the Almanac; ``kinds`` reads their content and says how wordings are written."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seal_env.tasks.almanac.names import Names, TitleSpace


@dataclass(frozen=True)
class Value:
    """An answer: its canonical text, other accepted forms, and whether it names a person (which restricts pronouns)."""

    text: str
    aliases: tuple[str, ...] = ()
    person: bool = False


Draw = Callable[[random.Random, "Names"], Value]


@dataclass(frozen=True)
class Relation:
    """A relation that every entity of a kind has.

    Attributes:
        name: unique within its kind.
        draw: draws a value, uniformly from a wide space.
        statements: plain wordings, complete sentences.
        questions: plain questions.
        tells: narrated wordings that state it.
        hints: narrated wordings that only imply it.
        rivals: clauses that state it about a rival, ``{r}``.
        closing: whether it ends a story (a death, a shipwreck), so that no clause follows it with "and".
    """

    name: str
    draw: Draw
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    tells: tuple[str, ...]
    hints: tuple[str, ...]
    rivals: tuple[str, ...]
    closing: bool = False


@dataclass(frozen=True)
class Fact:
    """A relation that holds of ``subject`` (a title) with ``value``; ``mention`` is the subject as a sentence names it."""

    relation: Relation
    subject: str
    mention: str
    value: str
    aliases: tuple[str, ...] = ()
    person: bool = False

    def statement(self, k: int) -> str:
        """The k-th plain statement, k taken modulo their number."""
        return self._plain(self.relation.statements[k % len(self.relation.statements)])

    def question(self, k: int) -> str:
        """The k-th plain question, k taken modulo their number."""
        return self._plain(self.relation.questions[k % len(self.relation.questions)])

    def with_value(self, value: Value) -> Fact:
        """The same claim with another value, as ``relation.draw`` gives it."""
        return replace(self, value=value.text, aliases=value.aliases, person=value.person)

    def _plain(self, wording: str) -> str:
        text = with_value(wording.replace("{t}", self.mention), self.value)
        return text[0].upper() + text[1:]


@dataclass(frozen=True)
class Kind:
    """A kind of thing that articles are about.

    Attributes:
        name: the kind's name.
        titles: all names of things of this kind.
        be: ``is`` or ``was``, for introductions.
        nouns: ways to refer to it; ``{t}`` is the name in full, ``{short}`` its last word.
        described: noun phrases that introduce it without stating a fact.
        intros: complete first sentences with ``{t}`` that state no fact.
        colour: complete clauses that state no fact.
        rivals: noun phrases that introduce a rival; ``{n}`` is its name, ``{p}`` the possessive pronoun of the thing.
        rival_again: a noun phrase for the rival after its introduction.
        rival_name: draws the rival's name.
        relations: the relations that things of this kind have.
        the: whether a sentence puts "the" before the name.
        gaps: (earlier, later, least, most): two relations that are years or dates, and the years between them.
        personal: whether it is a person, referred to as she or he.
    """

    name: str
    titles: TitleSpace
    be: str
    nouns: tuple[str, ...]
    described: tuple[str, ...]
    intros: tuple[str, ...]
    colour: tuple[str, ...]
    rivals: tuple[str, ...]
    rival_again: str
    rival_name: Draw
    relations: tuple[Relation, ...]
    the: bool = False
    gaps: tuple[tuple[str, str, int, int], ...] = ()
    personal: bool = False


def with_value(wording: str, value: str, marker: str = "") -> str:
    """``wording`` with ``value`` inserted, after "a" or "an" if it has ``{av}``, and with ``marker`` right before the value."""
    article = "an" if takes_an(value) else "a"
    return wording.replace("{av}", f"{article} {marker}{value}").replace("{v}", f"{marker}{value}")


def takes_an(phrase: str) -> bool:
    """Whether ``phrase`` begins with a vowel sound (of words and numbers that occur here)."""
    word = phrase.split()[0].lower()
    if word[0].isdigit():
        return word.startswith("8") or word.split(",")[0] in ("11", "18")
    if word.startswith(("eu", "one", "once", "uni", "use", "uku")):
        return False
    return word[0] in "aeiou" or word.startswith(("hour", "heir", "honest", "honour"))
