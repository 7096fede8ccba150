"""The Almanac: articles are consistent and deterministic, splits share no names, and every option has its effect."""

import dataclasses
import json
import random
from pathlib import Path

import pytest

from seal_env.evaluation.graders import exact
from seal_env.tasks import Question, Task
from seal_env.tasks.almanac import (
    Almanac,
    AlmanacConfig,
    Names,
    kind_names,
    kinds,
    load_kind,
    to_dataset,
    to_squad,
    validate,
    write_squad,
)
from seal_env.tasks.almanac.almanac import _words
from seal_env.tasks.almanac.kinds import FOLDER, read_kind
from seal_env.tasks.almanac.validate import text_problems
from seal_env.tasks.task import SPLITS

ARTICLES = 300


@pytest.mark.parametrize("split", SPLITS)
def test_the_validator_finds_nothing_wrong(split: str) -> None:
    report = validate(Almanac(), split, ARTICLES)
    assert report.problems == ()
    assert report.articles == ARTICLES
    assert max(report.best_guess.values()) < 0.05


@pytest.mark.parametrize(
    "config",
    [
        AlmanacConfig(seed=1, min_facts=4, max_facts=4, max_distractors=0, indirectness=0.0),
        AlmanacConfig(seed=2, min_facts=7, max_facts=7, max_distractors=3, indirectness=1.0),
    ],
)
def test_extreme_options_give_consistent_articles(config: AlmanacConfig) -> None:
    assert validate(Almanac(config), "train", 200).problems == ()


def test_the_copy_editor_sees_slips() -> None:
    slips = (
        "Two  spaces.",
        "A apple fell.",
        "An 1 in it.",
        "It ended . So",
        "it began.",
        "No stop",
        "The the end.",
        "It's it's own.",
    )
    assert all(text_problems(slip) for slip in slips)
    assert text_problems("An oak fell on 8 May, and a beech on 1,250 heads. It was an 80 year old tree.") == []


def test_an_article_is_the_same_whenever_and_in_whatever_order_it_is_made() -> None:
    first, second = Almanac(), Almanac()
    forwards = [first.article("test", i) for i in range(30)]
    backwards = [second.article("test", i) for i in reversed(range(30))][::-1]
    assert [article.task for article in forwards] == [article.task for article in backwards]
    assert first.task("test", 7) == forwards[7].task


def test_the_first_title_is_known() -> None:
    """A change here changes the data that the bundled student was trained on."""
    assert Almanac().task("train", 0).title == "Elam Dorcombe"


def test_seeds_give_different_articles() -> None:
    titles = [{Almanac(AlmanacConfig(seed=seed)).article("train", i).title for i in range(50)} for seed in (0, 1)]
    assert not titles[0] & titles[1]


def test_splits_share_no_name_for_any_seed() -> None:
    names = {split: Names(split) for split in SPLITS}
    rng = random.Random(0)
    for draw in ("person", "place_word", "firm"):
        seen = [{getattr(names[split], draw)(rng).text for _ in range(3000)} for split in SPLITS]
        assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    titles = [{Almanac(AlmanacConfig(seed=k)).article(s, i).title for i in range(100)} for k, s in enumerate(SPLITS)]
    assert not titles[0] & titles[1] and not titles[0] & titles[2] and not titles[1] & titles[2]


@pytest.mark.parametrize("kind", kind_names())
def test_every_kind_has_a_hundred_thousand_titles_a_split(kind: str) -> None:
    space = load_kind(kind).titles
    for split in SPLITS:
        assert space.size(split) >= 100_000
        some = [space.shuffled(0, split, i, kind) for i in range(0, 100_000, 50)]
        assert len(set(some)) == len(some)


def test_more_facts_more_distractors_and_more_hints_show_in_the_text() -> None:
    def words(**knobs: float) -> float:
        almanac = Almanac(AlmanacConfig(**knobs))  # type: ignore[arg-type]
        return sum(len(almanac.article("train", i).context.split()) for i in range(60)) / 60

    assert words(min_facts=7, max_facts=7) > words(min_facts=4, max_facts=4) + 10
    assert words(max_distractors=3) > words(max_distractors=0) + 5
    assert words(indirectness=1.0) > words(indirectness=0.0) + 3


def test_only_the_configured_kinds_are_written_about() -> None:
    almanac = Almanac(AlmanacConfig(kinds=("ship", "town")))
    assert [almanac.article("train", i).kind for i in range(4)] == ["ship", "town", "ship", "town"]


def test_oracle_facts_and_pairs_hold_the_gold_answers() -> None:
    almanac = Almanac()
    other_wording = 0
    for i in range(60):
        article = almanac.article("validation", i)
        statements, pairs = article.oracle_facts(), article.oracle_pairs()
        assert len(statements) == len(pairs) == len(article.task.questions)
        for statement, (other, answer), question in zip(statements, pairs, article.task.questions):
            assert article.title in statement and article.title in other
            assert question.answers[0] in statement
            assert exact(answer, question.answers)
            other_wording += other != question.question
    assert other_wording > 60


def test_a_wrong_fact_is_stated_like_a_right_one() -> None:
    article = Almanac().article("train", 4)
    fact, rng = article.facts[0], random.Random(0)
    wrong = fact.with_value(fact.relation.draw(rng, Names("train")))
    assert wrong.value != fact.value
    assert wrong.statement(0) == fact.statement(0).replace(fact.value, wrong.value)
    assert wrong.question(0) == fact.question(0)


def test_squad_json_round_trips(tmp_path: Path) -> None:
    tasks = [Almanac().task("test", i) for i in range(20)]
    write_squad(tasks, tmp_path / "almanac.json")
    read = json.loads((tmp_path / "almanac.json").read_text(encoding="utf-8"))
    assert read == to_squad(tasks)
    assert [file.name for file in tmp_path.iterdir()] == ["almanac.json"]
    for entry, task in zip(read["data"], tasks):
        paragraph = entry["paragraphs"][0]
        assert (entry["title"], paragraph["context"]) == (task.title, task.context)
        for entry_question, question in zip(paragraph["qas"], task.questions):
            assert (entry_question["id"], entry_question["question"]) == (question.id, question.question)
            gold = entry_question["answers"][0]
            assert paragraph["context"].startswith(gold["text"], gold["answer_start"])
            assert tuple(answer["text"] for answer in entry_question["answers"]) == question.answers


def test_datasets_have_squads_columns() -> None:
    pytest.importorskip("datasets")
    tasks = [Almanac().task("test", i) for i in range(5)]
    rows = to_dataset(tasks)
    assert rows.column_names == ["id", "title", "context", "question", "answers"]
    questions = [question for task in tasks for question in task.questions]
    assert list(rows["id"]) == [question.id for question in questions]
    assert [tuple(answers["text"]) for answers in rows["answers"]] == [question.answers for question in questions]


def test_a_new_kind_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (FOLDER / "bridge.toml").read_text(encoding="utf-8").replace("{} Bridge", "{} Arch")
    (tmp_path / "arch.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(kinds, "FOLDER", tmp_path)
    almanac = Almanac(AlmanacConfig(kinds=("arch",)))
    assert almanac.article("train", 0).kind == "arch"
    assert validate(almanac, "train", 50).problems == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('be = "was"', "", "ship.toml: key 'be' is missing"),
        ('be = "was"', 'be = "was', "ship.toml: Illegal character"),
        ('be = "was"', "be = 3", "ship.toml: be must be a string, got 3"),
        ("the = true", 'the = "yes"', "ship.toml: the must be true or false, got 'yes'"),
        ("the = true", "they = true", "ship.toml: no option 'they'. Did you mean 'the'"),
        ("hints = [", "hint = [", "ship.toml: relations.launched: no option 'hint'. Did you mean 'hints'"),
        ('draw = "person"', "", "ship.toml: relations.builder: key 'draw' is missing"),
        ('draw = "person"', 'draw = "persn"', "ship.toml: relations.builder: draw: no draw 'persn'. Did you mean 'person'"),
        (
            'draw = "person"',
            "draw.word = 'tirades'",
            "draw.word: a list of words must be one of shades, colours",
        ),
        ('draw = "person"', "draw = 3", "relations.builder: draw must be the name of a draw or a table of one draw, got 3"),
        ("draw.year = [1600, 1880]", "draw.year = [1600]", "relations.launched: draw.year: .* argument: 'last', got \\[1600]"),
        ("draw.year = [1600, 1880]", "draw.year = [1880, 1600]", "relations.launched: draw.year: empty range"),
        ('"launched", "lost"', '"launch", "lost"', "ship.toml: gaps: a relation must be one of launched, builder"),
        ('"launched", "lost"', '"launched"', "ship.toml: gaps must be a list of"),
        ('    "the vessel",', "    1,", "ship.toml: nouns must be a list of strings, got \\['the ship', 1, 'the ship'\\]"),
    ],
)
def test_a_wrong_key_of_a_kind_is_refused_by_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (FOLDER / "ship.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "ship.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_kind(tmp_path / "ship.toml")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"min_facts": 3}, "min_facts must be an integer from 4 to 7, got 3"),
        ({"max_facts": 9}, "max_facts must be an integer from 4 to 7, got 9"),
        ({"min_facts": 6, "max_facts": 5}, "got 6 and 5"),
        ({"max_distractors": -1}, "max_distractors must be an integer from 0 to 3, got -1"),
        ({"indirectness": 1.5}, "indirectness must be from 0 to 1, got 1.5"),
        ({"seed": "x"}, "seed must be an integer, got 'x'"),
        ({"kinds": ()}, "at least one kind"),
        ({"kinds": ("ship", "spoon")}, "got 'spoon'"),
    ],
)
def test_a_bad_config_is_refused_with_the_value(wrong: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        AlmanacConfig(**wrong)


def test_a_bad_split_or_index_is_refused_with_the_value() -> None:
    with pytest.raises(ValueError, match="train, validation, test, got 'dev'"):
        Almanac().article("dev", 0)
    with pytest.raises(ValueError, match="got -1"):
        Almanac().article("train", -1)


def test_a_task_that_cannot_be_right_is_refused() -> None:
    question = Question("Who?", ("Edda",), 4)
    with pytest.raises(ValueError, match="answer_start 4 must point at 'Edda'"):
        Task("Title", "So Edda did.", (question,))
    with pytest.raises(ValueError, match="title must not be empty"):
        Task(" ", "So Edda did.", (dataclasses.replace(question, answer_start=3),))
    with pytest.raises(ValueError, match="at least one question"):
        Task("Title", "So Edda did.", ())
    with pytest.raises(ValueError, match="answers"):
        Question("Who?", ())
    with pytest.raises(ValueError, match="got the string 'Edda'"):
        Question("Who?", "Edda")  # type: ignore[arg-type]


def test_a_value_of_common_words_alone_keeps_its_words():
    assert _words("river water") == ["river water"]
    assert _words("1,250 crowns") == ["1,250"]
    assert _words("Lake Morhaven") == ["morhaven"]


def test_an_article_is_found_by_its_tasks_id() -> None:
    almanac = Almanac()
    article = almanac.article("validation", 7)
    assert almanac.article_of(article.task.id) == article
    for other in ("", "almanac-0", "almanac-1-validation-7", "almanac-0-validation-x", "almanac-0-dev-7"):
        with pytest.raises(ValueError):
            almanac.article_of(other)
