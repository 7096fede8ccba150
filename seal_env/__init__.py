"""SEAL (Self-Adapting Language Models, arXiv 2506.10943) as a reinforcement-learning environment.

import gymnasium as gym
import seal_env  # registers the ids

env = gym.make("SEAL-SQuAD-v0")
"""

from seal_env._version import __version__
from seal_env.registration import register_all
from seal_env.student import Student
from seal_env.update import Example, TokenExample, Update, UpdateConfig

register_all()

__all__ = ["Example", "Student", "TokenExample", "Update", "UpdateConfig", "__version__"]
