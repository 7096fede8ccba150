"""A local grader: decision trees over the words that a prediction shares with the accepted answer.

``python -m benchmarks.training.fit_grader`` fitted the parameters beside this file to GPT-4.1's verdicts, which SEAL's authors
recorded. They are numbers and names of features and contain no text.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seal_env.evaluation.graders.grader import Answered, Verdict
from seal_env.tasks.answer_match import checked, normalize

PARAMETERS = Path(__file__).with_name("calibrated.json")

Matrix = NDArray[np.float64]

_MOST_CHARACTERS = 1200  # of a prediction that are read; SEAL's have 64 tokens
_MOST_GOLD_CHARACTERS = 400
_MATCH = 0.6  # similarity from which two words count as one
_NONE = -1.0  # value of a feature that does not apply
_ROWS = 1024  # scored at once


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_UNITS = _listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen"
)
_TENS = _listed("twenty thirty forty fifty sixty seventy eighty ninety")
_ORDINALS = _listed(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
)
_TEN = {word: 10 * (i + 2) for i, word in enumerate(_TENS)}
_NUMBERS = {word: i for i, word in enumerate(_UNITS)} | _TEN | {word: i + 1 for i, word in enumerate(_ORDINALS)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SAME = {
    "usa": "us", "bce": "bc", "ce": "ad", "kilometres": "km", "kilometers": "km", "kilometre": "km", "kilometer": "km",
    "metres": "m", "meters": "m", "metre": "m", "meter": "m", "miles": "mi", "mile": "mi", "feet": "ft", "foot": "ft",
    "kilograms": "kg", "kilogram": "kg", "pounds": "lb", "pound": "lb", "celsius": "c", "fahrenheit": "f", "jan": "january",
    "feb": "february", "mar": "march", "apr": "april", "jun": "june", "jul": "july", "aug": "august", "sep": "september",
    "sept": "september", "oct": "october", "nov": "november", "dec": "december", "dr": "doctor", "st": "saint",
    "mt": "mount", "co": "company", "corp": "corporation", "tv": "television", "percentage": "percent",
}  # fmt: skip
_PHRASES = {
    "%": " percent ", "per cent": "percent", "$": " dollar ", "€": " euro ", "£": " sterling ", "°": " degree ",
    "united states of america": "us", "united states": "us", "united kingdom": "uk", "n't": " not", "cannot": "can not",
    "'s": "", "'": "",
}  # fmt: skip
_FUNCTION_WORDS = frozenset(
    _listed(
        "a an the of in on at to for from by with as and or but is are was were be been being am do does did has have had it "
        "its this that these those which who whom whose what when where why how there their they them he she his her him i you "
        "your we our if than then so such can could will would might must shall should also into about between among during "
        "through up down out off only just very more most some any each other both own same s t"
    )
)
_GENERIC = frozenset(  # say little of which thing is meant
    _listed(
        "people group person time year number type kind form part area many much several various different large small great "
        "high low new old first use make way thing place approximately around nearly almost over less"
    )
)
_NEGATIONS = frozenset(_listed("not no never none neither nor without unknown"))
_SUFFIXES = {
    "ization": "ize", "isation": "ize", "ational": "ate", "iveness": "ive", "fulness": "ful", "ically": "ic", "ations": "ate",
    "ation": "ate", "ities": "ity", "ising": "ize", "ised": "ize", "ise": "ize",
}  # fmt: skip
_ENDINGS = ("ingly", "edly", "ing", "ed", "ly", "ment", "ness", "al", "er", "ors", "or", "ity", "ive", "ion")

_QUOTES = str.maketrans("\u2013\u2014\u2212\u2019\u2018\u201c\u201d", "---''\"\"")
_INITIALS = re.compile(r"\b(?:[a-z]\.){2,}[a-z]?\b\.?")
_THOUSANDS = re.compile(r"(?<=\d)[, ](?=\d{3}(?!\d))")
_YEAR_RANGE = re.compile(r"\b(1\d|20)(\d\d)\s*-\s*(\d\d)\b")
_NUMBER_ENDING = re.compile(r"\b(\d+)(?:s|st|nd|rd|th)\b")
_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")
_NAME = re.compile(r"\b[A-Z][A-Za-z]+")
_INNER_NAME = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][A-Za-z]+")
_NEXT_TURN = re.compile(
    r"\n\s*(?:question\b|q\s*:|topic\s*:|answer\s*:|you are\b|human\s*:|assistant\s*:|user\s*:|let's answer)|\n\s*\n", re.I
)
_SENTENCE_END = re.compile(r"(?<=[a-z0-9)\"'%]{2}[.!?])\s+(?=[A-Z\"'(0-9])|\n")
_TO_THE_JUDGE = re.compile(
    r"\b(?:answer|response|prediction|it) is (?:correct|right|true)\b"
    r"|\b(?:say|answer|respond|reply|output|grade|mark)\b[^.!?\n]{0,30}?\b(?:yes|correct|right|true)\b"
    r"|\bignore\b[^.!?\n]{0,30}\b(?:instructions?|question|previous|above)\b",
    re.I,
)
_LIST_ITEM = re.compile(r"[,;/|\n]|\band\b|\bor\b|(?:^|\s)(?:\d{1,2}[.)]|[-*\u2022])\s")
_ALTERNATIVE = re.compile(r"\bor\b|/")
_AFTERTHOUGHT = re.compile(r"[,;(]|\b(?:who|which|that|because)\b")
_MANY = 5  # candidates more than the accepted answer names, from which a prediction is a list of guesses


class Calibrated:
    """A local grader that predicts GPT-4.1's verdict from the question, the accepted answers and the prediction.

    Right and wrong come from boosted trees over forty features: how many of the accepted answer's words the prediction
    has, by stem and by shared letters; what else it names; numbers, years and capitalised words that agree or do not. With
    several accepted answers the best counts. A prediction that is empty, that says no more than the question, that lists
    guesses or that speaks to a judge is always wrong.

    Args:
        threshold: score above which an answer is right, 0 to 1; higher is stricter. At 0.5 as many of the recorded answers
            are right as the judge says.

    Fitted to the verdicts recorded in the first ReST-EM round of SEAL's authors (``rank_iter0*.json`` in their repository, MIT;
    99 passages of SQuAD, answers of Qwen2.5-7B). On the 4,030 different answers of their evaluation runs, about other articles,
    it agrees with the judge on 88.7 % (precision 0.846, recall 0.838; the judge with itself on 99.3 %, containment on 86.8 %).
    Cross-fitted by article over all 13,287 it is 88.6 % (0.861, 0.861). It is a little strict: on the evaluation runs its mean
    accuracy after the update is 0.3 to 1.4 points below the judge's, in the judge's order (46.7 for 47.0, 38.3 for 39.7, 32.7
    for 33.5), and 1.1 to 2.8 points below it before the update, where the judge's 32.3, 32.4 and 33.4 are too close for it to
    order. The threshold was set with all runs in sight; the trees were not fitted to the evaluation runs, but which features to
    keep was decided by cross-validation over all.

    It knows words, not the world: a paraphrase without shared words, a looser place or date that a judge lets pass and the
    right words in the wrong role are where it errs. It was made for English answers of a sentence or two and for short
    accepted answers. For a single answer it is a guess; for the mean over many it is a fair stand-in.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be from 0 to 1, got {threshold}")
        self.threshold = threshold
        self.trees = load_trees()

    def __call__(self, answered: Sequence[Answered]) -> list[Verdict]:
        return [score > self.threshold for score in scores(answered, self.trees)]


@dataclass(frozen=True)
class Trees:
    """A sum of oblivious trees: all nodes of a level compare the same feature with the same threshold.

    Attributes:
        columns: ``(trees, depth)`` index of the feature.
        splits: ``(trees, depth)`` threshold; a greater value goes to the right.
        leaves: ``(trees, 2 ** depth)`` log-odds; the first level is the highest bit.
        intercept: log-odds before any tree.
    """

    columns: NDArray[np.int64]
    splits: Matrix
    leaves: Matrix
    intercept: float

    def score(self, features: Matrix) -> Matrix:
        """``(n,)`` scores from 0 to 1 of ``features: (n, columns)``; a row's score does not depend on other rows."""
        bits = 1 << np.arange(self.columns.shape[1])[::-1]
        scores = [np.zeros(0)]
        for start in range(0, len(features), _ROWS):
            leaf = (features[start : start + _ROWS, self.columns] > self.splits) @ bits
            values = np.ascontiguousarray(self.leaves[np.arange(len(self.leaves)), leaf])
            scores.append(1 / (1 + np.exp(-self.intercept - values.sum(1))))
        return np.concatenate(scores)


@functools.cache
def load_trees(path: Path = PARAMETERS) -> Trees:
    """The trees written by ``benchmarks.training.fit_grader``.

    Raises:
        ValueError: they were fitted to other features than this file computes.
    """
    stored = json.loads(path.read_text(encoding="utf-8"))
    if tuple(stored["features"]) != FEATURES:
        raise ValueError(f"{path} was fitted to other features; run python -m benchmarks.training.fit_grader again")
    return Trees(
        np.array(stored["columns"], dtype=np.int64),
        np.array(stored["splits"], dtype=np.float64),
        np.array(stored["leaves"], dtype=np.float64),
        float(stored["intercept"]),
    )


def scores(answered: Sequence[Answered], trees: Trees) -> list[float]:
    """The probability that a judge calls each answer right, 0 to 1; 0 for those that :func:`reply` refuses."""
    rows: list[list[float]] = []
    owners: list[int] = []
    probabilities = [0.0] * len(answered)
    for i, item in enumerate(answered):
        for gold in checked(item.answers):
            if not words(_fold(gold)):
                probabilities[i] = max(probabilities[i], float(normalize(item.prediction) == normalize(gold) != ""))
            elif (text := reply(item.question, gold, item.prediction)) is not None:
                rows.append(features(item.question, gold, text))
                owners.append(i)
    for i, score in zip(owners, trees.score(np.array(rows).reshape(len(rows), len(FEATURES)))):
        probabilities[i] = max(probabilities[i], float(score))
    return probabilities


def reply(question: str, gold: str, prediction: str) -> str | None:
    """The part of ``prediction`` that answers the question: the first turn, without questions and words to a judge.

    None if nothing is left, if the rest only repeats the question, or if it is a list of guesses.
    """
    text = _without(_fold(question), _fold(prediction).strip()[:_MOST_CHARACTERS])
    turn = _NEXT_TURN.search(text)
    text = text[: turn.start()] if turn else text
    if "?" in text or _TO_THE_JUDGE.search(text):
        sentences = _SENTENCE_END.split(text)
        text = "\n".join(
            sentence
            for sentence in sentences
            if not sentence.rstrip("\"' ").endswith("?") and not _TO_THE_JUDGE.search(sentence)
        )
    refused = not words(text) or _echoes(_fold(question), text) or _lists_guesses(_fold(question), _fold(gold), text)
    return None if refused else text.strip()


def _without(question: str, text: str) -> str:
    """``text`` after the question that it begins with, if it does."""
    if text.lower().startswith(question.lower().strip()):
        return re.sub(r"^\s*(?:answer|a)\s*:", "", text[len(question.strip()) :], flags=re.I).lstrip()
    return text


def _echoes(question: str, text: str) -> bool:
    """Whether ``text`` says most of the question and nothing more, as a question or with every choice offered."""
    in_question, in_text = set(_content(words(question))), set(_content(words(text)))
    if not in_text <= in_question or len(in_text) < 0.75 * len(in_question):
        return False
    return words(text)[0] == words(question)[0] or (in_text == in_question and "or" in words(question))


def _lists_guesses(question: str, gold: str, text: str) -> bool:
    """Whether the accepted answer is one of many short items beside each other, most of them foreign to it."""
    in_question, in_gold = set(_content(words(question))), set(_content(words(gold)))
    foreign, listed = set(), False
    for item in _items(text):
        new = [stem for stem in item if stem not in in_question]
        if 0 < len(new) <= 3:
            listed |= not in_gold.isdisjoint(new)
            if in_gold.isdisjoint(new):
                foreign.add(tuple(new))
    return listed and len(foreign) >= _MANY + len(_LIST_ITEM.split(gold))


def _items(text: str) -> list[list[str]]:
    """Content of what stands between commas and the like; of many words in a row without a function word, each."""
    items: list[list[str]] = []
    for part in _LIST_ITEM.split(text):
        tokens = words(part)
        plain = len(tokens) > 8 and _FUNCTION_WORDS.isdisjoint(tokens)
        if plain or (len(tokens) > 1 and all(map(_is_number, tokens))):
            items += [[stem] for stem in _stems(tokens)]
        else:
            items.append(_content(tokens))
    return items


def _fold(text: str) -> str:
    """``text`` without accents, with plain dashes and quotes."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).translate(_QUOTES)


@functools.lru_cache(20_000)
def words(text: str) -> tuple[str, ...]:
    """Lower-case words of folded ``text``: numbers in digits (``"two thousand"`` is ``"2000"``), units abbreviated."""
    text = _INITIALS.sub(lambda match: match[0].replace(".", ""), text.lower())
    text = _YEAR_RANGE.sub(r"\1\2 \1\3", _THOUSANDS.sub("", text))
    text = _NUMBER_ENDING.sub(r"\1", text)
    for phrase, plain in _PHRASES.items():
        if phrase in text:
            text = text.replace(phrase, plain)
    tokens = _WORD.findall(text)
    out, i = [], 0
    while i < len(tokens):
        word = tokens[i]
        i += 1
        if word not in _NUMBERS and not _is_number(word):
            out.append(_SAME.get(word, word))
            continue
        value = float(_NUMBERS.get(word, word))
        if word in _TEN and i < len(tokens) and 0 < _NUMBERS.get(tokens[i], 0) < 10:
            value += _NUMBERS[tokens[i]]
            i += 1
        while i < len(tokens) and tokens[i] in _SCALES:
            value *= _SCALES[tokens[i]]
            i += 1
        out.append(f"{value:.15g}")
    return tuple(out)


def _is_number(word: str) -> bool:
    return word[0].isdecimal()


@functools.lru_cache(50_000)
def _stem(word: str) -> str:
    if len(word) < 4 or _is_number(word):
        return word
    for suffix, plain in _SUFFIXES.items():
        if word.endswith(suffix) and len(word) >= len(suffix) + 3:
            word = word.removesuffix(suffix) + plain
            break
    if word.endswith("sses"):
        word = word[:-2]
    elif word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) >= len(ending) + 4:
            word = word.removesuffix(ending)
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    if word.endswith("e") and len(word) > 4:
        word = word[:-1]
    return word[:-1] + "i" if word.endswith("y") and len(word) > 3 else word


def _stems(tokens: Sequence[str]) -> list[str]:
    return [_stem(word) for word in tokens]


def _content(tokens: Sequence[str]) -> list[str]:
    return [_stem(word) for word in tokens if word not in _FUNCTION_WORDS]


@functools.lru_cache(50_000)
def _letters(word: str) -> frozenset[str]:
    """Pairs and triples of letters, the word's ends included."""
    marked = f"^{word}$"
    return frozenset(marked[i : i + n] for n in (2, 3) for i in range(len(marked) - n + 1))


def similarity(a: str, b: str) -> float:
    """0 to 1: what two stems share in letters, or in a beginning of four letters or more; numbers are equal or not."""
    if a == b:
        return 1.0
    if _is_number(a) or _is_number(b):
        return 0.0
    x, y = _letters(a), _letters(b)
    shared = 2 * len(x & y) / (len(x) + len(y))
    if shared < 0.2:
        return shared
    start = next((i for i, (p, q) in enumerate(zip(a, b)) if p != q), min(len(a), len(b)))
    return max(shared, start / max(len(a), len(b)) if start >= 4 else 0.0)


def _closest(stem: str, pool: Collection[str]) -> float:
    if stem in pool:
        return 1.0
    if len(stem) == 1 and stem.isalpha():  # an initial
        return float(any(other[0] == stem for other in pool))
    return max((similarity(stem, other) for other in pool), default=0.0)


def _mean(values: Collection[float], empty: float = 0.0) -> float:
    return sum(values) / len(values) if values else empty


FEATURES = (
    # how much of the accepted answer's words is there
    "recall", "recall_alternative", "recall_specific", "recall_hits", "recall_hits_first", "recall_hits_all", "recall_least",
    "letters", "letters_first", "longest_piece", "longest_run", "contained",
    # what is missing of it
    "missing_names", "missing_numbers", "missing_longest", "missing_last",
    # what else is said
    "precision", "precision_first", "rank", "rank_relative", "rank_last", "new_names_first", "new_between", "after",
    # the question's words
    "question", "question_first",
    # numbers and years
    "numbers", "number_first_distance", "number_distance", "year_distance",
    # kinds and lengths
    "gold_listed", "gold_or", "gold_names", "asks_how", "asks_who", "first_length", "first_new", "length_ratio", "says_no",
    "negation_differs",
)  # fmt: skip


def features(question: str, gold: str, text: str) -> list[float]:
    """``FEATURES`` of what :func:`reply` left of a prediction."""
    question, gold = _fold(question), _fold(gold)[:_MOST_GOLD_CHARACTERS]
    first = _SENTENCE_END.split(text)[0]
    wanted, there, there_first = words(gold), words(text), words(first)
    in_question, stems, stems_first = set(_stems(words(question))), _stems(there), _stems(there_first)
    pool, pool_first = set(stems), set(stems_first)
    content = _content(wanted) or _stems(wanted)
    key = [stem for stem in content if stem not in in_question] or content  # what the question does not already say
    match = {stem: _closest(stem, pool) for stem in content}
    close = [match[stem] for stem in key]
    close_first = [_closest(stem, pool_first) for stem in key]
    missing = [stem for stem in key if match[stem] < _MATCH]
    specific = [match[stem] for stem in key if stem not in _GENERIC]
    new = [stem for stem in _content(there) if stem not in in_question]
    new_first = [stem for stem in _content(there_first) if stem not in in_question]
    likeness = {stem: _closest(stem, set(key)) >= _MATCH for stem in set(new) | pool_first}
    hits = [i for i, stem in enumerate(new) if likeness[stem]]
    named, named_first = _names(gold, _NAME), _names(first, _INNER_NAME)
    joined, joined_first = "".join(there), "".join(there_first)
    all_stems = f" {' '.join(stems)} "
    at = [i for i, stem in enumerate(stems_first) if stem in key] or [i for i, s in enumerate(stems_first) if likeness[s]]
    between = stems_first[at[0] : at[-1] + 1] if at else []
    asked_content = set(_content(words(question)))
    kind = _asks(question)
    return [
        _mean(close),
        max(
            [
                _mean(close),
                *(_mean([_closest(stem, pool) for stem in alternative]) for alternative in _alternatives(gold, in_question)),
            ]
        ),
        _mean(specific, 1.0),
        _mean([value >= _MATCH for value in close]),
        _mean([value >= _MATCH for value in close_first]),
        _mean([match[stem] >= _MATCH for stem in content]),
        min(match.values()),
        _shared_letters("".join(wanted), joined),
        _shared_letters("".join(wanted), joined_first),
        _longest_piece("".join(wanted)[:80], joined_first),
        SequenceMatcher(None, content, _content(there), autojunk=False).find_longest_match().size / len(content),
        float(f" {' '.join(_stems(wanted))} " in all_stems),
        float(sum(stem in named for stem in missing)),
        float(sum(_is_number(stem) for stem in missing)),
        float(max(map(len, missing), default=0)),
        float(close[-1] < _MATCH),
        len(hits) / len(new) if new else 0.0,
        _mean([likeness[stem] for stem in new_first]),
        float(min(hits[0], 30) if hits else 30),
        hits[0] / len(new) if hits else 1.0,
        hits[-1] / len(new) if hits else _NONE,
        float(len(named_first - in_question - set(_stems(wanted)))),
        float(sum(s not in in_question and s not in key and s not in _FUNCTION_WORDS for s in between)) if at else _NONE,
        (len(stems_first) - 1 - at[-1]) / len(stems_first) if at else _NONE,
        len(asked_content & pool) / max(1, len(asked_content)),
        len(asked_content & pool_first) / max(1, len(asked_content)),
        float(sum(map(_is_number, there))),
        *_number_distances(wanted, there, words(question)),
        _year_distance(wanted, there_first),
        float(gold.count(",") + gold.count(" and ")),
        float(" or " in gold),
        float(len(named - in_question)),
        float(kind == "how"),
        float(kind == "who"),
        float(len(there_first)),
        float(len(new_first)),
        len(there_first) / len(wanted),
        float(there[0] == "no"),
        float(_NEGATIONS.isdisjoint(wanted) != _NEGATIONS.isdisjoint(there_first)),
    ]


def _names(text: str, pattern: re.Pattern[str]) -> set[str]:
    return {stem for name in pattern.findall(text) for stem in _stems(words(name))}


def _asks(question: str) -> str:
    in_question = set(words(question))
    if words(question)[:1] == ("how",):
        return "" if {"many", "much", "long"} & in_question else "how"
    return "who" if {"who", "whom", "whose"} & in_question else ""


def _alternatives(gold: str, in_question: set[str]) -> list[list[str]]:
    """Parts of ``gold`` that may stand for all of it: without or within brackets, on a side of "or", before an afterthought."""
    parts = [re.sub(r"\([^)]*\)", " ", gold), *re.findall(r"\(([^)]*)\)", gold), *_ALTERNATIVE.split(gold)]
    parts.append(_AFTERTHOUGHT.split(gold)[0])
    return [left for part in parts if part != gold and (left := [s for s in _content(words(part)) if s not in in_question])]


def _shared_letters(wanted: str, there: str) -> float:
    """Share of the runs of four letters of ``wanted`` that ``there`` has."""
    runs = {wanted[i : i + 4] for i in range(len(wanted) - 3)} or {wanted}
    return _mean([run in there for run in runs])


def _longest_piece(wanted: str, there: str) -> float:
    longest = 0
    for i in range(len(wanted)):
        while i + longest < len(wanted) and wanted[i : i + longest + 1] in there:
            longest += 1
    return longest / len(wanted)


def _number_distances(wanted: Sequence[str], there: Sequence[str], in_question: Sequence[str]) -> tuple[float, float]:
    """Relative distance to the first number in the text, and of the accepted number that is furthest from any."""
    golds = [float(word) for word in wanted if _is_number(word)]
    numbers = [word for word in there if _is_number(word)]
    given = [float(word) for word in numbers if word not in in_question] or [float(word) for word in numbers]
    if not golds or not given:
        return _NONE, _NONE
    return min(_apart(gold, given[0]) for gold in golds), max(min(_apart(gold, number) for number in given) for gold in golds)


def _apart(a: float, b: float) -> float:
    return abs(a - b) / max(abs(a), abs(b), 1e-9)


def _year_distance(wanted: Sequence[str], there: Sequence[str]) -> float:
    """Fewest years between what both name; a century is all its years."""
    golds, years = _years(wanted), _years(there)
    return min((max(0.0, a - d, c - b) for a, b in golds for c, d in years), default=_NONE)


def _years(tokens: Sequence[str]) -> list[tuple[float, float]]:
    spans = []
    for i, word in enumerate(tokens):
        if not _is_number(word):
            continue
        value = float(word)
        if 0 < value <= 21 and any(other.startswith("centur") for other in tokens[i + 1 : i + 4]):
            spans.append((100 * (value - 1), 100 * value))
        elif 100 <= value < 2100 and value == int(value):
            spans.append((value, value))
    return spans
