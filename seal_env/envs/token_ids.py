"""Token-id wrappers, for libraries that take only numbers (Stable-Baselines3, CleanRL): prompts and self-edits as token ids.

env = TokenIds(gym.make("SEAL-SQuAD-v0"), max_observation_tokens=1024, max_action_tokens=512)
observation, info = env.reset(seed=0)  # observation["prompt"] and observation["attention_mask"]: (1024,)
env.step(ids)                          # ids: (512,); the edit ends before the first end-of-text id
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, MultiDiscrete, Space
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from seal_env.checks import check_count
from seal_env.edits import prompt_ids
from seal_env.envs.env import SealEnv, SealVectorEnv
from seal_env.models import model_folder

_MAX_CHARACTERS = 32  # per token of a passage, where it is cut: only runs of blanks have more

Observation = dict[str, NDArray[Any]]


class TokenIds(gym.Wrapper[Any, Any, dict[str, Any], str], RecordConstructorArgs):
    """Presents :class:`~seal_env.envs.env.SealEnv`'s prompt as token ids and takes the self-edit as token ids.

    ## Action Space
    ``MultiDiscrete`` of ``(max_action_tokens,)`` ids below the vocabulary size. The ids before the first end-of-text id are
    decoded, without special tokens, to the edit; an action that begins with it is the empty edit. Arrays of any integer type
    are accepted.

    ## Observation Space
    ``Dict``: ``prompt``, the instruction's ids, ``(max_observation_tokens,)`` int64, padded *on the left* as for generation;
    ``attention_mask``, 1 for tokens and 0 for padding; ``adapter`` as in the wrapped environment. With ``template="instruct"``
    the ids are those of the tokenizer's chat template, up to the beginning of the assistant's turn.

    A prompt that is too long loses the end of its *passage*: instruction, title and cue are kept. ``info["prompt_cut"]`` is the
    number of removed characters (mostly 0).

    Args:
        env: from ``gym.make``.
        max_observation_tokens: length of a prompt.
        max_action_tokens: length of an action.
        tokenizer: folder or hub id of the policy's tokenizer, if that is not the student's.

    Raises:
        TypeError: ``env`` is not a :class:`~seal_env.envs.env.SealEnv`.
        ValueError: an invalid argument; on ``reset`` and ``step``, a prompt that is too long even without its passage, or an
            action of another shape or type or with an id out of range.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        max_observation_tokens: int = 1024,
        max_action_tokens: int = 512,
        tokenizer: str | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self, max_observation_tokens=max_observation_tokens, max_action_tokens=max_action_tokens, tokenizer=tokenizer
        )
        gym.Wrapper.__init__(self, env)
        base = env.unwrapped
        if not isinstance(base, SealEnv):
            raise TypeError(f"TokenIds wraps a SEAL environment from gym.make (of gym.make_vec: VectorTokenIds), got {env!r}")
        self._codec = _TokenCodec(base, env.observation_space, max_observation_tokens, max_action_tokens, tokenizer)
        self.tokenizer: PreTrainedTokenizerBase = self._codec.tokenizer
        self.observation_space, self.action_space = self._codec.observation_space, self._codec.action_space

    def edit(self, action: NDArray[np.integer]) -> str:
        """The self-edit that ``action`` stands for."""
        return self._codec.text(self._codec.check(action, ()))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        encoded, cut = self._codec.observation(observation)
        return encoded, {**info, "prompt_cut": cut}

    def step(self, action: NDArray[np.integer]) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(self.edit(action))
        encoded, cut = self._codec.observation(observation)
        return encoded, reward, terminated, truncated, {**info, "prompt_cut": cut}


class VectorTokenIds(VectorWrapper[Observation, NDArray[np.integer], dict[str, Any], Any, NDArray[Any]]):
    """:class:`TokenIds` over ``gym.make_vec``: prompts ``(num_envs, max_observation_tokens)``, actions
    ``(num_envs, max_action_tokens)``. ``infos["prompt_cut"]`` belongs to the returned prompts, that in ``final_info`` to those
    of ``final_obs``.
    """

    def __init__(
        self,
        env: VectorEnv[dict[str, Any], Any, NDArray[Any]],
        max_observation_tokens: int = 1024,
        max_action_tokens: int = 512,
        tokenizer: str | None = None,
    ) -> None:
        super().__init__(env)
        base = env.unwrapped
        if not isinstance(base, SealVectorEnv):
            raise TypeError(f"VectorTokenIds wraps a SEAL environment from gym.make_vec (of gym.make: TokenIds), got {env!r}")
        self._codec = _TokenCodec(base, env.single_observation_space, max_observation_tokens, max_action_tokens, tokenizer)
        self.tokenizer: PreTrainedTokenizerBase = self._codec.tokenizer
        self.single_observation_space, self.single_action_space = self._codec.observation_space, self._codec.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def edits(self, actions: NDArray[np.integer]) -> list[str]:
        """The self-edits that ``actions: (num_envs, max_action_tokens)`` stand for."""
        return [self._codec.text(ids) for ids in self._codec.check(actions, (self.num_envs,))]

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._encode(observations, infos)

    def step(
        self, actions: NDArray[np.integer]
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        observations, rewards, terminated, truncated, infos = self.env.step(self.edits(actions))
        encoded, infos = self._encode(observations, infos)
        return encoded, rewards, terminated, truncated, infos

    def _encode(self, observations: dict[str, Any], infos: dict[str, Any]) -> tuple[Observation, dict[str, Any]]:
        names = list(observations)
        encoded, cuts = zip(*(self._codec.observation(dict(zip(names, row))) for row in zip(*observations.values())))
        infos = {**infos, "prompt_cut": np.array(cuts), "_prompt_cut": np.ones(self.num_envs, bool)}
        if "final_obs" in infos:
            ended = infos["_final_obs"]
            final, final_cuts = np.full(self.num_envs, None, object), np.zeros(self.num_envs, int)
            for i in np.flatnonzero(ended):
                final[i], final_cuts[i] = self._codec.observation(infos["final_obs"][i])
            infos["final_obs"] = final
            infos["final_info"] = {**infos["final_info"], "prompt_cut": final_cuts, "_prompt_cut": ended.copy()}
        return {name: np.stack([row[name] for row in encoded]) for name in self._codec.observation_space}, infos


class _TokenCodec:
    """Encodes observations as token ids and decodes actions to self-edits; see :class:`TokenIds`."""

    def __init__(
        self, env: SealEnv | SealVectorEnv, space: Space[Any], prompt_length: int, action_length: int, tokenizer: str | None
    ) -> None:
        for name, value in (("max_observation_tokens", prompt_length), ("max_action_tokens", action_length)):
            check_count(name, value)
        if not isinstance(space, Dict) or not {"context", "instruction"} <= set(space):
            raise TypeError(f"token ids encode the texts 'context' and 'instruction', which {space!r} does not have")
        self.prompt_length, self.action_length = prompt_length, action_length
        self.tokenizer = _load(tokenizer, env.config.trust_remote_code) if tokenizer else env.engine.student.tokenizer
        name_in_errors = "the student's tokenizer" if tokenizer is None else f"tokenizer {tokenizer!r}"
        if self.tokenizer.eos_token_id is None:
            raise ValueError(f"{name_in_errors} has no end-of-text token, which ends an edit; choose another with tokenizer=")
        template = env.config.template
        assert template != "auto"  # the environment has resolved it
        self.template, self.enable_thinking = template, bool(env.config.enable_thinking)
        if self.template == "instruct" and not self.tokenizer.chat_template:
            raise ValueError(
                f"{name_in_errors} has no chat template, which template='instruct' needs; choose another with tokenizer="
            )
        pad, end = self.tokenizer.pad_token_id, int(self.tokenizer.eos_token_id)
        self.pad, self.end = end if pad is None else int(pad), end
        self.vocabulary = 1 + max(self.tokenizer.get_vocab().values())
        self.action_space = MultiDiscrete(np.full(action_length, self.vocabulary))
        parts: dict[str, Space[Any]] = {
            "prompt": Box(0, self.vocabulary - 1, (prompt_length,), np.int64),
            "attention_mask": Box(0, 1, (prompt_length,), np.int8),
        }
        self.observation_space = Dict(parts | {name: space[name] for name in space if name == "adapter"})

    def observation(self, observation: dict[str, Any]) -> tuple[Observation, int]:
        """The observation of one environment as arrays, and the number of characters removed from its passage."""
        ids, cut = self._prompt(observation["instruction"], observation["context"])
        prompt, mask = np.full(self.prompt_length, self.pad, np.int64), np.zeros(self.prompt_length, np.int8)
        if ids:
            prompt[-len(ids) :], mask[-len(ids) :] = ids, 1
        encoded: Observation = {"prompt": prompt, "attention_mask": mask}
        return encoded | {name: value for name, value in observation.items() if name == "adapter"}, cut

    def check(self, action: Any, batch: tuple[int, ...]) -> NDArray[np.integer]:
        """``action`` as ids of shape ``(*batch, max_action_tokens)``."""
        shape = (*batch, self.action_length)
        try:
            ids = np.asarray(action)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"an action is an array of {shape} token ids, got {type(action).__name__}: {reason}") from error
        if ids.shape != shape or ids.dtype.kind not in "iu":
            raise ValueError(f"an action is an array of {shape} integer token ids, got {ids.shape} of {ids.dtype}")
        wrong = np.argwhere((ids < 0) | (ids >= self.vocabulary))
        if len(wrong):
            where = tuple(int(i) for i in wrong[0])
            raise ValueError(f"token ids are 0 to {self.vocabulary - 1}, got {ids[where]} at position {where}")
        return ids

    def text(self, ids: NDArray[np.integer]) -> str:
        """The text before the first end-of-text id."""
        ends = np.flatnonzero(ids == self.end)
        return str(self.tokenizer.decode(ids[: ends[0] if len(ends) else None].tolist(), skip_special_tokens=True))

    def _prompt(self, instruction: str, context: str) -> tuple[list[int], int]:
        """Ids of the instruction, at most ``prompt_length``, and the number of characters removed from the passage."""
        ids = self._ids(instruction)
        if len(ids) <= self.prompt_length:
            return ids, 0
        head, _, tail = instruction.rpartition(context) if context else (instruction, "", "")
        lengths = range(min(len(context), _MAX_CHARACTERS * self.prompt_length))
        kept = bisect_right(lengths, self.prompt_length, key=lambda n: len(self._ids(head + context[:n] + tail))) - 1
        if kept < 0:
            needed = len(self._ids(head + tail))
            raise ValueError(
                f"max_observation_tokens={self.prompt_length} cannot hold this prompt, of {len(ids)} tokens,"
                f" {needed} of them without the passage: use at least {needed}"
            )
        return self._ids(head + context[:kept] + tail), len(context) - kept

    def _ids(self, instruction: str) -> list[int]:
        return prompt_ids(self.tokenizer, instruction, self.template, self.enable_thinking)


def _load(name: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    try:
        source = model_folder(name) or Path(name).expanduser()
        return AutoTokenizer.from_pretrained(str(source) if source.is_dir() else name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"tokenizer {name!r} could not be loaded ({reason}); give a folder or a hub id") from error
