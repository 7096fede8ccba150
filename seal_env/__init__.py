"""SEAL (Self-Adapting Language Models, arXiv 2506.10943) as a reinforcement-learning environment.

import gymnasium as gym
import seal_env  # registers the ids

env = gym.make("SEAL-SQuAD-v0")

The import takes a fraction of a second: PyTorch and Transformers are loaded with the first environment or student.
"""

from typing import TYPE_CHECKING, Any

from seal_env._version import __version__
from seal_env.registration import register_all
from seal_env.update import Example, TokenExample, Update, UpdateConfig

if TYPE_CHECKING:
    from seal_env.student import Student

register_all()

__all__ = ["Example", "Student", "TokenExample", "Update", "UpdateConfig", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Student":
        from seal_env.student import Student  # imports torch, which takes seconds

        return Student
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
