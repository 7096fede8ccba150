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

from seal_env.domains.config import EnvConfig, from_keywords
from seal_env.domains.render import attempts_of, render_text, show
from seal_env.envs.engine import Engine, EpisodeState
from seal_env.envs.spaces import FreeText
from seal_env.plots import arc_image
from seal_env.tasks.arc import ArcTask

MAX_EDIT = 1 << 21  # characters; longer edits than `max_characters` are cut and say so in their status
MAX_TEXT = 1 << 23


class _EngineMixin:
    """What both environments offer by their :class:`~seal_env.envs.engine.Engine`."""

    _engine: Engine | None

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
    """A language model adapts itself to a passage by a self-edit, and then answers questions without seeing the passage.

    ## Description
    An episode presents a passage. The action is a self-edit: text to learn the passage from. The *student* (a frozen language
    model) is fine-tuned on it with a new LoRA adapter, the *inner loop*, and then answers questions about the passage. The
    reward is how well it does (SEAL, arXiv 2506.10943, section 3).

    ## Action Space
    ``FreeText``: any Unicode string. An edit that cannot be used (empty, no text, too long) is not an error:
    ``info["status"]`` names the problem, and an edit that cannot be trained on leaves the student as it is.

    ## Observation Space
    ``Dict``: ``context``, the passage; ``instruction``, the prompt that asks for an edit in the chosen format; ``adapter``, the
    adapter's parameters ``(adapter_size,)`` in float32, zeros before the first update (``adapter_observation``: ``full``, the
    default below a million parameters; ``summary``, the norms of each layer's A and B; ``none``, left out).

    ## Rewards
    ``reward``: ``score``, the share of questions answered right after the update (default); ``gain``, the score minus the score
    before the update (default in refinement); ``binary``, whether the gain is positive; or ``package.module:function`` of an
    :class:`~seal_env.evaluation.scoring.Outcome`. ``evaluations_per_edit`` repeats the update with other seeds and averages the
    rewards.

    For documents without questions, the base model writes the questions and their answers
    (:mod:`seal_env.domains.self_questions`): a reward without labels, whose answers nobody checked. ``info["label_free"]`` is
    True for them.

    ``reward="proxy"`` rates the edit without an update (:mod:`seal_env.rewards`), which is approximate and about a thousand
    times as fast; ``info["approximate"]`` is True. ``proxy`` is ``coverage`` (default: the share of the passage's names and
    numbers that the edit restates), ``rubric`` (a language model's ratings, as in the paper) or ``package.module:function``,
    with ``proxy_options``. Proxies need ``mode="single"``.

    ## Starting State
    A task drawn from the data set by the environment's generator, or ``reset(options={"task": i})`` (``{"tasks": [i, ...]}``
    for an episode with several passages). Documents that the base model found no question for are not drawn, and raise an error
    if they are chosen by index.

    ## Episode End
    After ``updates_per_episode`` edits. ``mode``: ``single``, one passage and one edit; ``refine``, several edits on one
    passage, each continuing from the last adapter; ``continual``, one passage a step, the adapter carried over
    (``carry="merge"``: merged into the base) and all earlier passages evaluated again, with ``info["accuracy_row"]`` the
    accuracy on each passage so far and ``retention_weight`` times the mean change on earlier passages added to the reward;
    ``corpus``, one passage a step and one joint update on all edits at the end.

    ## Info
    ``title``, ``task_id``, ``label_free`` (whether a model wrote any of the episode's questions), ``status`` of the edit,
    ``fit_status`` of the update, ``score_before``, ``score``, ``gain``, ``scores`` and ``seeds`` of each evaluation,
    ``sequences``, ``steps`` and ``tokens`` of the update, and ``questions``: each with ``gold``, ``answer_before``, ``answer``,
    ``correct_before`` and ``correct``. ``ungraded``: number of questions, over all evaluations, that the scores leave out
    because an answer to them has no verdict and will not get one, such as where a judge's endpoint refuses the prompt; that
    verdict is None in ``questions``. If no question is left, the scores and the gain are 0. With a proxy: ``approximate``,
    ``title``, ``task_id``, ``label_free``, ``status``, ``sequences`` and ``components``, the names of the proxy's scores,
    each of which is an entry of its own.

    ## Arguments
    ``dataset`` (``almanac``, a path, a hub id, a function or tasks in memory, see :func:`seal_env.tasks.load_tasks`),
    ``dataset_options`` (keywords of the dataset), ``split``, ``offset``, ``limit``,
    ``shuffle_seed``, ``passage_words`` (into which documents are cut), ``almanac`` (its knobs), ``self_questions`` (how
    questions about documents without any are written, of :class:`seal_env.domains.self_questions.SelfQuestions`: ``{"count": 5,
    "samples": 4, "agreement": 0.75, "seed": 0}``; they are those of ``model`` as it was loaded, whatever is trained or loaded
    later), ``model`` (``seal-nano``, a folder or a hub id; a PEFT adapter's folder is the adapted model),
    ``device``, ``dtype``, ``trust_remote_code``, ``lora`` (of ``peft.LoraConfig``), ``edit_format``, ``template``,
    ``student_template`` and ``enable_thinking`` (see below), ``inner_loop`` (of :class:`seal_env.edits.EditSettings`),
    ``max_new_tokens`` of an answer, ``grader`` (a name of :data:`seal_env.evaluation.graders.GRADERS` or an import path: was
    this answer right?), ``grader_options``, ``progress`` (a bar of tokens while adapters are trained), ``executor`` and
    ``workers`` (where that is done, with the same outcomes: ``None``, in this process; ``spawn``, on so many processes;
    ``ray``, on Ray, see docs/scale.md), and those above.

    ## Chat templates
    ``template`` is for the policy: whether ``instruction`` is the prompt of a ``base`` model or the user's message to an
    ``instruct`` model, and how its edits are parsed. ``student_template`` is for the student: whether its questions are raw
    text or the user's message in its chat template. Both default to ``auto``: ``instruct`` if the chat template of ``model``
    ends the assistant's turn with an end token of the model, else ``base``. A chat template alone is no evidence: Qwen2.5-7B
    has one. The choice is logged, and ``env.unwrapped.config`` holds it. If the policy is another kind of model than the
    student, choose ``template`` by name, such as ``template="instruct"`` for an instruct model that writes for a base student.

    Students are prompted not to think before they answer (``enable_thinking=False`` in their chat template).
    ``enable_thinking`` is for policies that read token ids (:class:`~seal_env.envs.token_ids.TokenIds`) or that ``seal-bench``
    loads: True, False, or None for the policy's own setting, by default False. Thoughts are removed from edits and answers
    (:func:`seal_env.chat.without_thoughts`).

    ## Few-shot tasks
    ``domain="arc"`` (``SEAL-ARC-v0``): ``context`` holds the demonstrations of an ARC task, the action is a choice of tools and
    settings as JSON (:mod:`seal_env.edits.tools`), and the score is 1 if every test grid was predicted in two attempts, else 0
    (:mod:`seal_env.evaluation.grid_evaluator`). ``dataset`` is ``mini-arc``, ``arc-agi-1``, ``arc-agi-2`` or a path
    (:func:`seal_env.tasks.arc.arc_sources.load_arc`), ``mini_arc`` its settings, ``inner_loop`` takes those of
    :class:`seal_env.edits.ToolSettings`, ``views`` and ``orders`` are those of :class:`seal_env.evaluation.GridEvaluator`, and
    ``grid_text`` is the format of grids (``spaced`` or ``labelled``). ``almanac``, ``self_questions``, ``edit_format``,
    ``grader``, ``proxy`` and ``mode="corpus"`` do not apply. ``ToolChoices`` takes the action as numbers;
    ``render_mode="rgb_array"`` draws the grids.

    ## Version History
    - v0: first version.
    """

    metadata = {"render_modes": ["ansi", "human", "rgb_array"], "render_fps": 1}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **keywords: Any) -> None:
        self.config: EnvConfig = from_keywords(keywords)
        self.metadata = {**self.metadata, "render_modes": _render_modes(self.config, render_mode)}
        self.render_mode = render_mode
        self._engine = Engine(self.config, num_envs=1)
        self.config = self._engine.config
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
            show([_text(state, action, brief=True)])
        self._action = action
        return self.engine.observation(state), reward, terminated, False, info

    def render(self) -> str | NDArray[np.uint8] | None:
        state = self.engine.states[0]
        _check_begun([state])
        if self.render_mode == "rgb_array":
            return _image(state)
        return _text(state, self._action) if self.render_mode == "ansi" else None

    def close(self) -> None:
        self._engine = None


class SealVectorEnv(_EngineMixin, VectorEnv[dict[str, Any], Sequence[str], NDArray[Any]]):
    """A vector of :class:`SealEnv` over one student, whose updates and answers are batched; autoreset is ``SAME_STEP``.

    Sub-environment ``i`` after ``reset(seed=s)`` equals :class:`SealEnv` after ``reset(seed=s + i)``, step for step. ``reset``
    takes ``options`` with ``reset_mask`` (which sub-environments to reset) and ``task`` (an index for each sub-environment) or
    ``tasks`` (a list of indices for each).
    """

    metadata = {"render_modes": ["ansi", "human", "rgb_array"], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, render_mode: str | None = None, **keywords: Any) -> None:
        if not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs must be an integer >= 1, got {num_envs!r}")
        self.config: EnvConfig = from_keywords(keywords)
        self.metadata = {**self.metadata, "render_modes": _render_modes(self.config, render_mode)}
        self.num_envs, self.render_mode = num_envs, render_mode
        self._engine = Engine(self.config, num_envs=num_envs)
        self.config = self._engine.config
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
            return tuple(_image(state) for state in self.engine.states)
        return tuple(self._texts()) if self.render_mode == "ansi" else None

    def _texts(self, brief: bool = False) -> Iterator[str]:
        for state, action in zip(self.engine.states, self._actions):
            yield _text(state, action, brief)

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


def _render_modes(config: EnvConfig, mode: str | None) -> list[str]:
    """What this environment can show; ``mode`` must be one of them."""
    modes = ["ansi", "human", *(["rgb_array"] if config.domain == "arc" else [])]
    if mode == "rgb_array" and mode not in modes:
        raise ValueError("render_mode='rgb_array' draws grids, and a passage has none: use 'ansi' or 'human'")
    if mode is not None and mode not in modes:
        raise ValueError(f"render_mode must be one of {', '.join(modes)} or None, got {mode!r}")
    return modes


def _text(state: EpisodeState, action: object, brief: bool = False) -> str:
    """The last step of a sub-environment as text; before the first, its task."""
    task = state.last_task if state.last_info and isinstance(state.last_task, ArcTask) else state.task
    return render_text(state.last_info, task, action, brief)


def _image(state: EpisodeState) -> NDArray[np.uint8]:
    """The same as a picture, of an ARC task."""
    task = state.last_task if state.last_info else state.task
    assert isinstance(task, ArcTask)
    return arc_image(task, attempts_of(state.last_info))


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
