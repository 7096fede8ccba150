"""Grading by text agrees with SQuAD's official script."""

from collections.abc import Sequence

import gymnasium as gym
import pytest

import seal_env  # noqa: F401 (registers the ids)
from seal_env.domains.knowledge import KnowledgeConfig
from seal_env.evaluation.graders import Answered, GradingError, Verdict, contains, exact, f1, get_grader, grade, normalize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Norman conquest!", "norman conquest"),
        ("an apple, a pear", "apple pear"),
        ("U.S.", "us"),
        ("theatre", "theatre"),
        ("1,250", "1250"),
        ("The", ""),
        ("  Denver\tBroncos\n", "denver broncos"),
    ],
)
def test_normalization_drops_case_punctuation_articles_and_spaces(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_any_accepted_answer_matches() -> None:
    answers = ("Saint Bernadette Soubirous", "Bernadette Soubirous")
    assert exact("saint bernadette soubirous.", answers)
    assert exact("Bernadette Soubirous", answers)
    assert not exact("Bernadette", answers)


def test_an_answer_with_more_words_is_not_exact() -> None:
    assert not exact("in 1858", ("1858",))


def test_f1_counts_shared_words() -> None:
    assert f1("Denver Broncos", ("the Denver Broncos",)) == 1.0
    assert f1("the Broncos of Denver", ("Denver Broncos",)) == pytest.approx(0.8)
    assert f1("gold", ("golden anniversary",)) == 0.0
    assert f1("a copper statue of Christ", ("a golden statue of the Virgin Mary",)) == pytest.approx(4 / 9)


def test_f1_counts_a_repeated_word_only_as_often_as_both_have_it() -> None:
    assert f1("paris paris", ("paris",)) == pytest.approx(2 / 3)


def test_f1_takes_the_best_accepted_answer() -> None:
    assert f1("Marlin", ("Edda Marlin", "Marlin")) == 1.0


def test_an_empty_prediction_is_right_only_if_the_answer_is_empty() -> None:
    assert f1("the", ("a",)) == 1.0
    assert f1("", ("Denver",)) == 0.0
    assert not exact("", ("Denver",))


def test_a_string_or_nothing_in_place_of_answers_is_refused() -> None:
    with pytest.raises(TypeError, match="'Denver'"):
        exact("Denver", "Denver")
    with pytest.raises(ValueError, match="at least one"):
        f1("Denver", ())


@pytest.mark.parametrize(
    ("prediction", "right"), [("It was in the year 1858.", True), ("18581", False), ("", False), ("in 1859", False)]
)
def test_containment_asks_for_whole_words(prediction: str, right: bool) -> None:
    assert contains(prediction, ("1858",)) is right


def test_an_answer_that_is_all_articles_is_contained_in_nothing_else() -> None:
    assert contains("the", ("a",)) and not contains("a dog", ("The",))


def test_graders_are_found_by_name_and_take_their_options() -> None:
    item = Answered("When?", "in 1858", ("1858",))
    assert [get_grader(name)([item]) for name in ("exact", "contains")] == [[False], [True]]
    assert get_grader("f1")([item]) == [pytest.approx(2 / 3)]
    with pytest.raises(ValueError, match="Did you mean 'exact'"):
        get_grader("exac")
    with pytest.raises(ValueError, match="no option 'modle'"):
        get_grader("exact", {"modle": "gpt"})


def begins_with(answered: Sequence[Answered], letter: str = "x") -> list[Verdict]:
    return [None if not item.prediction else item.prediction[0] == letter for item in answered]


def test_a_function_by_its_path_is_a_grader() -> None:
    grader = get_grader(f"{__name__}:begins_with", {"letter": "i"})
    assert grader([Answered("When?", "in 1858", ("1858",))]) == [True]


def test_each_item_is_graded_once_and_a_missing_verdict_is_an_error() -> None:
    graded: list[Answered] = []

    def grader(answered: Sequence[Answered]) -> list[Verdict]:
        graded.extend(answered)
        return begins_with(answered)

    item = Answered("When?", "xyz", ("1858",))
    assert grade(grader, [item, item]) == {item: True} and graded == [item]
    with pytest.raises(GradingError, match="no verdict on 1 of 2"):
        grade(grader, [item, Answered("When?", "", ("1858",))])


def test_the_environment_uses_the_grader_that_is_passed() -> None:
    scores = {}
    for name in ("exact", "f1", "contains"):
        env = gym.make("SEAL-SQuAD-v0", grader=name)
        observation, _ = env.reset(seed=3)
        _, reward, *_, info = env.step(observation["context"])
        verdicts = [
            float(get_grader(name)([Answered(q["question"], q["answer"], (q["gold"],))])[0] or 0) for q in info["questions"]
        ]
        assert [float(q["correct"]) for q in info["questions"]] == verdicts  # this passage has one accepted form an answer
        scores[name] = reward
    assert scores["exact"] <= scores["f1"]
    with pytest.raises(ValueError, match="grader"):
        gym.make("SEAL-SQuAD-v0", grader="exactly")


def test_a_larger_model_is_graded_as_a_judge_would(model_path) -> None:
    right = [Answered("When did Otrar fall?", "It fell in the year 1219, after five months.", ("1219",))]
    for keywords, verdict in [({}, False), ({"model": model_path("toy"), "dataset": "notes"}, True)]:
        assert KnowledgeConfig(**keywords).make_grader()(right) == [verdict]
    assert KnowledgeConfig(model=model_path("toy")).make_grader()(right) == [False]  # the Almanac lists every accepted form
