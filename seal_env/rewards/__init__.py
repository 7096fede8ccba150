"""What is this self-edit likely to be worth? A guess in place of the reward: nothing is learnt and nothing is asked."""

from seal_env.rewards.proxy import PROXIES, Proxy, Rating, Written, get_proxy, rate, written

__all__ = ["PROXIES", "Proxy", "Rating", "Written", "get_proxy", "rate", "written"]
