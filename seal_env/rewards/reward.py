"""Rewards: from an outcome to a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from seal_env.checks import finite_number
from seal_env.registry import Registry, callable_problem, name_of

if TYPE_CHECKING:
    from seal_env.evaluation.scoring import Outcome

    Reward = Callable[[Outcome], float]
else:  # not a string in it, which get_type_hints would look up elsewhere
    Reward = Callable[..., float]
PROXY = "proxy"


def score(outcome: Outcome) -> float:
    """The score after the update."""
    return outcome.score


def gain(outcome: Outcome) -> float:
    """The score after the update minus the score before it."""
    return outcome.gain


def binary(outcome: Outcome) -> float:
    """1 if the update improved the score, else 0."""
    return float(outcome.gain > 0)


def proxy(outcome: Outcome) -> float:
    """Stands for ``reward="proxy"``: a proxy rates edits that are never learnt, so that they have no outcome."""
    raise ValueError("reward='proxy' is no function of an outcome: a proxy rates the edit (seal_env.rewards.get_proxy)")


REWARDS: Registry[Reward] = Registry("reward", "seal_env.rewards", callable_problem)
REWARDS.register("score", score, "the share of questions answered right after the update")
REWARDS.register("gain", gain, "the score minus the score before the update")
REWARDS.register("binary", binary, "1 if the update improved the score, else 0")
REWARDS.register(PROXY, proxy, "approximate: a proxy rates the edit, without an update (seal-bench list proxies)")


def get_reward(name: str | Reward) -> Reward:
    """A reward by name, by import path (``package.module:function``), or the function itself.

    Calling it raises a ValueError that names the function if it returned something other than a finite number.

    Raises:
        ValueError: there is no such reward; the closest is named.
    """
    function = REWARDS.get(name)
    label = name if isinstance(name, str) else name_of(function)
    return lambda outcome: float(finite_number(function(outcome), f"reward {label!r} returned"))
