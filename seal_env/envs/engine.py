"""The engine: runs the episodes of one or more sub-environments over one student.

:class:`~seal_env.envs.env.SealEnv` is an engine with one sub-environment, :class:`~seal_env.envs.env.SealVectorEnv` one with
many. Each sub-environment has its own random generator, seeded at reset, that draws its tasks and the seeds of its updates, so
no sub-environment depends on the others. Edits that arrive together are trained together and questioned together.
"""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seal_env.chat import Chat, check_chat_template, resolve_template
from seal_env.checks import finite_number
from seal_env.distributed import Dispatcher, ExecutorPool, StudentSpec, WorkerPool, shared_pool
from seal_env.domains import DOMAINS, Domain, EnvConfig
from seal_env.domains.self_questions import has_questions
from seal_env.edits import ParsedEdit
from seal_env.evaluation.scoring import Outcome, Scorer, ScoreRequest, TaskResult
from seal_env.rewards import Proxy, Reward, edit_text, rate
from seal_env.student import Student, load_base
from seal_env.student.loading import fingerprint
from seal_env.student.requests import run_updates
from seal_env.tasks import Task

_log = logging.getLogger(__name__)

FULL_OBSERVATION = 1_000_000  # floats: larger adapters are summarized unless the config says otherwise
_ENDLESS = 100_000  # tasks of an endless source that episodes draw from, unless `limit` says otherwise

StepResult = tuple[float, bool, dict[str, Any]]  # reward, whether the episode ended, info


@functools.lru_cache(maxsize=4)
def shared_base(
    model: str, device: str, dtype: str, trust_remote_code: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model and its tokenizer, loaded once in this process. Copy the model before you change it."""
    return load_base(model, device, dtype, trust_remote_code)


def resolve_templates(config: EnvConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EnvConfig:
    """``config`` with ``auto`` templates resolved for this model.

    Raises:
        ValueError: ``student_template`` is ``instruct`` and the student has no chat template.
    """
    choices = {name: getattr(config, name) for name in ("template", "student_template")}
    if auto := [name for name, choice in choices.items() if choice == "auto"]:
        choices |= dict.fromkeys(auto, resolve_template("auto", model, tokenizer, " and ".join(auto)))
        config = replace(config, **choices)
    if config.student_template == "instruct":
        check_chat_template(tokenizer, "instruct", "student_template")
        if opening := Chat(tokenizer).opening:
            _log.warning(
                "%s: the chat template begins every answer with %r: the student thinks before it answers, within the"
                " max_new_tokens of an answer",
                *(tokenizer.name_or_path, opening.strip()),
            )
    return config


@dataclass
class EpisodeState:
    """The state of one sub-environment.

    Attributes:
        rng: draws the tasks and the seeds of updates.
        tasks: the passages of the episode (one unless the mode is continual or corpus).
        step: number of edits so far.
        adapter: ``(adapter_size,)`` before the next edit; None before the first update.
        sequences: training texts collected for the joint update of a corpus.
        last_info: info of the last step, for rendering; None before the first.
        last_task: the task of the last step.
    """

    rng: np.random.Generator
    tasks: list[Task] = field(default_factory=list)
    step: int = 0
    adapter: Tensor | None = None
    sequences: list[str] = field(default_factory=list)
    last_info: dict[str, Any] | None = None
    last_task: Task | None = None

    @property
    def task(self) -> Task:
        """The passage that the next edit is for; at the end of the episode, the last passage."""
        return self.tasks[min(self.step, len(self.tasks) - 1)]

    @property
    def label_free(self) -> bool:
        """Whether a model wrote any of the episode's questions."""
        return any(task.label_free for task in self.tasks)


class Engine:
    """Student, tasks and scorer of an environment, and the state of its sub-environments.

    Args:
        config: of the environment.
        num_envs: number of sub-environments.

    Raises:
        ValueError: ``carry="merge"`` with more than one sub-environment, since they share the base.
    """

    def __init__(self, config: EnvConfig, num_envs: int) -> None:
        if config.carry == "merge" and num_envs > 1:
            raise ValueError(
                f"carry='merge' changes the base, which {num_envs} sub-environments share: use gym.make, or carry='adapter'"
            )
        base = shared_base(config.model, config.device, config.dtype, config.trust_remote_code)
        self.config = config = resolve_templates(config, *base)
        self.student = self._make_student(*base)
        # The domain keeps this student: its base is shared and never changes (see _copy_base), so neither does what it writes.
        self.domain: Domain = DOMAINS.get(config.domain)(config, self.student)
        self.source = self.domain.source
        self._has_own_base = False
        self._pool: WorkerPool | None = None
        if config.executor is not None:
            self._pool = shared_pool(config.executor, config.workers, config.device)
        self._base_before_merges: dict[str, Tensor] | None = None
        self.scorer = self._make_scorer()
        self.states = [EpisodeState(seeding.np_random(None)[0]) for _ in range(num_envs)]

    def __getstate__(self) -> dict[str, Any]:
        """Config, states and a changed base. A copy, here or in another process, loads the shared base itself."""
        if isinstance(self._pool, ExecutorPool):
            raise TypeError("an environment that scores on an executor of yours cannot be copied: make another one")
        base = dict(self.student.model.state_dict()) if self._has_own_base else None
        return {"config": self.config, "states": self.states, "base": base, "base_before_merges": self._base_before_merges}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["config"], len(state["states"]))  # type: ignore[misc]
        self.states = state["states"]
        if state["base"] is not None:
            self.load_student(state["base"])
            self._base_before_merges = state["base_before_merges"]

    @functools.cached_property
    def reward(self) -> Reward:
        """The reward function; unused with a proxy."""
        return self.config.reward_function()

    # Reset ----------------------------------------------------------------------------------------------------------

    def reset(self, state: EpisodeState, seed: int | None = None, tasks: Sequence[int] | None = None) -> dict[str, Any]:
        """Start an episode and return its info.

        Args:
            state: of the sub-environment.
            seed: of its random generator, which continues if this is None.
            tasks: indices of the episode's tasks; drawn if this is None.

        Raises:
            ValueError: another number of tasks than the mode needs, or too few tasks in the dataset.
        """
        if seed is not None:
            state.rng = seeding.np_random(seed)[0]
        passages = self.config.updates if self.config.mode in ("continual", "corpus") else 1
        if tasks is None:
            tasks = self._draw_passages(state.rng, passages)
        if len(tasks) != passages:
            raise ValueError(f"an episode in mode={self.config.mode!r} has {passages} passages, got task indices {list(tasks)}")
        state.tasks = [self.source[i] for i in tasks]
        if len(self.student.tokenizer) > self.student.vocabulary_size:
            for task in state.tasks:
                self.student.check_text(f"{task.title}\n{task.context}", f"task {task.id!r}: the passage")
        state.step, state.adapter, state.sequences, state.last_info = 0, None, [], None
        if self._base_before_merges is not None:
            self.student.load_base(self._base_before_merges)
            self._base_before_merges = None
        return {**self._task_info(state), "task_indices": tuple(int(i) for i in tasks)}

    @property
    def task_count(self) -> int:
        """Number of tasks that episodes draw from."""
        return self.source.size or _ENDLESS

    def draw_tasks(self, rng: np.random.Generator, count: int) -> list[int]:
        """Indices of ``count`` tasks, all different if there are enough, otherwise each as often as the others."""
        tasks = self._shuffled_tasks(rng, count)
        while len(tasks) < count:
            tasks += self._shuffled_tasks(rng, count - len(tasks))
        return tasks

    def _draw_passages(self, rng: np.random.Generator, count: int) -> list[int]:
        """Indices of ``count`` different tasks."""
        tasks = self._shuffled_tasks(rng, count)
        if len(tasks) < count:
            available = f"{self.source.name!r} has {len(tasks)}"
            if self.domain.writes_questions:
                available = f"the model {self.config.model!r} found questions for {len(tasks)} of the {self.task_count}"
                available += f" in {self.source.name!r}"
            raise ValueError(f"an episode needs {count} passages, {available}")
        return tasks

    def _shuffled_tasks(self, rng: np.random.Generator, limit: int) -> list[int]:
        """Indices of up to ``limit`` different tasks in random order, without documents that have no questions."""
        size = self.task_count
        if not self.domain.writes_questions:
            return rng.choice(size, min(limit, size), replace=False).tolist()
        return list(islice((i for i in rng.permutation(size).tolist() if has_questions(self.source, i)), limit))

    # Step -----------------------------------------------------------------------------------------------------------

    def step(self, edits: Sequence[Any]) -> list[StepResult]:
        """Score one edit for each sub-environment.

        The domain parses each edit into an update, the scorer runs all updates together and grades the answers (see
        :meth:`Scorer.score`), and each outcome becomes a reward and an info. :meth:`observation` gives the next observations.
        """
        seeds = [state.rng.integers(0, 2**31 - 1, self.config.evaluations_per_edit).tolist() for state in self.states]
        parsed = [self.domain.parse(edit, state.task, own[0]) for edit, state, own in zip(edits, self.states, seeds)]
        if self.domain.proxy is not None:
            return self._rate(self.domain.proxy, parsed)
        requests = [self._score_requests(state, edit, own) for state, edit, own in zip(self.states, parsed, seeds)]
        outcomes = iter(self.scorer.score(list(chain.from_iterable(requests)), progress=self.config.progress))
        results = []
        for state, edit, own_requests, own_seeds in zip(self.states, parsed, requests, seeds):
            own_outcomes = list(islice(outcomes, len(own_requests)))
            reward, info = self._reward_and_info(state, edit, own_outcomes, own_seeds)
            self._update_adapter(state, own_outcomes)
            results.append(self._advance(state, reward, info))
        return results

    def _score_requests(self, state: EpisodeState, edit: ParsedEdit, seeds: list[int]) -> list[ScoreRequest]:
        """One request for each evaluation; none before the last edit of a corpus."""
        tasks: tuple[Task, ...] = (state.task,)
        update = edit.update
        if self.config.mode == "continual":
            tasks = tuple(state.tasks[: state.step + 1])
        if self.config.mode == "corpus":
            state.sequences += edit.sequences
            if state.step + 1 < self.config.updates:
                return []
            tasks, update = tuple(state.tasks), self.domain.joint_update(tuple(state.sequences), seeds[0])
        return [ScoreRequest(tasks, replace(update, seed=seed), state.adapter) for seed in seeds]

    def _reward_and_info(
        self, state: EpisodeState, edit: ParsedEdit, outcomes: list[Outcome], seeds: list[int]
    ) -> tuple[float, dict[str, Any]]:
        info = {**self._task_info(state), "status": str(edit.status)}
        if edit.problem:
            info["problem"] = edit.problem
        if not outcomes:
            return 0.0, info
        continual = self.config.mode == "continual"
        scored = [replace(outcome, results=outcome.results[-1:]) for outcome in outcomes] if continual else outcomes
        reward = float(np.mean([self.reward(outcome) for outcome in _graded(scored)]))
        info |= _outcome_info(scored, seeds)
        if continual:
            accuracies = np.mean([[result.score for result in outcome.results] for outcome in outcomes], axis=0)
            info["accuracy_row"] = tuple(accuracies.tolist())
            reward += self.config.retention_weight * float(np.mean([_retention(outcome) for outcome in outcomes]))
        # Each reward is finite, but the mean and the sum of very large ones may not be.
        finite_number(reward, "the mean reward over evaluations, with the retention term, is")
        return reward, info

    def _update_adapter(self, state: EpisodeState, outcomes: list[Outcome]) -> None:
        """Keep the adapter of the first evaluation for the next edit, or merge it into the base."""
        if not outcomes:
            return
        adapter = outcomes[0].adapter
        if self.config.mode in ("single", "corpus"):
            state.adapter = adapter
        elif outcomes[0].fit.status.learnt:
            assert adapter is not None
            if self.config.carry == "adapter":
                state.adapter = adapter
            else:
                self._merge(adapter)

    def _rate(self, proxy: Proxy, edits: Sequence[ParsedEdit]) -> list[StepResult]:
        """The results of a step with a proxy: no student is updated, and adapters stay as they are."""
        proxy_inputs = [edit_text(edit, state.task) for edit, state in zip(edits, self.states)]
        ratings = rate(proxy, proxy_inputs)
        results = []
        for state, edit, proxy_input in zip(self.states, edits, proxy_inputs):
            rating = ratings[proxy_input]
            info = {**self._task_info(state), "status": str(edit.status), "sequences": len(edit.sequences)}
            info["components"] = tuple(rating.components)
            if taken := sorted(info.keys() & rating.components.keys()):
                raise ValueError(f"a proxy's scores need names that the info does not have yet, got {', '.join(taken)}")
            results.append(self._advance(state, float(rating.reward), {**info, **rating.components}))
        return results

    def _advance(self, state: EpisodeState, reward: float, info: dict[str, Any]) -> StepResult:
        state.last_info, state.last_task = info, state.task
        state.step += 1
        return reward, state.step >= self.config.updates, info

    def _task_info(self, state: EpisodeState) -> dict[str, Any]:
        info = {"title": state.task.title, "task_id": state.task.id, "label_free": state.label_free}
        return info if self.domain.proxy is None else {**info, "approximate": True}

    # Observations ---------------------------------------------------------------------------------------------------

    @property
    def adapter_observation(self) -> str:
        """``full``, ``summary`` or ``none``."""
        if self.config.adapter_observation != "auto":
            return self.config.adapter_observation
        return "full" if self.student.adapter_size < FULL_OBSERVATION else "summary"

    @property
    def adapter_shape(self) -> tuple[int, ...]:
        """Shape of the observed adapter: ``(adapter_size,)``, or ``(2 * targets,)`` norms of each target's A and B."""
        return (self.student.adapter_size if self.adapter_observation == "full" else 2 * len(self.student.layout.targets),)

    def observation(self, state: EpisodeState) -> dict[str, Any]:
        """The passage, the prompt that asks for an edit, and the adapter (zeros before the first update)."""
        task = state.task
        observation: dict[str, Any] = {"context": task.context, "instruction": self.domain.instruction(task)}
        if self.adapter_observation != "none":
            observation["adapter"] = self._observed_adapter(state.adapter)
        return observation

    def _observed_adapter(self, adapter: Tensor | None) -> NDArray[np.float32]:
        if adapter is None:
            return np.zeros(self.adapter_shape, np.float32)
        if self.adapter_observation == "full":
            return adapter.numpy().astype(np.float32, copy=True)
        norms = [part(adapter[None]).norm() for target in self.student.layout.targets for part in (target.a, target.b)]
        return torch.stack(norms).numpy().astype(np.float32)

    # The student ----------------------------------------------------------------------------------------------------

    def load_student(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the base model's weights by a state dict; other environments keep theirs."""
        self._copy_base()
        self.student.load_base(weights)
        self._base_before_merges = None

    def score_on(self, executor: Executor) -> None:
        """Run updates on ``executor`` from now on.

        Raises:
            ValueError: its workers are forked.
        """
        self._pool = ExecutorPool(executor)
        self.scorer = self._make_scorer()

    def _merge(self, adapter: Tensor) -> None:
        """Merge an adapter into the base; the next reset restores the base."""
        self._copy_base()
        if self._base_before_merges is None:
            self._base_before_merges = {name: value.clone() for name, value in self.student.model.state_dict().items()}
        self.student.merge(adapter)

    def _copy_base(self) -> None:
        """Replace the shared base by a copy that this environment may change."""
        if not self._has_own_base:
            self.student = self._make_student(copy.deepcopy(self.student.model), self.student.tokenizer)
            self.scorer = self._make_scorer()
            self._has_own_base = True

    def _make_student(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Student:
        return Student(model, tokenizer, self.config.lora_config())

    def _make_scorer(self) -> Scorer:
        return_adapters = self.adapter_observation != "none" or self.config.mode in ("refine", "continual")
        run = run_updates if self._pool is None else Dispatcher(self._pool, self._student_spec)
        return Scorer(self.student, self.domain.evaluator, run, return_adapters=return_adapters)

    @functools.cached_property
    def _student_spec(self) -> StudentSpec:
        """How a worker loads the student with the shared base."""
        config = self.config
        base = config.model, config.device, config.dtype, config.trust_remote_code
        return StudentSpec(*base, config.lora_options(), fingerprint(shared_base(*base)[0]))


def _retention(outcome: Outcome) -> float:
    """Mean change of the score on earlier passages that are graded; 0 if there are none."""
    earlier = [result for result in outcome.results[:-1] if result.graded]
    return sum(result.score - result.score_before for result in earlier) / len(earlier) if earlier else 0.0


def _graded(outcomes: list[Outcome]) -> list[Outcome]:
    """The evaluations with a graded question; all of them if there are none."""
    return [outcome for outcome in outcomes if outcome.graded] or outcomes


def _outcome_info(outcomes: list[Outcome], seeds: list[int]) -> dict[str, Any]:
    """The info of a step's evaluations. It must not depend on the clock."""
    first, graded = outcomes[0], _graded(outcomes)
    before = float(np.mean([outcome.score_before for outcome in graded]))
    score = float(np.mean([outcome.score for outcome in graded]))
    return {
        "score_before": before,
        "score": score,
        "gain": score - before,
        "scores": tuple(outcome.score for outcome in outcomes),
        "ungraded": sum(outcome.ungraded for outcome in outcomes),
        "seeds": tuple(seeds),
        "fit_status": str(first.fit.status),
        "sequences": first.fit.sequences,
        "steps": first.fit.steps,
        "tokens": first.fit.tokens,
        "questions": tuple(row for result in first.results for row in _question_rows(result)),
    }


def _question_rows(result: TaskResult) -> list[dict[str, Any]]:
    names = ("question", "gold", "answer_before", "answer", "correct_before", "correct")
    texts = [(question.question, question.answers[0]) for question in result.task.questions]
    answers = zip(texts, result.answers_before, result.answers, result.correct_before, result.correct)
    return [dict(zip(names, (*text, *values))) for text, *values in answers]
