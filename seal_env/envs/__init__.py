"""The environments, their wrappers and spaces."""

from seal_env.domains import EnvConfig
from seal_env.envs.env import SealEnv, SealVectorEnv
from seal_env.envs.spaces import FreeText
from seal_env.envs.token_ids import TokenIds, VectorTokenIds
from seal_env.envs.tool_choices import ToolChoices, VectorToolChoices

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
