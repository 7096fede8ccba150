"""SEAL on knowledge tasks as a Gymnasium environment: one place (:class:`SealEnv`) or many (:class:`SealVectorEnv`)."""

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


class _HasEngine:
    """The student, the tasks and the scorer behind an environment, until it is closed."""

    _engine: Engine | None

    @property
    def engine(self) -> Engine:
        """The student, the tasks and the scorer behind the environment."""
        if self._engine is None:
            raise gym.error.ClosedEnvironmentError("the environment is closed: make a new one")
        return self._engine

    @property
    def task_count(self) -> int:
        """How many tasks episodes are drawn from: an index is in ``range(task_count)``."""
        return self.engine.task_count

    def draw_tasks(self, rng: np.random.Generator, count: int) -> list[int]:
        """Indices of ``count`` tasks, drawn by ``rng``: all different where there are as many."""
        return self.engine.draw_tasks(rng, count)

    def load_student(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the student's base weights (SEAL: the policy is the student, updated after each round)."""
        self.engine.load_student(weights)

    def score_on(self, executor: Executor) -> None:
        """Have edits learnt and questions answered on ``executor`` from now on, with the same outcomes.

        Its workers each hold a student of their own. It remains yours to shut down.

        Raises:
            ValueError: it forks: a forked process has torch's locks but not its threads.
        """
        self.engine.score_on(executor)


class SealEnv(_HasEngine, gym.Env[dict[str, Any], str]):
    """A language model adapts itself to a passage by a self-edit, and is asked about the passage without seeing it.

    ## Description
    An episode shows a passage. The action is a self-edit: text that the passage's reader should learn from. The *student* (a
    frozen language model) is fine-tuned on it with a fresh LoRA adapter, the *inner loop*, and then asked questions about the
    passage. The reward is how well it does (SEAL, arXiv 2506.10943, section 3).

    ## Action Space
    ``FreeText``: any Unicode string. An edit that cannot be used (empty, no text, too long) is not an error: ``info["status"]``
    says what was wrong, and what cannot be trained on leaves the student as it was.

    ## Observation Space
    ``Dict``: ``context``, the passage; ``instruction``, the prompt that asks for an edit in the chosen format; ``adapter``, the
    adapter's parameters ``(adapter_size,)`` in float32, zeros before the first update (``adapter_observation``: ``full``, by
    default while they are under a million; ``summary``: the norms of each layer's A and B; ``none``: left out).

    ## Rewards
    ``reward``: ``score``, the share of questions answered right after the update (default); ``gain``, that minus the share
    before it (default in refinement); ``binary``, whether there was a gain; or ``package.module:function`` of an
    :class:`~seal_env.evaluation.scoring.Outcome`. ``evaluations_per_edit`` repeats the update with other seeds and takes the
    mean.

    Documents without questions are asked about what the base model asks and answers itself
    (:mod:`seal_env.domains.self_questions`): a reward without labels, whose right answers nobody checked.
    ``info["label_free"]`` marks it.

    ``reward="proxy"`` rates the edit instead (:mod:`seal_env.rewards`): nothing is learnt and nothing is asked, which is a
    thousand times as fast and approximate; ``info["approximate"]`` marks it. ``proxy`` is ``coverage`` (default: the share of
    the passage's names and numbers that the edit says anew), ``rubric`` (a language model's marks, as in the paper) or
    ``package.module:function``, with ``proxy_options``; they matter to no other reward. In ``mode="single"`` alone.

    ## Starting State
    A task drawn from the data set by the environment's generator, or ``reset(options={"task": i})`` (``{"tasks": [i, ...]}``
    where an episode has several passages). A document that the base model found no question for is passed over when tasks are
    drawn, and refused when it is asked for by index.

    ## Episode End
    After ``updates_per_episode`` edits. ``mode``: ``single``, one passage and one edit; ``refine``, several edits on one
    passage, the adapter going on; ``continual``, a passage a step, the adapter carried over (``carry="merge"``: merged into
    the base), all earlier passages asked again, with ``info["accuracy_row"]`` the accuracy on each so far and
    ``retention_weight`` adding the mean change on them to the reward; ``corpus``, a passage a step and one joint update on all
    edits at the end.

    ## Info
    ``title``, ``task_id``, ``label_free`` (whether a model wrote any of the episode's questions), ``status`` of the edit,
    ``fit_status`` of the update, ``score_before``, ``score``, ``gain``, ``scores`` and ``seeds`` of each evaluation,
    ``sequences``, ``steps`` and ``tokens`` of the update, and ``questions``: each with ``gold``, ``answer_before``, ``answer``,
    ``correct_before`` and ``correct``. ``ungraded``: how many questions all scores leave out, over all evaluations, because
    their answer before or after the update has no verdict and will not get one, such as where a judge's endpoint refuses the
    prompt; that verdict is None in ``questions``. Where no question is left, the scores and the gain are 0. With a
    proxy: ``approximate``, True, and of all these ``title``, ``task_id``, ``label_free``, ``status`` and ``sequences``;
    ``marks`` names what the proxy said, each under its own name.

    ## Arguments
    ``dataset`` (``almanac``, a path or a hub id, see :func:`seal_env.tasks.load_tasks`), ``split``, ``offset``, ``limit``,
    ``shuffle_seed``, ``passage_words`` (into which documents are cut), ``almanac`` (its knobs), ``self_questions`` (how
    questions about documents without any are written, of :class:`seal_env.domains.self_questions.SelfQuestions`: ``{"count": 5,
    "samples": 4, "agreement": 0.75, "seed": 0}``; they are those of ``model`` as it was loaded, whatever is trained or loaded
    later), ``model`` (``seal-nano``, a folder or a hub id; a PEFT adapter's folder is the adapted model),
    ``device``, ``dtype``, ``trust_remote_code``, ``lora`` (of ``peft.LoraConfig``), ``edit_format``, ``template``,
    ``student_template`` and ``enable_thinking`` (see below), ``inner_loop`` (of :class:`seal_env.edits.EditSettings` and
    :class:`seal_env.UpdateConfig`), ``max_new_tokens`` of an answer, ``grader`` (a name of
    :data:`seal_env.evaluation.graders.GRADERS` or an import path: was this answer right?), ``grader_options``,
    ``progress`` (a bar of tokens while adapters are trained), ``executor`` and
    ``workers`` (where that is done, with the same outcomes: ``None``, in this process; ``spawn``, on so many processes;
    ``ray``, on Ray, see docs/scale.md), and those above.

    ## Chat templates
    ``template`` is about the policy: whether ``instruction`` is the whole prompt of a ``base`` model or the user's message to
    an ``instruct`` model, and how its edits are read. ``student_template`` is about the student: whether questions are put to
    it as raw text or as the user's message in its chat template. Both are ``auto`` by default: ``instruct`` if ``model`` was
    tuned on its chat template, that is, if the token that ends the assistant's turn there is one of its end tokens, else
    ``base``; that there is a chat template says little, since Qwen2.5-7B has one, too. A log line says what was chosen, and
    ``env.unwrapped.config`` holds it. A policy of another kind than the student needs ``template`` by name: an instruct model
    that writes for a base student, ``template="instruct"``.

    Students are told not to think before they answer (``enable_thinking=False`` in their chat template). ``enable_thinking``
    is about policies that are shown token ids (:class:`~seal_env.envs.token_ids.TokenIds`) or made for the environment
    (``seal-bench``): True, False, or None for what the policy says itself, by default no. Thoughts are no part of an edit
    or an answer (:func:`seal_env.chat.without_thoughts`).

    ## Few-shot tasks
    ``domain="arc"`` (``SEAL-ARC-v0``): ``context`` is the demonstrations of an ARC task, the action a choice of tools and
    settings as JSON (:mod:`seal_env.edits.tools`), and the score 1 where every test grid was predicted in two attempts, else 0
    (:mod:`seal_env.evaluation.grid_evaluator`). ``dataset`` is ``mini-arc``, ``arc-agi-1``, ``arc-agi-2`` or a path
    (:func:`seal_env.tasks.arc.arc_sources.load_arc`), ``mini_arc`` its knobs, ``inner_loop`` of
    :class:`seal_env.edits.ToolSettings`, ``views`` and ``orders`` of :class:`seal_env.evaluation.GridEvaluator`, ``grid_text``
    how grids are written (``spaced`` or ``labelled``). ``almanac``, ``self_questions``, ``edit_format``, ``grader`` and
    ``proxy`` do not apply, nor does ``mode="corpus"``. ``ToolChoices`` takes the action as numbers;
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
        info = self.engine.begin(state, seed, _tasks_option(options))
        self._np_random, self._np_random_seed = state.rng, -1 if seed is None else seed
        return self.engine.observe(state), info

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        state = self.engine.states[0]
        if not state.tasks or state.step >= self.config.updates:
            raise gym.error.ResetNeeded("the episode is over, or never began: call reset()")
        reward, terminated, info = self.engine.act({0: action})[0]
        if self.render_mode == "human":
            show([_text(state, action, brief=True)])
        self._action = action
        return self.engine.observe(state), reward, terminated, False, info

    def render(self) -> str | NDArray[np.uint8] | None:
        state = self.engine.states[0]
        _check_begun([state])
        if self.render_mode == "rgb_array":
            return _image(state)
        return _text(state, self._action) if self.render_mode == "ansi" else None

    def close(self) -> None:
        self._engine = None


class SealVectorEnv(_HasEngine, VectorEnv[dict[str, Any], Sequence[str], NDArray[Any]]):
    """Many places of :class:`SealEnv` over one student, updated and asked together; autoreset is ``SAME_STEP``.

    Place ``i`` of ``reset(seed=s)`` is :class:`SealEnv` of ``reset(seed=s + i)``, step for step. ``reset`` takes ``options``
    with ``reset_mask`` (which places begin anew), ``task`` (an index for each place) or ``tasks`` (a list of indices for each).
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
        seeds = (
            [int(seed) + i for i in range(self.num_envs)]
            if isinstance(seed, (int, np.integer))
            else list(seed or [None] * self.num_envs)
        )
        tasks = _tasks_options(options, self.num_envs)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed must be an integer or {self.num_envs} of them, got {seed!r}")
        infos: dict[str, Any] = {}
        for i, state in enumerate(self.engine.states):
            if chosen[i]:
                infos = self._add_info(infos, self.engine.begin(state, seeds[i], tasks[i]), i)
        return self._observations(), infos

    def step(self, actions: Sequence[str]) -> tuple[dict[str, Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        if not isinstance(actions, (list, tuple, np.ndarray)) or len(actions) != self.num_envs:
            given = f"{len(actions)}" if isinstance(actions, (list, tuple)) else f"a {type(actions).__name__}"
            raise ValueError(f"step takes a list of {self.num_envs} self-edits, one a place, got {given}")
        if not all(state.tasks for state in self.engine.states):
            raise gym.error.ResetNeeded("call reset() before step()")
        self._actions = list(actions)
        results = self.engine.act(dict(enumerate(actions)))
        if self.render_mode == "human":
            show(self._texts(brief=True), self.num_envs)
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        infos: dict[str, Any] = {}
        for i, state in enumerate(self.engine.states):
            rewards[i], terminated[i], info = results[i]
            if terminated[i]:
                last = state.last
                infos = self._add_info(infos, {"final_obs": self.engine.observe(state), "final_info": info}, i)
                info = self.engine.begin(state)
                state.last = last
            infos = self._add_info(infos, info, i)
        return self._observations(), rewards, terminated, np.zeros(self.num_envs, bool), infos

    def render(self) -> tuple[str, ...] | tuple[NDArray[np.uint8], ...] | None:
        _check_begun(self.engine.states)
        if self.render_mode == "rgb_array":
            return tuple(_image(state) for state in self.engine.states)
        return tuple(self._texts()) if self.render_mode == "ansi" else None

    def _texts(self, brief: bool = False) -> Iterator[str]:
        """Each place's last step."""
        for state, action in zip(self.engine.states, self._actions):
            yield _text(state, action, brief)

    def _observations(self) -> dict[str, Any]:
        found = [self.engine.observe(state) for state in self.engine.states]
        return {
            name: np.stack([one[name] for one in found]) if name == "adapter" else tuple(one[name] for one in found)
            for name in self.single_observation_space.spaces  # type: ignore[attr-defined]
        }

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
    """The place's last step; before the first one, its task."""
    task = state.acted if state.last and isinstance(state.acted, ArcTask) else state.task
    return render_text(state.last, task, action, brief)


def _image(state: EpisodeState) -> NDArray[np.uint8]:
    """The same as a picture, of an ARC task."""
    task = state.acted if state.last else state.task
    assert isinstance(task, ArcTask)
    return arc_image(task, attempts_of(state.last))


def _check_begun(states: Sequence[EpisodeState]) -> None:
    if not all(state.tasks for state in states):
        raise gym.error.ResetNeeded("there is nothing to render yet: call reset()")


def _tasks_option(options: Mapping[str, Any] | None) -> list[int] | None:
    """Task indices that ``options`` of one place ask for."""
    options = options or {}
    for name in options:
        if name not in ("task", "tasks"):
            raise ValueError(f"reset options: no option {name!r}; there are task and tasks (and reset_mask, of many places)")
    if "task" in options:
        return _indices("task", [options["task"]])
    return _indices("tasks", options["tasks"]) if "tasks" in options else None


def _indices(name: str, given: Any) -> list[int]:
    if isinstance(given, (str, bytes)) or not all(isinstance(i, (int, np.integer)) for i in _listed(given)):
        raise ValueError(f"reset option {name!r} takes indices of tasks, integers from 0, got {given!r:.80}")
    return [int(i) for i in given]


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, Iterable) else [None]


def _tasks_options(options: Mapping[str, Any], states: int) -> list[list[int] | None]:
    for name, value in options.items():
        if name in ("task", "tasks") and len(_listed(value)) != states:
            raise ValueError(f"reset option {name!r} takes one entry a place, {states} in all, got {value!r:.80}")
    return [_tasks_option({name: value[i] for name, value in options.items()}) for i in range(states)]
