"""The Gymnasium ids that benchmarks take: every SEAL environment that is registered, by this package or another."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from seal_env.checks import did_you_mean
from seal_env.envs import SealVectorEnv

ENTRY_POINT = "seal_env.envs:SealVectorEnv"


def env_keywords(env_id: object) -> Mapping[str, Any]:
    """The keywords that a SEAL environment is registered with.

    Args:
        env_id: a registered id, or ``package.module:Id-v0``: the module is imported first, as ``gym.make`` does.

    Raises:
        ValueError: the id is not registered, its module cannot be imported, or it is not an id of a SEAL environment.
    """
    module, _, name = str(env_id).rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise ValueError(f"environment {env_id!r}: cannot import {module!r}: {error}") from error
    spec = gym.registry.get(name)
    if spec is None:
        names = [known for known, other in gym.registry.items() if other.vector_entry_point == ENTRY_POINT]
        raise ValueError(
            f"no environment {env_id!r}.{did_you_mean(name, names)} There are: {', '.join(names)};"
            " or give 'package.module:Id-v0', which imports the module that registers it"
        )
    if not _is_seal(spec):
        raise ValueError(f"{env_id!r} is not a SEAL environment: its vector_entry_point must be {ENTRY_POINT!r} or a subclass")
    return spec.kwargs


def _is_seal(spec: EnvSpec) -> bool:
    entry_point: Any = spec.vector_entry_point
    if isinstance(entry_point, str):
        try:
            entry_point = load_env_creator(entry_point)
        except (ImportError, AttributeError, ValueError):  # Gymnasium registers ids whose optional packages are missing
            return False
    return isinstance(entry_point, type) and issubclass(entry_point, SealVectorEnv)
