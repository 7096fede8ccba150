"""Grading by text: what SQuAD's official script says, this says."""

import pytest

from seal_env.grading import exact, f1, normalize


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


def test_nothing_against_nothing_is_right_and_nothing_against_something_is_wrong() -> None:
    assert f1("the", ("a",)) == 1.0
    assert f1("", ("Denver",)) == 0.0
    assert not exact("", ("Denver",))


def test_a_string_or_nothing_in_place_of_answers_is_refused() -> None:
    with pytest.raises(TypeError, match="'Denver'"):
        exact("Denver", "Denver")
    with pytest.raises(ValueError, match="at least one"):
        f1("Denver", ())
