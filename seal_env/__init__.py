"""SEAL (Self-Adapting Language Models, arXiv 2506.10943) as a reinforcement-learning environment."""

from seal_env._version import __version__
from seal_env.plan import Example, TokenExample, UpdatePlan
from seal_env.student import Student

__all__ = ["Example", "Student", "TokenExample", "UpdatePlan", "__version__"]
