"""Functions that a user passes by name: whatever they return is a number in range, or an error that names them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents import Policy, get_agent
from benchmarks.cli import main
from seal_env.domains.knowledge import KnowledgeConfig
from seal_env.evaluation.graders import Answered, GradingError, by_text, get_grader, grade
from seal_env.evaluation.scoring import Outcome
from seal_env.rewards import EditText, Rating, get_proxy, rate
from seal_env.student import FitReport, FitStatus
from tests.toy import LORA, SMALL

returned: Any = None  # what the functions below return


def grader(answered: Sequence[Answered]) -> Any:
    return [returned for _ in answered]


def whole_grader(answered: Sequence[Answered]) -> Any:
    return returned


def reward(outcome: Outcome) -> Any:
    return returned


def proxy(edits: Sequence[EditText]) -> Any:
    return [returned for _ in edits]


@pytest.fixture
def returns(monkeypatch: pytest.MonkeyPatch):
    """``returns(value)``: from now on that is what every function above returns."""
    return lambda value: monkeypatch.setattr(f"{__name__}.returned", value)


ITEM = Answered("When did Otrar fall?", "in 1219", ("1219",))
NAMED = f"'{__name__}:"
NO_NUMBER = [
    float("nan"),
    np.float32("nan"),
    float("inf"),
    -math.inf,
    np.float64("-inf"),
    torch.tensor(float("nan")),
    Decimal("NaN"),
    Decimal("sNaN"),
    10**400,
    1j,
    np.complex64(1),
    "1",
    "yes",
    np.str_("1"),
    b"1",
    [1.0],
    (True,),
    np.array([1.0]),
    torch.ones(1),
    {},
    np.ma.masked,
    np.datetime64("2020-01-01"),
    object,
]


def text(value: Any) -> str:
    """What an error shows of a value."""
    return " ".join(repr(value).split())[:80]


# Verdicts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Warning. converting a masked element to nan")
@pytest.mark.parametrize("value", [*NO_NUMBER, 1.5, -0.1, 2, -1, np.int8(2), np.nextafter(1, 2), torch.tensor(1.5)], ids=repr)
def test_a_verdict_out_of_range_names_grader_and_value(returns, value: Any) -> None:
    returns(value)
    with pytest.raises(ValueError) as caught:
        grade(get_grader(f"{__name__}:grader"), [ITEM])
    message = str(caught.value)
    assert message.startswith(f"grader {NAMED}grader' returned {text(value)}; ") and "\n" not in message
    assert "a number from 0 to 1, or None" in message and "'in 1219' to 'When did Otrar fall?'" in message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (np.bool_(False), False),
        (np.array(True), True),
        (torch.tensor(False), False),
        (0.25, 0.25),
        (1, 1.0),
        (np.float32(0.5), 0.5),
        (np.int64(0), 0.0),
        (np.array(0.75), 0.75),
        (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        (Fraction(1, 4), 0.25),
        (Decimal("0.5"), 0.5),
        (-0.0, 0.0),
    ],
    ids=repr,
)
def test_a_verdict_is_a_python_bool_or_float(returns, value: Any, expected: bool | float) -> None:
    returns(value)
    verdict = grade(get_grader(f"{__name__}:grader"), [ITEM])[ITEM]
    assert verdict == expected and type(verdict) is type(expected)


def test_none_still_says_that_there_is_no_verdict(returns) -> None:
    returns(None)
    with pytest.raises(GradingError, match="no verdict on 1 of 1 answers"):
        grade(get_grader(f"{__name__}:grader"), [ITEM])


@pytest.mark.parametrize(
    "value",
    [
        *([True], [True, False, True], [], None, True, 0.5, "ny", b"ny", {0: True, 1: False}, {True, False}),
        *(iter([True, True]), np.array(1.0), np.float64(1), torch.tensor(1.0)),
    ],
    ids=lambda value: " ".join(repr(value).split()).partition(" object at ")[0],  # every process must name it alike
)
def test_anything_but_a_verdict_for_each_answer_is_named(returns, value: Any) -> None:
    returns(value)
    with pytest.raises(ValueError) as caught:
        grade(get_grader(f"{__name__}:whole_grader"), [ITEM, Answered("Who?", "Edda", ("Edda",))])
    message = str(caught.value)
    assert message.startswith(f"grader {NAMED}whole_grader' returned {text(value)} for 2 answers; it must return a list")
    assert "\n" not in message


@pytest.mark.parametrize("value", [np.array([True, False]), torch.tensor([1.0, 0.0]), (True, 0.0), np.array([1, None])])
def test_an_array_of_verdicts_is_a_list_of_them(returns, value: Any) -> None:
    returns(value)
    items = [ITEM, Answered("Who?", "Edda", ("Edda",))]
    if isinstance(value, np.ndarray) and value.dtype == object:
        with pytest.raises(GradingError, match="1 of 2"):
            grade(get_grader(f"{__name__}:whole_grader"), items)
    else:
        assert list(grade(get_grader(f"{__name__}:whole_grader"), items).values()) == [True, False]


def half_wrong(prediction: str, answers: Sequence[str]) -> float:
    return -0.5


def test_a_function_that_was_passed_itself_is_named_by_where_it_is_defined() -> None:
    with pytest.raises(ValueError, match=f"grader {NAMED}half_wrong' returned -0.5"):
        grade(by_text(half_wrong), [ITEM])


# Rewards ----------------------------------------------------------------------------------------------------------------


def step(**keywords: Any) -> Any:
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=2, **SMALL, **keywords)
    env.reset(seed=0)
    return env.step(["An edit.", ""])[1]


@pytest.mark.filterwarnings("ignore:Warning. converting a masked element to nan")
@pytest.mark.parametrize("value", [None, *NO_NUMBER], ids=repr)
def test_a_reward_that_is_no_finite_number_names_function_and_value(returns, value: Any) -> None:
    returns(value)
    with pytest.raises(ValueError) as caught:
        KnowledgeConfig(reward=f"{__name__}:reward").reward_function()(Outcome((), FitReport(FitStatus.NOTHING_TO_TRAIN), None))
    assert str(caught.value) == f"reward {NAMED}reward' returned {text(value)}; it must be a finite number"


def test_any_finite_number_is_a_reward(returns) -> None:
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=2, reward=f"{__name__}:reward", **SMALL)
    env.reset(seed=0)
    for value, expected in [(-3, -3), (np.float32(1.5), 1.5), (np.bool_(True), 1), (torch.tensor(-1e9), -1e9), (True, 1)]:
        returns(value)
        assert list(env.step(["An edit.", ""])[1]) == [expected] * 2


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_what_is_made_of_finite_rewards_is_finite_too(returns) -> None:
    returns(1.7e308)
    with pytest.raises(ValueError, match="mean reward over evaluations, with the retention term, is inf"):
        step(reward=f"{__name__}:reward", evaluations_per_edit=2)
    with pytest.raises(ValueError, match="retention_weight is nan; it must be a finite number"):
        gym.make("SEAL-SQuAD-Continual-v0", retention_weight=math.nan)


def test_a_verdict_that_is_none_of_a_step_is_an_error_of_the_step(returns) -> None:
    returns(math.nan)
    with pytest.raises(ValueError, match=f"grader {NAMED}grader' returned nan"):
        step(grader=f"{__name__}:grader")


@pytest.mark.parametrize("name", ["grpo", "rest_em", "ppo"])
def test_no_agent_learns_from_nan(returns, model_path, name: str) -> None:
    returns(math.nan)
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=4, model=model_path("toy"), reward=f"{__name__}:reward", **SMALL)
    policy = Policy.from_pretrained(model_path("toy"), LORA, max_new_tokens=4)
    before = {key: value.clone() for key, value in policy.merged_weights().items()}
    with pytest.raises(ValueError, match=f"reward {NAMED}reward' returned nan"):
        get_agent(name)(env, policy, seed=0).learn(8)
    assert all(torch.equal(value, before[key]) for key, value in policy.merged_weights().items())


@pytest.mark.parametrize("option", ["reward", "grader"])
def test_the_command_ends_with_one_line(returns, capsys, option: str) -> None:
    returns(math.nan)
    keywords = ["lora.r=2", "lora.lora_alpha=4", "inner_loop.epochs=1", "max_new_tokens=2", f"{option}={__name__}:{option}"]
    arguments = ["eval", "--env", "SEAL-SQuAD-v0", "--agent", "passage_only", "--tasks", "2"]
    assert main([*arguments, *(part for keyword in keywords for part in ("-P", keyword))]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"seal-bench: {option} {NAMED}{option}' returned nan; ")


# Proxies ----------------------------------------------------------------------------------------------------------------

EDIT = EditText("Otrar", "Otrar fell in 1219.", ("It fell in 1219.",))


@pytest.mark.filterwarnings("ignore:Warning. converting a masked element to nan")
@pytest.mark.parametrize("value", [None, *NO_NUMBER], ids=repr)
def test_a_rating_of_anything_but_finite_numbers_names_the_proxy(returns, value: Any) -> None:
    for rating, named in ((Rating(value), "reward is"), (Rating(0.5, {"length": value}), "component 'length' is")):
        returns(rating)
        with pytest.raises(ValueError) as caught:
            rate(get_proxy(f"{__name__}:proxy"), [EDIT])
        message = f"proxy {NAMED}proxy' returned a Rating whose {named} {text(value)}; it must be a finite number"
        assert str(caught.value) == message


@pytest.mark.parametrize("value", [0.5, (0.5, {}), "good", {"reward": 1}], ids=repr)
def test_what_is_no_rating_is_named(returns, value: Any) -> None:
    returns(value)
    with pytest.raises(
        ValueError, match=f"proxy {NAMED}proxy' returned .* returns one seal_env.rewards.Rating per edit, or None"
    ):
        rate(get_proxy(f"{__name__}:proxy"), [EDIT])


@pytest.mark.parametrize("components", [None, [1.0], {1: 1.0}], ids=repr)
def test_components_without_names_are_named(returns, components: Any) -> None:
    returns(Rating(0.5, components))
    with pytest.raises(ValueError, match=r"a Rating whose components are .* they must be numbers by name"):
        rate(get_proxy(f"{__name__}:proxy"), [EDIT])


def test_a_rating_holds_python_numbers(returns) -> None:
    returns(Rating(np.float32(0.5), {"length": np.int64(3), "share": torch.tensor(0.25)}))
    rating = rate(get_proxy(f"{__name__}:proxy"), [EDIT])[EDIT]
    assert rating == Rating(0.5, {"length": 3, "share": 0.25})
    assert [type(value) for value in (rating.reward, *rating.components.values())] == [float, int, float]
