"""SEAL as a Gymnasium environment: :class:`SealEnv`, and :class:`SealVectorEnv` with many sub-environments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from seal_env.domains import DOMAINS, EnvConfig, from_keywords
from seal_env.domains.keywords import keywords_text
from seal_env.domains.render import show
from seal_env.envs.engine import Engine, EpisodeState
from seal_env.envs.spaces import FreeText
from seal_env.tasks import Task

MAX_EDIT = 1 << 21  # characters; the domain cuts edits that are longer than its `max_characters`
MAX_TEXT = 1 << 23


class _EngineMixin:
    """What both environments offer by their :class:`~seal_env.envs.engine.Engine`."""

    config: EnvConfig
    metadata: dict[str, Any]
    _engine: Engine | None

    def _make_engine(self, num_envs: int, render_mode: str | None, keywords: Mapping[str, Any]) -> Engine:
        config = from_keywords(keywords)
        modes = list(DOMAINS.get(config.domain).render_modes)
        if render_mode is not None and render_mode not in modes:
            choices = f"{', '.join(modes)} or None in domain {config.domain!r}"
            raise ValueError(f"render_mode must be one of {choices}, got {render_mode!r}")
        self.metadata, self.render_mode = {**self.metadata, "render_modes": modes}, render_mode
        engine = Engine(config, num_envs)
        self.config = engine.config
        return engine

    @property
    def engine(self) -> Engine:
        """Student, tasks and scorer.

        Raises:
            ClosedEnvironmentError: the environment is closed.
        """
        if self._engine is None:
            raise gym.error.ClosedEnvironmentError("the environment is closed: make a new one")
        return self._engine

    @property
    def task_count(self) -> int:
        """Number of tasks that episodes draw from; task indices are in ``range(task_count)``."""
        return self.engine.task_count

    def draw_tasks(self, rng: np.random.Generator, count: int) -> list[int]:
        """Indices of ``count`` tasks, drawn by ``rng``: all different if there are enough."""
        return self.engine.draw_tasks(rng, count)

    def load_student(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the student's base weights by a state dict (SEAL: the policy becomes the student after each round)."""
        self.engine.load_student(weights)

    def score_on(self, executor: Executor) -> None:
        """Run updates on the workers of ``executor`` from now on, with the same outcomes.

        Each worker holds a student. You shut the executor down.

        Raises:
            ValueError: its workers are forked: a forked process has torch's locks but not its threads.
        """
        self.engine.score_on(executor)


class SealEnv(_EngineMixin, gym.Env[dict[str, Any], str]):
    """A language model adapts itself to a task by a self-edit and is then evaluated on the task's questions.

    ## Description
    An observation holds the context of a task, such as a passage. The action is a self-edit: text to learn from. The *student*,
    a frozen language model, is fine-tuned on the edit with a fresh LoRA adapter (the *inner loop*) and then answers questions
    about the passage without seeing it. The reward is how well it does (SEAL, arXiv 2506.10943, section 3).

    What a task and an edit are depends on the domain, the keyword ``domain``: passages and text (``knowledge``), grids and a
    choice of tools (``arc``, docs/arc.md), or a :class:`seal_env.domains.Domain` that another package defines.

    ## Action Space
    ``FreeText``: any Unicode string. An edit that cannot be used (empty, not text, too long) raises no error:
    ``info["status"]`` names the problem, and an edit without any usable part leaves the student unchanged.

    ## Observation Space
    ``Dict`` of

    - ``context``: the context of the task;
    - ``instruction``: the prompt that asks the policy for an edit;
    - ``adapter``: the adapter's parameters ``(adapter_size,)`` in float32, zeros before the first update. With
      ``adapter_observation="summary"`` it is the norms of each layer's A and B, with ``"none"`` it is left out.

    ## Rewards
    - ``score``: the share of questions answered correctly after the update (default);
    - ``gain``: the score minus the score before the update (default with ``mode="refine"``);
    - ``binary``: 1 if the gain is positive, else 0;
    - ``package.module:function`` of an :class:`~seal_env.evaluation.scoring.Outcome`;
    - ``proxy``: a rating of the edit itself, without an update (:mod:`seal_env.rewards`). It is fast and approximate, which
      ``info["approximate"]`` marks, and needs ``mode="single"`` and a domain with a proxy.

    ``evaluations_per_edit`` repeats the update with other seeds and averages the rewards.

    Documents without questions get questions that the base model writes and answers consistently
    (:mod:`seal_env.domains.self_questions`). Nobody has checked their answers, which ``info["label_free"]`` marks.

    ## Starting State
    ``reset`` draws a task with the environment's random generator, or takes ``options={"task": i}``; episodes of several tasks
    take ``options={"tasks": [i, ...]}``. Documents for which the base model found no question are not drawn, and raise an error
    where they are requested by index.

    ## Episode End
    An episode ends after ``updates_per_episode`` edits. ``mode`` is

    - ``single``: one task and one edit;
    - ``refine``: several edits for one task, each update continuing from the last adapter;
    - ``continual``: one task a step. The adapter is carried over (``carry="merge"``: merged into the base), and the questions
      of all earlier tasks are asked again. ``info["accuracy_row"]`` holds the accuracy on each task so far, and
      ``retention_weight`` adds the mean change on earlier tasks to the reward;
    - ``corpus``: one task a step, and one joint update on all edits at the end.

    ## Info
    - ``title``, ``task_id``: of the task;
    - ``label_free``: whether a model wrote any of the episode's questions;
    - ``status``, ``problem``: of the edit;
    - ``fit_status``, ``sequences``, ``steps``, ``tokens``: of the update;
    - ``score_before``, ``score``, ``gain``; ``scores`` and ``seeds`` of each evaluation;
    - ``questions``: for each ``question``, ``gold``, ``answer_before``, ``answer``, ``correct_before``, ``correct``;
    - ``ungraded``: the number of questions, over all evaluations, that the scores leave out because the grader gave no verdict
      on an answer. Where none is left, the scores and the gain are 0.

    With a proxy the info holds ``title``, ``task_id``, ``label_free``, ``status``, ``sequences``, ``approximate`` and the
    proxy's own numbers, whose names ``components`` lists.

    ## Arguments
    ``render_mode`` (``ansi``, ``human`` or, in domains on grids, ``rgb_array``) and the keywords below.
    {keywords}
    ## Version History
    - v0: first version.
    """

    metadata = {"render_modes": ["ansi", "human", "rgb_array"], "render_fps": 1}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **keywords: Any) -> None:
        self._engine = self._make_engine(1, render_mode, keywords)
        self.observation_space, self.action_space = _spaces(self._engine)
        self._action: object = ""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        state = self.engine.states[0]
        info = self.engine.reset(state, seed, _task_indices(options or {}))
        self._np_random, self._np_random_seed = state.rng, -1 if seed is None else seed
        return self.engine.observation(state), info

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        state = self.engine.states[0]
        if not state.tasks or state.step >= self.config.updates:
            raise gym.error.ResetNeeded("the episode is over, or never began: call reset()")
        ((reward, terminated, info),) = self.engine.step([action])
        if self.render_mode == "human":
            show([_text(self.engine, state, action, brief=True)])
        self._action = action
        return self.engine.observation(state), reward, terminated, False, info

    def render(self) -> str | NDArray[np.uint8] | None:
        state = self.engine.states[0]
        _check_begun([state])
        if self.render_mode == "rgb_array":
            return _image(self.engine, state)
        return _text(self.engine, state, self._action) if self.render_mode == "ansi" else None

    def close(self) -> None:
        self._engine = None


if SealEnv.__doc__ is not None:  # None under python -OO
    SealEnv.__doc__ = SealEnv.__doc__.replace("{keywords}", keywords_text())


class SealVectorEnv(_EngineMixin, VectorEnv[dict[str, Any], Sequence[str], NDArray[Any]]):
    """A vector of :class:`SealEnv` that share one student and are updated and evaluated together.

    The autoreset mode is ``SAME_STEP``. Sub-environment ``i`` after ``reset(seed=s)`` equals :class:`SealEnv` after
    ``reset(seed=s + i)``, step for step.

    Args:
        num_envs: number of sub-environments.
        render_mode: as for :class:`SealEnv`; ``render`` returns a tuple with an entry for each sub-environment.
        keywords: as for :class:`SealEnv`.

    ``reset`` takes ``options`` with ``reset_mask`` (booleans: which sub-environments to reset), ``task`` (an index for each
    sub-environment) or ``tasks`` (a list of indices for each).
    """

    metadata = {"render_modes": ["ansi", "human", "rgb_array"], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, render_mode: str | None = None, **keywords: Any) -> None:
        if not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs must be an integer >= 1, got {num_envs!r}")
        self.num_envs = num_envs
        self._engine = self._make_engine(num_envs, render_mode, keywords)
        self.single_observation_space, self.single_action_space = _spaces(self._engine)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._actions: list[Any] = [""] * num_envs

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        chosen = np.ones(self.num_envs, bool) if mask is None else np.asarray(mask, bool)
        if chosen.shape != (self.num_envs,) or not chosen.any():
            raise ValueError(f"reset_mask must be {self.num_envs} booleans, at least one of them True, got {mask!r}")
        if isinstance(seed, (int, np.integer)):
            seeds: list[int | None] = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed or [None] * self.num_envs)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed must be an integer or {self.num_envs} of them, got {seed!r}")
        tasks = _task_indices_of_all(options, self.num_envs)
        infos: dict[str, Any] = {}
        for i in np.flatnonzero(chosen).tolist():
            infos = self._add_info(infos, self.engine.reset(self.engine.states[i], seeds[i], tasks[i]), i)
        return self._observations(), infos

    def step(self, actions: Sequence[str]) -> tuple[dict[str, Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        if not isinstance(actions, (list, tuple, np.ndarray)) or len(actions) != self.num_envs:
            given = f"{len(actions)}" if isinstance(actions, (list, tuple)) else f"a {type(actions).__name__}"
            raise ValueError(f"step takes a list of {self.num_envs} self-edits, one per sub-environment, got {given}")
        if not all(state.tasks for state in self.engine.states):
            raise gym.error.ResetNeeded("call reset() before step()")
        self._actions = list(actions)
        results = self.engine.step(self._actions)
        if self.render_mode == "human":
            show(self._texts(brief=True), self.num_envs)
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        infos: dict[str, Any] = {}
        for i, (state, (reward, ended, info)) in enumerate(zip(self.engine.states, results)):
            rewards[i], terminated[i] = reward, ended
            if ended:
                infos = self._add_info(infos, {"final_obs": self.engine.observation(state), "final_info": info}, i)
                last_info, info = state.last_info, self.engine.reset(state)
                state.last_info = last_info
            infos = self._add_info(infos, info, i)
        return self._observations(), rewards, terminated, np.zeros(self.num_envs, bool), infos

    def render(self) -> tuple[str, ...] | tuple[NDArray[np.uint8], ...] | None:
        _check_begun(self.engine.states)
        if self.render_mode == "rgb_array":
            return tuple(_image(self.engine, state) for state in self.engine.states)
        return tuple(self._texts()) if self.render_mode == "ansi" else None

    def _texts(self, brief: bool = False) -> Iterator[str]:
        for state, action in zip(self.engine.states, self._actions):
            yield _text(self.engine, state, action, brief)

    def _observations(self) -> dict[str, Any]:
        observations = [self.engine.observation(state) for state in self.engine.states]
        columns = {name: tuple(observation[name] for observation in observations) for name in sorted(observations[0])}
        return {name: np.stack(column) if name == "adapter" else column for name, column in columns.items()}

    def close_extras(self, **_: Any) -> None:
        self._engine = None


def _spaces(engine: Engine) -> tuple[Dict, Space[str]]:
    parts: dict[str, Space[Any]] = {"context": FreeText(MAX_TEXT), "instruction": FreeText(MAX_TEXT)}
    if engine.adapter_observation != "none":
        parts["adapter"] = Box(-np.inf, np.inf, engine.adapter_shape, np.float32)
    return Dict(parts), FreeText(MAX_EDIT)


def _text(engine: Engine, state: EpisodeState, action: object, brief: bool = False) -> str:
    """The last step; before the first one, the task."""
    return engine.domain.render(_rendered_task(state), state.last_info, action, brief)


def _image(engine: Engine, state: EpisodeState) -> NDArray[np.uint8]:
    return engine.domain.image(_rendered_task(state), state.last_info)


def _rendered_task(state: EpisodeState) -> Task:
    return state.last_task if state.last_info is not None and state.last_task is not None else state.task


def _check_begun(states: Sequence[EpisodeState]) -> None:
    if not all(state.tasks for state in states):
        raise gym.error.ResetNeeded("there is nothing to render yet: call reset()")


def _task_indices(options: Mapping[str, Any]) -> list[int] | None:
    """The task indices in the reset ``options`` of one sub-environment."""
    for name in options:
        if name not in ("task", "tasks"):
            raise ValueError(f"reset options: no option {name!r}; there are task and tasks (and reset_mask, of a vector env)")
    if not options:
        return None
    name, indices = ("task", [options["task"]]) if "task" in options else ("tasks", options["tasks"])
    if isinstance(indices, (str, bytes)) or not all(isinstance(i, (int, np.integer)) for i in _entries(indices)):
        raise ValueError(f"reset option {name!r} takes indices of tasks, integers from 0, got {indices!r:.80}")
    return [int(i) for i in indices]


def _task_indices_of_all(options: Mapping[str, Any], num_envs: int) -> list[list[int] | None]:
    for name, value in options.items():
        if name in ("task", "tasks") and len(_entries(value)) != num_envs:
            raise ValueError(f"reset option {name!r} takes one entry per sub-environment, {num_envs} in all, got {value!r:.80}")
    return [_task_indices({name: value[i] for name, value in options.items()}) for i in range(num_envs)]


def _entries(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Iterable) else [None]
