"""Rewards: functions of an outcome, and proxies, which rate a self-edit without an update."""

from seal_env.rewards.proxy import PROXIES, EditText, Proxy, Rating, edit_text, get_proxy, rate
from seal_env.rewards.reward import PROXY, REWARDS, Reward, get_reward

__all__ = [
    "PROXIES",
    "PROXY",
    "REWARDS",
    "EditText",
    "Proxy",
    "Rating",
    "Reward",
    "edit_text",
    "get_proxy",
    "get_reward",
    "rate",
]
