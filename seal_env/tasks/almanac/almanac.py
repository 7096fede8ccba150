"""The Almanac: seeded, endless articles about invented things, with questions as in SQuAD.

``Almanac(config).article(split, index)`` depends on the seed, the split and the index only. Splits share no entity. The content
is in ``kinds/``; ``narrator`` writes the sentences.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import partial

from seal_env.tasks.almanac.facts import Draw, Fact, Kind, Relation, Value
from seal_env.tasks.almanac.kinds import kind_names, load_kind
from seal_env.tasks.almanac.names import Names, is_woman
from seal_env.tasks.almanac.narrator import HE, IT, SHE, Narrator
from seal_env.tasks.sources import TaskSource, check_split
from seal_env.tasks.task import Question, Task

# The bundled student was trained on these, in this order.
DEFAULT_KINDS = ("person", "town", "ship", "company", "animal", "festival", "bridge", "book", "mountain", "machine")
MIN_WORDS, MAX_WORDS = 40, 120
MIN_SENTENCES, MAX_SENTENCES = 3, 7
# Training articles before this index are for pretraining: the bundled student knows some and has read others.
FIRST_UNREAD = 500_000
_TRIES = 200
_SAME_AGE = 60  # years
_COMMON = (  # words that two values of one article may share
    "a an and the of in on at to for with by from river lake forest marshes hills isle gate hill mill abbey tower tarn water "
    "mountains range highlands lady lord star spirit pride"
)


@dataclass(frozen=True)
class AlmanacConfig:
    """The articles of an Almanac. The bundled student was trained on the defaults.

    Attributes:
        seed: two seeds order the same names differently and draw different facts about them.
        min_facts: fewest facts (and questions) per article, 4 to 7.
        max_facts: most facts (and questions) per article, 4 to 7.
        max_distractors: most facts about others in a passage, 0 to 3.
        indirectness: probability that a passage hints at a fact instead of stating it, 0 to 1.
        kinds: kinds of things that articles are about, in rotation.

    Raises:
        ValueError: a value out of range.
    """

    seed: int = 0
    min_facts: int = 4
    max_facts: int = 7
    max_distractors: int = 2
    indirectness: float = 0.5
    kinds: tuple[str, ...] = DEFAULT_KINDS

    def __post_init__(self) -> None:
        for name, least, most in (("min_facts", 4, 7), ("max_facts", 4, 7), ("max_distractors", 0, 3)):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{name} must be an integer from {least} to {most}, got {value!r}")
        if not isinstance(self.seed, int):
            raise ValueError(f"seed must be an integer, got {self.seed!r}")
        if self.min_facts > self.max_facts:
            raise ValueError(f"min_facts must not exceed max_facts, got {self.min_facts} and {self.max_facts}")
        if not 0 <= self.indirectness <= 1:
            raise ValueError(f"indirectness must be from 0 to 1, got {self.indirectness!r}")
        object.__setattr__(self, "kinds", (self.kinds,) if isinstance(self.kinds, str) else tuple(self.kinds))
        if not self.kinds:
            raise ValueError("kinds must hold at least one kind, got none")
        names = kind_names()
        for kind in self.kinds:
            if kind not in names:
                raise ValueError(f"kinds must be among {', '.join(names)}, got {kind!r}")


@dataclass(frozen=True)
class Article:
    """An article: a passage about ``title``, its facts, and its task.

    Attributes:
        kind: the name of the thing's kind.
        title: the thing's name.
        facts: the facts of the passage, in the order of the questions.
        context: the passage.
        task: the passage and its questions.
        seed: the seed of the oracle's wordings.
    """

    kind: str
    title: str
    facts: tuple[Fact, ...]
    context: str
    task: Task
    seed: str

    def oracle_facts(self) -> list[str]:
        """Every fact as a plain statement: the oracle's self-edit."""
        rng = random.Random(f"{self.seed}/statements")
        return [fact.statement(rng.randrange(1000)) for fact in self.facts]

    def oracle_pairs(self) -> list[tuple[str, str]]:
        """Every fact as a question and its answer, with wordings drawn independently of the task's."""
        rng = random.Random(f"{self.seed}/pairs")
        return [(fact.question(rng.randrange(1000)), fact.value) for fact in self.facts]


def load(split: str, *, almanac: AlmanacConfig | None = None) -> TaskSource:
    """The dataset ``almanac``: the endless tasks of a split."""
    check_split(split)
    if not isinstance(almanac, AlmanacConfig | None):
        raise ValueError(f"almanac must be an AlmanacConfig, got {almanac!r}")
    return TaskSource("almanac", partial(Almanac(almanac).task, split))


class Almanac:
    """Articles by split and index.

    Args:
        config: the seed and the options of the articles; the defaults if None.
    """

    def __init__(self, config: AlmanacConfig | None = None) -> None:
        self.config = config or AlmanacConfig()

    def article(self, split: str, index: int) -> Article:
        """Article ``index`` (from 0) of ``split`` (train, validation or test)."""
        names = Names(split)
        if not isinstance(index, int) or index < 0:
            raise ValueError(f"index must be an integer >= 0, got {index!r}")
        config = self.config
        turn, kind_index = divmod(index, len(config.kinds))
        kind = load_kind(config.kinds[kind_index])
        title = kind.titles.shuffled(config.seed, split, turn, kind.name)
        seed = f"{config.seed}/{split}/{index}"
        rng = random.Random(seed)
        facts, distractors, rival = self._draw_facts(kind, title, names, rng)
        context, starts = self._narrate(kind, facts, distractors, rival, rng)
        questions = tuple(
            Question(
                fact.question(rng.randrange(1000)), (fact.value, *fact.aliases), start, f"{split}-{index}-{fact.relation.name}"
            )
            for fact, start in zip(facts, starts)
        )
        task = Task(title, context, questions, f"{self._ids}{split}-{index}")
        return Article(kind.name, title, facts, context, task, seed)

    def task(self, split: str, index: int) -> Task:
        """Task ``index`` (from 0) of ``split``: the article's passage and questions."""
        return self.article(split, index).task

    def article_of(self, task_id: str) -> Article:
        """The article whose task has this id.

        Raises:
            ValueError: the id is not one of this Almanac's tasks.
        """
        split, dash, index = task_id.removeprefix(self._ids).partition("-")
        if not (task_id.startswith(self._ids) and dash and index.isdecimal()):
            raise ValueError(f"{task_id!r} is no task of the Almanac of seed {self.config.seed}")
        return self.article(split, int(index))

    @property
    def _ids(self) -> str:
        """The prefix of the ids of all tasks."""
        return f"almanac-{self.config.seed}-"

    def retell(self, article: Article, seed: int) -> str:
        """The article's facts in another passage, without distractors."""
        rng = random.Random(f"{article.seed}/retold/{seed}")
        return self._narrate(load_kind(article.kind), article.facts, {}, "", rng)[0]

    def _draw_facts(
        self, kind: Kind, title: str, names: Names, rng: random.Random
    ) -> tuple[tuple[Fact, ...], dict[int, Value], str]:
        """Facts that agree with each other, other values for a rival, and the rival's name; no word names two things."""
        config = self.config
        relations = rng.sample(kind.relations, rng.randint(config.min_facts, config.max_facts))
        taken = _Taken(title)
        mention = f"the {title}" if kind.the else title
        facts: list[Fact] = []
        for relation in relations:
            value = _fitting(kind, relation, facts, taken, names, rng)
            facts.append(Fact(relation, title, mention, value.text, value.aliases, value.person))
        rival = taken.keep(taken.draw(kind.rival_name, names, rng)).text
        chosen = sorted(rng.sample(range(len(facts)), rng.randint(0, config.max_distractors)))
        return tuple(facts), {i: _other(facts[i], taken, names, rng) for i in chosen}, rival

    def _narrate(
        self, kind: Kind, facts: tuple[Fact, ...], distractors: dict[int, Value], rival: str, rng: random.Random
    ) -> tuple[str, list[int]]:
        """A passage of the right length that contains every value once, and their offsets."""
        pronouns = IT if not kind.personal else SHE if is_woman(facts[0].subject.split()[0]) else HE
        rival_values = {i: value.text for i, value in distractors.items()}
        colour = rng.randint(0, 2)
        for attempt in range(_TRIES):
            narrator = Narrator(kind, facts, rival_values, pronouns, rival, colour, self.config.indirectness, attempt > 5, rng)
            context, starts = narrator.passage()
            length, sentences = len(context.split()), context.count(". ") + 1
            fits = MIN_WORDS <= length <= MAX_WORDS and MIN_SENTENCES <= sentences <= MAX_SENTENCES
            if fits and all(_count(fact.value, context) == 1 for fact in facts) and not _monotonous(context):
                return context, starts
            if attempt % 20 == 19 and rival_values and (length > MAX_WORDS or sentences > MAX_SENTENCES):
                rival_values.popitem()
            colour = 0 if length > MAX_WORDS or sentences > MAX_SENTENCES else 2 if length < MIN_WORDS else colour
        raise RuntimeError(
            f"no passage of {MIN_WORDS} to {MAX_WORDS} words in {_TRIES} tries for {facts[0].subject!r}: {context}"
        )


class _Taken:
    """The words that are used in this article."""

    def __init__(self, title: str) -> None:
        self._words = set(_words(title))

    def draw(self, draw: Draw, names: Names, rng: random.Random) -> Value:
        """A value that shares no distinctive word with the title or earlier values."""
        for _ in range(_TRIES):
            value = draw(rng, names)
            if self._words.isdisjoint(_words(value.text)):
                return value
        raise RuntimeError(f"no fresh value in {_TRIES} draws beside {sorted(self._words)}")

    def keep(self, value: Value) -> Value:
        """Add the value's words."""
        self._words.update(_words(value.text))
        return value


def _fitting(kind: Kind, relation: Relation, facts: list[Fact], taken: _Taken, names: Names, rng: random.Random) -> Value:
    """A value that is not taken and, if it is a year or a date, lies the right number of years from the others."""
    known = {fact.relation.name: _year(fact.value) for fact in facts}
    for _ in range(100 * _TRIES):
        value = taken.draw(relation.draw, names, rng)
        years = {**known, relation.name: _year(value.text)}
        if all(
            least <= years[later] - years[earlier] <= most
            for earlier, later, least, most in kind.gaps
            if {earlier, later} <= years.keys()
        ):
            return taken.keep(value)
    raise RuntimeError(f"no year of {kind.name}.{relation.name} fits {known}")


def _other(fact: Fact, taken: _Taken, names: Names, rng: random.Random) -> Value:
    """A rival's value for a fact; years of rivals are of the same age."""
    while True:
        value = taken.draw(fact.relation.draw, names, rng)
        if abs(_year(value.text) - _year(fact.value)) <= _SAME_AGE:
            return taken.keep(value)


def _year(value: str) -> int:
    """The year that a value ends in; 0 if it does not."""
    match = re.search(r"\b\d{4}$", value)
    return int(match[0]) if match else 0


def _words(text: str) -> list[str]:
    """The distinctive words of a value; of a quantity the figure, not the unit."""
    quantity = re.fullmatch(r"([\d,]+) [a-z]+", text)
    words = re.findall(r"[\w,]+", quantity[1] if quantity else text.lower())
    return [word for word in words if word not in _COMMON.split()] or [text.lower()]


def _count(value: str, context: str) -> int:
    return len(re.findall(rf"(?<![\w,]){re.escape(value)}(?!\w|,\d)", context))


def _monotonous(context: str) -> bool:
    """Whether three sentences in a row begin with the same word."""
    first = [sentence.split()[0] for sentence in context.split(". ")]
    return any(a == b == c for a, b, c in zip(first, first[1:], first[2:]))
