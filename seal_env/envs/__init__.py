"""The environments, their spaces and their configuration."""

from seal_env.envs.config import EnvConfig
from seal_env.envs.env import SealEnv, SealVectorEnv
from seal_env.envs.spaces import FreeText
from seal_env.envs.tokens import TokenIds, VectorTokenIds
from seal_env.envs.tools import ToolChoices, VectorToolChoices

__all__ = [
    "EnvConfig",
    "FreeText",
    "SealEnv",
    "SealVectorEnv",
    "TokenIds",
    "ToolChoices",
    "VectorTokenIds",
    "VectorToolChoices",
]
