"""Writes a passage: combines the wordings of a kind into natural sentences.

The narrator knows grammar and no content. It joins predicates, openers, appositions and clauses (see ``kinds``) by a few
patterns, chooses how to refer to the thing, adds distractors, and avoids sentences that begin alike. Private characters mark
values until the end, so that their offsets are known.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from seal_env.tasks.almanac.facts import Fact, Kind, with_value

_MARKER = 0xE000  # chr(_MARKER + i) stands before the value of fact i
_SLOT = re.compile(r"\{([sop])\}")
_LEADS = ("By all accounts,", "By most accounts,", "As far as anyone can tell,", "According to local records,")


@dataclass(frozen=True)
class Pronouns:
    """Pronouns for the thing: she, her, her, who."""

    subject: str
    object: str
    possessive: str
    relative: str


IT = Pronouns("it", "it", "its", "which")
SHE = Pronouns("she", "her", "her", "who")
HE = Pronouns("he", "him", "his", "who")


@dataclass
class _Piece:
    """The wording of a fact, with its value marked; ``form`` is predicate, opener, apposition or clause."""

    fact: int
    form: str
    text: str

    @property
    def words(self) -> int:
        return len(self.text.split())


@dataclass
class Narrator:
    """Writes one passage.

    Attributes:
        kind: the kind of the thing that the passage is about.
        facts: the facts that the passage tells; their order is random.
        distractors: values of ``rival`` by the index of the fact.
        pronouns: the pronouns of the thing.
        rival: the name of another thing of this kind.
        colour: most sentences that state no fact.
        indirectness: probability that the passage hints at a fact.
        terse: whether to join as many sentences as possible, after longer passages were too long.
        rng: the source of all choices.
    """

    kind: Kind
    facts: Sequence[Fact]
    distractors: dict[int, str]
    pronouns: Pronouns
    rival: str
    colour: int
    indirectness: float
    terse: bool
    rng: random.Random
    _sentences: list[str] = field(default_factory=list)
    _pronoun_is_clear: bool = True
    _rival_is_known: bool = False
    _named: bool = True  # by a noun, in the sentence being made
    _led: bool = False

    def passage(self) -> tuple[str, list[int]]:
        """The passage and the offset of each fact's value in it."""
        pieces = [self._piece(i) for i in self.rng.sample(range(len(self.facts)), len(self.facts))]
        self._open(pieces)
        colour = self.rng.sample(self.kind.colour, self.colour)
        while pieces:
            self._tell(pieces)
            if colour and self.rng.random() < 0.3:
                self._say(self._fill(colour.pop()))
        if colour and self.rng.random() < 0.6:
            self._say(self._fill(colour.pop()))
        marked, text, starts = " ".join(self._sentences), "", [-1] * len(self.facts)
        for char in marked:
            if _MARKER <= ord(char) < _MARKER + len(self.facts):
                starts[ord(char) - _MARKER] = len(text)
            else:
                text += char
        return text, starts

    # Choosing words

    @property
    def _long(self) -> int:
        """The most words of two pieces in one sentence."""
        return 30 if self.terse else 22

    def _piece(self, i: int, plain: bool = False) -> _Piece:
        """A wording for fact ``i``; with ``plain`` a predicate or a clause, which form a sentence alone."""
        relation = self.facts[i].relation
        wordings = relation.hints if self.rng.random() < self.indirectness else relation.tells
        wording = self.rng.choice([w for w in wordings if not plain or _form(w) in ("predicate", "clause")])
        form, text = _form(wording), _stripped(with_value(wording, self.facts[i].value, marker=chr(_MARKER + i)))
        return _Piece(i, form, text if form == "clause" else self._fill(text, self.pronouns.subject))

    def _noun(self) -> str:
        title = self.facts[0].mention
        if not self._pronoun_is_clear:  # somebody or something else was spoken of
            if self.kind.personal:
                return title.split()[-1]
            if self.rng.random() < 0.5:
                return title
        return self.rng.choice(self.kind.nouns).replace("{t}", title).replace("{short}", title.split()[-1])

    def _reference(self, noun: bool = False) -> str:
        """A subject: a pronoun if it is clear and not overused, else a noun phrase."""
        if not noun and self._pronoun_is_clear and self.rng.random() < 0.62 and not self._worn(self.pronouns.subject):
            return self.pronouns.subject
        for _ in range(4):
            reference = self._noun()
            if not self._worn(reference):
                break
        self._named = True
        return reference

    def _worn(self, opening: str) -> bool:
        """Whether the previous sentence began with the same word."""
        return bool(self._sentences) and self._sentences[-1].lower().split()[0] == opening.split()[0].lower()

    def _fill(self, wording: str, reference: str | None = None) -> str:
        """Put a reference into the first slot and pronouns into the others."""
        reference = reference or self._reference()
        if reference != self.pronouns.subject:
            wording = _SLOT.sub(lambda slot: reference + ("'s" if slot[1] == "p" else ""), wording, count=1)
        forms = {"s": self.pronouns.subject, "o": self.pronouns.object, "p": self.pronouns.possessive}
        return _SLOT.sub(lambda slot: forms[slot[1]], wording)

    # Sentences

    def _open(self, pieces: list[_Piece]) -> None:
        """The first sentence, which names the thing in full."""
        title, described = self.facts[0].mention, self.rng.choice(self.kind.described)
        predicates = [p for p in pieces if p.form == "predicate" and not self.facts[p.fact].relation.closing]
        pattern = self.rng.random()
        if pattern < 0.3 or not predicates:
            choices = [*self.kind.intros, f"{{t}} {self.kind.be} {described}"]
            self._say(self.rng.choice(choices).replace("{t}", title))
            return
        used = [self.rng.choice(predicates)]
        pieces.remove(used[0])
        if pattern < 0.5 and not re.search(r" (that|who|of|few|with) ", described):
            that = "who" if self.kind.personal else "that"
            self._say(f"{title} {self.kind.be} {described} {that} {used[0].text}", used)
            return
        predicate = used[0].text
        second = next((p for p in pieces if p.form == "predicate" and self._and_joins(used[0], p)), None)
        if second and self.rng.random() < 0.35:
            used.append(second)
            pieces.remove(second)
            predicate += f" and {second.text}"
        self._say(f"{title}, {described}, {predicate}", used)

    def _tell(self, pieces: list[_Piece]) -> None:
        """The next sentence: takes one to three pieces."""
        piece = pieces.pop(0)
        follower = next((p for p in pieces if p.form == "predicate"), None)
        if piece.form in ("opener", "apposition"):
            if follower:
                pieces.remove(follower)
                if piece.form == "opener":
                    text = f"{piece.text}, {self._reference()} {follower.text}"
                else:
                    text = f"{self._reference(noun=True)}, {piece.text}, {follower.text}"
                self._say(text, [piece, follower])
                return
            piece = self._piece(piece.fact, plain=True)
        if piece.form == "clause":
            other, clause = self._clause_after(piece, pieces), self._fill(piece.text)
            if other and (self._pronoun_is_clear or self._named) and self.rng.random() < (0.9 if self.terse else 0.35):
                pieces.remove(other)
                self._say(f"{clause}, and {self._fill(other.text, self.pronouns.subject)}", [piece, other])
                return
            self._say(clause, [piece])
            return
        self._predicated(piece, follower, pieces)

    def _predicated(self, piece: _Piece, follower: _Piece | None, pieces: list[_Piece]) -> None:
        """A sentence of subject and predicate, perhaps with a second predicate or a clause."""
        clause = self._clause_after(piece, pieces)
        pattern = self.rng.random() * (0.6 if self.terse and follower else 1.0)
        if follower and pattern < 0.3 and self._and_joins(piece, follower):
            pieces.remove(follower)
            self._say(f"{self._reference()} {piece.text} and {follower.text}", [piece, follower])
        elif follower and pattern < 0.6 and piece.words + follower.words < 24 and " which " not in piece.text:
            pieces.remove(follower)
            text = f"{self._reference(noun=True)}, {self.pronouns.relative} {piece.text}, {follower.text}"
            self._say(text, [piece, follower])
        elif clause and pattern > 0.7:
            pieces.remove(clause)
            text = f"{self._reference()} {piece.text}, and {self._fill(clause.text, self.pronouns.subject)}"
            self._say(text, [piece, clause])
        else:
            self._say(f"{self._reference()} {piece.text}", [piece])

    def _and_joins(self, first: _Piece, second: _Piece) -> bool:
        """Whether "and" can join two predicates: neither has one, they are short, and the first does not end the story."""
        short = first.words + second.words < self._long - 2
        return short and " and " not in first.text + second.text and not self.facts[first.fact].relation.closing

    def _clause_after(self, first: _Piece, pieces: Sequence[_Piece]) -> _Piece | None:
        """A clause that can follow in the same sentence: it is short, and no second person makes pronouns ambiguous."""
        if self.kind.personal and self.facts[first.fact].person:
            return None
        for piece in pieces:
            short = "," not in piece.text and first.words + piece.words < self._long
            if piece.form == "clause" and short and piece.fact not in self.distractors:
                return piece
        return None

    def _say(self, text: str, pieces: Sequence[_Piece] = ()) -> None:
        """End the sentence, and add distractors to it or after it."""
        rivalled = [piece.fact for piece in pieces if piece.fact in self.distractors]
        person_named = self.kind.personal and any(self.facts[piece.fact].person for piece in pieces)
        if not rivalled:
            alone = [piece.form for piece in pieces] == ["predicate"]
            if self._sentences and alone and not self._led and len(text.split()) < 16 and self.rng.random() < 0.1:
                text, self._led = f"{self.rng.choice(_LEADS)} {text}", True
            self._sentences.append(_sentence(text))
            self._pronoun_is_clear = not person_named and (self._pronoun_is_clear or self._named)
            self._named = False
            return
        fact = rivalled[-1]
        last = pieces[-1].fact == fact and len(pieces) == 1
        if last and len(text.split()) < self._long - 6 and self.rng.random() < (1.0 if self.terse else 0.5):
            joint = self.rng.choice((", whereas", ", while", "; by contrast,"))
            self._sentences.append(_sentence(f"{text}{joint} {self._rival_clause(fact)}"))
        else:
            self._sentences.append(_sentence(text))
            contrast = "By contrast, " if last and self.rng.random() < 0.25 else ""
            self._sentences.append(_sentence(contrast + self._rival_clause(fact)))
        self._pronoun_is_clear = self._named = False
        for other in rivalled[:-1]:
            self._sentences.append(_sentence(self._rival_clause(other)))

    def _rival_clause(self, fact: int) -> str:
        """A distractor; the first one introduces the rival, later ones use the name alone."""
        introduction = self.rng.choice(self.kind.rivals).replace("{p}", self.pronouns.possessive)
        rival = (self.kind.rival_again if self._rival_is_known else introduction).replace("{n}", self.rival)
        self._rival_is_known = True
        wording = self.rng.choice(self.facts[fact].relation.rivals).replace("{r}", rival)
        return with_value(wording, self.distractors[fact])


def _form(wording: str) -> str:
    if wording.startswith("... "):
        return "predicate"
    if wording.endswith(", ..."):
        return "apposition" if wording.startswith(", ") else "opener"
    return "clause"


def _stripped(wording: str) -> str:
    return wording.removeprefix("... ").removesuffix(", ...").removeprefix(", ")


def _sentence(text: str) -> str:
    """``text`` with a capital and a full stop; the marker of a value at the beginning stays before the capital."""
    start = next(i for i, char in enumerate(text) if ord(char) < _MARKER)
    return f"{text[:start]}{text[start].upper()}{text[start + 1 :]}."
