"""Validates an Almanac from its articles and the exact grader, without a model.

report = validate(Almanac(), "test", 500)
report.problems  # one line per problem
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass

from seal_env.tasks.almanac.almanac import MAX_WORDS, MIN_WORDS, Almanac, Article
from seal_env.tasks.almanac.facts import Kind, Relation, takes_an
from seal_env.tasks.almanac.kinds import load_kind
from seal_env.tasks.almanac.names import Names
from seal_env.tasks.answer_match import exact, normalize
from seal_env.tasks.task import SPLITS

GUESSABLE = 0.05  # share of a relation's questions that the best constant answer may answer correctly
_DRAWS = 2000
_INDEFINITE = re.compile(r"\b(an?) ([\w,]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Report:
    """The result of a validation.

    Attributes:
        articles: number of articles.
        questions: number of their questions.
        problems: one line per problem.
        best_guess: by "kind.relation", the share of random draws that its most frequent answer has.
    """

    articles: int
    questions: int
    problems: tuple[str, ...]
    best_guess: dict[str, float]


def validate(almanac: Almanac, split: str, n: int) -> Report:
    """Validate the first ``n`` articles of ``split`` and list all problems."""
    articles = [almanac.article(split, i) for i in range(n)]
    problems = [f"{article.task.id}: {problem}" for article in articles for problem in _problems(article)]
    problems += _title_problems(almanac, split, articles)
    best_guess = {
        f"{kind}.{relation.name}": _best_guess(relation, split)
        for kind in almanac.config.kinds
        for relation in load_kind(kind).relations
    }
    problems += [
        f"{name}: one answer is right {share:.1%} of the time" for name, share in best_guess.items() if share >= GUESSABLE
    ]
    problems += _frequent_answers(articles)
    problems += [problem for kind in almanac.config.kinds for problem in wording_problems(load_kind(kind))]
    return Report(n, sum(len(article.task.questions) for article in articles), tuple(problems), best_guess)


def text_problems(text: str) -> list[str]:
    """Typographical errors in ``text``: spacing, punctuation, capitals, a and an, repeated words."""
    problems = []
    for what, pattern in (
        ("double or stray space", r"  | [,.;:!?]|^\s|\s$"),
        ("doubled punctuation", r"[,.;:][,.;:]"),
        ("no space after punctuation", r"[.;:][^\s]|,[^\s\d]"),
        ("small letter after a full stop", r"\. [a-z]"),
        ("word twice", r"(?i)\b([a-z]+) \1\b"),
        ("unfilled slot or mark", r"[{}\ue000-\uf8ff]"),
        ("possessive of a pronoun", r"\b(?:it|he|she|him|her|his|its)'s\b"),
    ):
        problems += [f"{what} at {text[max(0, m.start() - 15) : m.end() + 15]!r}" for m in re.finditer(pattern, text)]
    if not text[0].isupper() and not text[0].isdigit():
        problems.append(f"begins with a small letter: {text[:20]!r}")
    if text[-1] not in ".?":
        problems.append(f"ends without a full stop or question mark: {text[-20:]!r}")
    for match in _INDEFINITE.finditer(text):
        if (match[1].lower() == "an") != takes_an(match[2]):
            problems.append(f"wrong article in {match[0]!r}")
    return problems


def wording_problems(kind: Kind) -> list[str]:
    """Problems of a kind's wordings: too few, wrong slots, narration that equals a plain wording."""
    problems = [f"{kind.name} has {len(kind.relations)} relations"] if len(kind.relations) < 9 else []
    for relation in kind.relations:
        narrated = (*relation.tells, *relation.hints)
        for what, wordings, least in (
            ("statements", relation.statements, 3),
            ("questions", relation.questions, 3),
            ("narrated wordings", narrated, 4),
            ("hints", relation.hints, 2),
            ("rivals", relation.rivals, 2),
        ):
            if len(set(wordings)) < least:
                problems.append(f"{kind.name}.{relation.name}: {len(set(wordings))} {what}, {least} are needed")
        slots = [(w, {"t", "v"}) for w in relation.statements] + [(w, {"t"}) for w in relation.questions]
        slots += [(w, {"v"}) for w in narrated] + [(w, {"r", "v"}) for w in relation.rivals]
        for wording, needed in slots:
            used = {slot.removeprefix("a") for slot in re.findall(r"{(\w+)}", wording)} - {"s", "o", "p"}
            if used != needed:
                problems.append(
                    f"{kind.name}.{relation.name}: slots {sorted(used)} in {wording!r}, {sorted(needed)} are needed"
                )
        plain = [wording.replace("{t}", "").strip(" .") for wording in relation.statements]
        for wording in narrated:
            if wording.startswith("... ") and "," in wording:
                problems.append(f"{kind.name}.{relation.name}: comma in the predicate {wording!r}")
            core = re.sub(r"\{[sop]\}|\.\.\.|^, |, $", "", wording).strip(" ,")
            if any(core in statement for statement in plain):
                problems.append(f"{kind.name}.{relation.name}: {wording!r} is told as it is stated")
        for wording in relation.rivals:
            if wording.replace("{r}", "").strip() in plain:
                problems.append(f"{kind.name}.{relation.name}: {wording!r} is told as it is stated")
    return problems


def _problems(article: Article) -> list[str]:
    task, problems = article.task, []
    words = len(task.context.split())
    if not MIN_WORDS <= words <= MAX_WORDS:
        problems.append(f"{words} words")
    if not 4 <= len(task.questions) <= 7:
        problems.append(f"{len(task.questions)} questions")
    if task.title not in task.context:
        problems.append("the passage does not name its title")
    for question in task.questions:
        gold, start = question.answers[0], question.answer_start
        if not all(exact(answer, question.answers) for answer in question.answers):
            problems.append(f"an accepted answer does not score 1: {question.answers}")
        if start is None or not task.context.startswith(gold, start):
            problems.append(f"answer_start {start} does not point at {gold!r}")
        if task.title not in question.question:
            problems.append(f"the question does not name its title: {question.question!r}")
        for where, text in (("title", task.title), *(("question", other.question) for other in task.questions)):
            if _within(gold, text):
                problems.append(f"the answer {gold!r} stands in the {where} {text!r}")
        problems += text_problems(question.question)
    golds = [normalize(question.answers[0]) for question in task.questions]
    if len(set(golds)) < len(golds):
        problems.append(f"two facts share a value: {golds}")
    for fact in article.facts:
        plain = [fact.statement(k) for k in range(len(fact.relation.statements))]
        problems += [f"told plainly: {text!r}" for text in plain if text.rstrip(".").lower() in task.context.lower()]
        problems += [problem for text in plain for problem in text_problems(text)]
    return problems + text_problems(task.context)


def _within(answer: str, text: str) -> bool:
    return f" {normalize(answer)} " in f" {normalize(text)} "


def _title_problems(almanac: Almanac, split: str, articles: list[Article]) -> list[str]:
    seen = Counter(article.title for article in articles)
    problems = [f"title repeated: {title}" for title, count in seen.items() if count > 1]
    for other in SPLITS:
        if other != split:
            shared = seen.keys() & {almanac.article(other, i).title for i in range(len(articles))}
            problems += [f"title in {split} and {other}: {title}" for title in sorted(shared)]
    return problems


def _best_guess(relation: Relation, split: str) -> float:
    rng, names = random.Random(relation.name), Names(split)
    drawn = Counter(relation.draw(rng, names).text for _ in range(_DRAWS))
    return drawn.most_common(1)[0][1] / _DRAWS


def _frequent_answers(articles: list[Article]) -> list[str]:
    """Answers that are more frequent than chance allows (five standard errors above the limit)."""
    golds: dict[str, Counter[str]] = defaultdict(Counter)
    for article in articles:
        for fact in article.facts:
            golds[f"{article.kind}.{fact.relation.name}"][fact.value] += 1
    problems = []
    for name, counts in golds.items():
        answer, count = counts.most_common(1)[0]
        questions = counts.total()
        if count > 2 and count > GUESSABLE * questions + 5 * (GUESSABLE * questions) ** 0.5:
            problems.append(f"{name}: {answer!r} answers {count} of {questions} questions")
    return problems
