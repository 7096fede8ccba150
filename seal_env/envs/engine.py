"""Episodes of many places over one student. ``SealEnv`` shows one place of it, ``SealVectorEnv`` all of them.

Each place has a random generator of its own, seeded at reset, that draws its tasks and the seeds of its updates: what happens
at a place does not depend on the others. Places that act together are updated and asked together.
"""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seal_env.chat import Chat, check_chat_template, resolve_template
from seal_env.checks import finite_number
from seal_env.distributed import Dispatcher, ExecutorPool, Recipe, WorkerPool, fingerprint, shared_pool
from seal_env.domains import DOMAINS, Domain, EnvConfig
from seal_env.domains.config import Reward
from seal_env.domains.self_questions import has_questions
from seal_env.edits import ParsedEdit
from seal_env.evaluation.scoring import Job, Outcome, Scorer, TaskResult
from seal_env.rewards import Proxy, Rating, rate, written
from seal_env.student import Student, load_base
from seal_env.student.requests import run_updates
from seal_env.tasks import Task

_log = logging.getLogger(__name__)

FULL_OBSERVATION = 1_000_000  # floats: larger adapters are summed up unless asked for in full
_ENDLESS = 100_000  # tasks of an endless source that episodes draw from, unless `limit` says otherwise


@functools.lru_cache(maxsize=4)
def shared_base(
    model: str, device: str, dtype: str, trust_remote_code: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model, loaded once a process; environments that change it make a copy first."""
    return load_base(model, device, dtype, trust_remote_code)


def with_templates(config: EnvConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> EnvConfig:
    """``config`` with the templates that ``auto`` comes to for this model.

    Raises:
        ValueError: ``student_template`` is ``instruct`` and the student has no chat template.
    """
    chosen = {name: getattr(config, name) for name in ("template", "student_template")}
    if auto := [name for name, choice in chosen.items() if choice == "auto"]:
        chosen |= dict.fromkeys(auto, resolve_template("auto", model, tokenizer, " and ".join(auto)))
        config = replace(config, **chosen)
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
    """Where an episode is.

    Attributes:
        tasks: passages of the episode (one unless the mode is continual or corpus).
        step: updates made.
        adapter: carried over to the next update; None: fresh.
        sequences: training texts gathered for the joint update of a corpus.
        last: what the last step came to, for rendering.
        acted: the task that it was about.
    """

    rng: np.random.Generator
    tasks: list[Task] = field(default_factory=list)
    step: int = 0
    adapter: Tensor | None = None
    sequences: list[str] = field(default_factory=list)
    last: dict[str, Any] | None = None
    acted: Task | None = None

    @property
    def task(self) -> Task:
        """The passage that the next (at the end: the last) edit is for."""
        return self.tasks[min(self.step, len(self.tasks) - 1)]

    @property
    def label_free(self) -> bool:
        """Whether a model wrote any of the episode's questions."""
        return any(task.label_free for task in self.tasks)


class Engine:
    """See the module's docstring.

    Args:
        config: what the environment is made of.
        num_envs: how many episodes run side by side.
    """

    def __init__(self, config: EnvConfig, num_envs: int) -> None:
        if config.carry == "merge" and num_envs > 1:
            raise ValueError(
                f"carry='merge' changes the base, which {num_envs} sub-environments share: use gym.make, or carry='adapter'"
            )
        base = shared_base(config.model, config.device, config.dtype, config.trust_remote_code)
        self.config = config = with_templates(config, *base)
        self.student = self._make_student(*base)
        # This student's base is shared and never changes (see _own), so what a domain asks it to write does not drift.
        self.domain: Domain = DOMAINS.get(config.domain)(config, self.student)
        self.source = self.domain.source
        self._own_base = False
        self._pool: WorkerPool | None = None
        if config.executor is not None:
            self._pool = shared_pool(config.executor, config.workers, config.device)
        self._start_of_merges: dict[str, Tensor] | None = None
        self.scorer = self._make_scorer()
        self.states = [EpisodeState(seeding.np_random(None)[0]) for _ in range(num_envs)]

    def __getstate__(self) -> dict[str, Any]:
        """What a copy, here or in another process, is made from: it loads the student itself, and shares it where it can."""
        if isinstance(self._pool, ExecutorPool):
            raise TypeError("an environment that scores on an executor of yours cannot be copied: make another one")
        base = dict(self.student.model.state_dict()) if self._own_base else None
        return {"config": self.config, "states": self.states, "base": base, "start_of_merges": self._start_of_merges}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["config"], len(state["states"]))  # type: ignore[misc]
        self.states = state["states"]
        if state["base"] is not None:
            self.load_student(state["base"])
            self._start_of_merges = state["start_of_merges"]

    @functools.cached_property
    def reward(self) -> Reward:
        """Of an outcome; a proxy rates edits that have none."""
        return self.config.reward_function()

    # Observations ---------------------------------------------------------------------------------------------------

    @property
    def adapter_observation(self) -> str:
        """``full``, ``summary`` or ``none``."""
        if self.config.adapter_observation != "auto":
            return self.config.adapter_observation
        return "full" if self.student.adapter_size < FULL_OBSERVATION else "summary"

    @property
    def adapter_shape(self) -> tuple[int, ...]:
        """Of the observed adapter: all its floats, or the norms of each layer's A and B."""
        return (self.student.adapter_size if self.adapter_observation == "full" else 2 * len(self.student.layout.targets),)

    def observe(self, state: EpisodeState) -> dict[str, Any]:
        """Passage, prompt, and the adapter as it is (zeros before the first update)."""
        task = state.task
        observation: dict[str, Any] = {
            "context": task.context,
            "instruction": self.domain.instruction(task),
        }
        if self.adapter_observation != "none":
            observation["adapter"] = self._observed_adapter(state.adapter)
        return observation

    def _observed_adapter(self, adapter: Tensor | None) -> NDArray[np.float32]:
        if adapter is None:
            return np.zeros(self.adapter_shape, np.float32)
        if self.adapter_observation == "full":
            return adapter.numpy().astype(np.float32, copy=True)
        flat = adapter[None]
        norms = [part(flat).norm() for t in self.student.layout.targets for part in (t.a, t.b)]
        return torch.stack(norms).numpy().astype(np.float32)

    # Episodes -------------------------------------------------------------------------------------------------------

    def begin(self, state: EpisodeState, seed: int | None = None, tasks: Sequence[int] | None = None) -> dict[str, Any]:
        """Start an episode, on tasks drawn by the place or on those given by index; returns its info."""
        if seed is not None:
            state.rng = seeding.np_random(seed)[0]
        passages = self.config.updates if self.config.mode in ("continual", "corpus") else 1
        if tasks is None:
            tasks = self.draw(state.rng, passages)
        if len(tasks) != passages:
            raise ValueError(f"an episode in mode={self.config.mode!r} has {passages} passages, got task indices {list(tasks)}")
        state.tasks = [self.source[i] for i in tasks]
        if len(self.student.tokenizer) > self.student.vocabulary_size:
            for task in state.tasks:
                self.student.check_text(f"{task.title}\n{task.context}", f"task {task.id!r}: the passage")
        state.step, state.adapter, state.sequences, state.last = 0, None, [], None
        if self._start_of_merges is not None:
            self.student.load_base(self._start_of_merges)
            self._start_of_merges = None
        return {
            "title": state.task.title,
            "task_id": state.task.id,
            "task_indices": tuple(int(i) for i in tasks),
            "label_free": state.label_free,
            **self._approximate,
        }

    @property
    def _approximate(self) -> dict[str, Any]:
        """What marks every info where rewards come from a proxy."""
        return {"approximate": True} if self.domain.proxy else {}

    @property
    def task_count(self) -> int:
        """How many tasks episodes are drawn from."""
        return self.source.size or _ENDLESS

    def draw(self, rng: np.random.Generator, passages: int) -> list[int]:
        """Indices of different tasks, none of them a document that the model found no question for."""
        found = self._shuffled(rng, passages)
        if len(found) < passages:
            has = f"{self.source.name!r} has {len(found)}"
            if self.domain.writes_questions:
                has = f"the model {self.config.model!r} found questions for {len(found)} of the {self.task_count}"
                has += f" in {self.source.name!r}"
            raise ValueError(f"an episode needs {passages} passages, {has}")
        return found

    def draw_tasks(self, rng: np.random.Generator, count: int) -> list[int]:
        """Indices of ``count`` tasks, all different where there are as many, otherwise each as often as the others."""
        found = self._shuffled(rng, count)
        while len(found) < count:
            found += self._shuffled(rng, count - len(found))
        return found

    def _shuffled(self, rng: np.random.Generator, most: int) -> list[int]:
        """Up to ``most`` different tasks that can be asked about, in an order drawn by ``rng``."""
        size = self.task_count
        if not self.domain.writes_questions:
            return rng.choice(size, min(most, size), replace=False).tolist()
        return list(islice((i for i in rng.permutation(size).tolist() if has_questions(self.source, i)), most))

    def act(self, actions: Mapping[int, Any]) -> dict[int, tuple[float, bool, dict[str, Any]]]:
        """One edit at each of these places; reward, whether the episode ended, and info of each."""
        evaluations = self.config.evaluations_per_edit
        seeds = {i: self.states[i].rng.integers(0, 2**31 - 1, evaluations).tolist() for i in actions}
        parsed = {i: self.domain.parse(action, self.states[i].task, seeds[i][0]) for i, action in actions.items()}
        if self.domain.proxy is not None:
            return self._rate(self.domain.proxy, parsed)
        jobs: list[Job] = []
        jobs_of: dict[int, range] = {}
        for i, edit in parsed.items():
            first = len(jobs)
            jobs += self._jobs(self.states[i], edit, seeds[i])
            jobs_of[i] = range(first, len(jobs))
        outcomes = self.scorer.score(jobs, progress=self.config.progress)
        results = {}
        for i in actions:
            own = [outcomes[j] for j in jobs_of[i]]
            results[i] = self._settle(self.states[i], parsed[i], own, [jobs[j].plan.seed for j in jobs_of[i]])
        return results

    def _jobs(self, state: EpisodeState, edit: ParsedEdit, seeds: list[int]) -> list[Job]:
        tasks: tuple[Task, ...] = (state.task,)
        plan = edit.plan
        if self.config.mode == "continual":
            tasks = tuple(state.tasks[: state.step + 1])
        if self.config.mode == "corpus":
            state.sequences += edit.sequences
            if state.step + 1 < self.config.updates:
                return []
            tasks, plan = tuple(state.tasks), self.domain.joint_update(tuple(state.sequences), seeds[0])
        return [Job(tasks, replace(plan, seed=seed), state.adapter) for seed in seeds]

    def _settle(
        self, state: EpisodeState, edit: ParsedEdit, outcomes: list[Outcome], seeds: list[int]
    ) -> tuple[float, bool, dict[str, Any]]:
        """Reward and info of one step, and the place as it is afterwards."""
        task, mode = state.task, self.config.mode
        info: dict[str, Any] = {
            "title": task.title,
            "task_id": task.id,
            "label_free": state.label_free,
            "status": str(edit.status),
            **({"problem": edit.problem} if edit.problem else {}),
        }
        reward = 0.0
        if outcomes:
            scored = [_current(outcome) if mode == "continual" else outcome for outcome in outcomes]
            reward = float(np.mean([self.reward(outcome) for outcome in _graded(scored)]))
            info |= _describe(scored, seeds)
            if mode == "continual":
                row = np.mean([[result.score for result in outcome.results] for outcome in outcomes], axis=0)
                info["accuracy_row"] = tuple(row.tolist())
                reward += self.config.retention_weight * float(np.mean([_retention(outcome) for outcome in outcomes]))
            # Each reward is finite, but what is made of very large ones may not be.
            finite_number(reward, "the mean reward over evaluations, with the retention term, is")
            if mode in ("refine", "continual") and outcomes[0].fit.status.learnt:
                assert outcomes[0].adapter is not None
                self._carry(state, outcomes[0].adapter)
            elif mode in ("single", "corpus"):
                state.adapter = outcomes[0].adapter
        state.step += 1
        state.last, state.acted = info, task
        return reward, state.step >= self.config.updates, info

    def _rate(self, proxy: Proxy, parsed: Mapping[int, ParsedEdit]) -> dict[int, tuple[float, bool, dict[str, Any]]]:
        """What :meth:`act` returns, from a proxy: no student is updated or asked, and adapters stay as they are."""
        shown = {i: written(edit, self.states[i].task) for i, edit in parsed.items()}
        ratings = rate(proxy, shown.values())
        return {i: self._settle_rated(self.states[i], edit, ratings[shown[i]]) for i, edit in parsed.items()}

    def _settle_rated(self, state: EpisodeState, edit: ParsedEdit, rating: Rating) -> tuple[float, bool, dict[str, Any]]:
        task = state.task
        info: dict[str, Any] = {
            "title": task.title,
            "task_id": task.id,
            "label_free": state.label_free,
            "status": str(edit.status),
            **self._approximate,
            "sequences": len(edit.sequences),
            "marks": tuple(rating.marks),
        }
        if taken := sorted(info.keys() & rating.marks.keys()):
            raise ValueError(f"a proxy's marks need names of their own in the info, got {', '.join(taken)}")
        info |= rating.marks
        state.step += 1
        state.last, state.acted = info, task
        return float(rating.reward), state.step >= self.config.updates, info

    def _carry(self, state: EpisodeState, adapter: Tensor) -> None:
        if self.config.carry == "adapter":
            state.adapter = adapter
            return
        self._own()
        if self._start_of_merges is None:
            self._start_of_merges = {name: value.clone() for name, value in self.student.model.state_dict().items()}
        self.student.merge(adapter)

    # The base -------------------------------------------------------------------------------------------------------

    def load_student(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the base model's weights by a state dict; other environments keep theirs."""
        self._own()
        self.student.load_base(weights)
        self._start_of_merges = None

    def _own(self) -> None:
        """Make the base this environment's own before it is changed."""
        if not self._own_base:
            self.student = self._make_student(copy.deepcopy(self.student.model), self.student.tokenizer)
            self.scorer = self._make_scorer()
            self._own_base = True

    def _make_student(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Student:
        return Student(model, tokenizer, self.config.lora_config())

    def score_on(self, executor: Executor) -> None:
        """Have plans learnt and prompts answered on ``executor`` from now on.

        Raises:
            ValueError: it forks.
        """
        self._pool = ExecutorPool(executor)
        self.scorer = self._make_scorer()

    def _make_scorer(self) -> Scorer:
        kept = self.adapter_observation != "none" or self.config.mode in ("refine", "continual")
        done_by = run_updates if self._pool is None else Dispatcher(self._pool, self._recipe)
        return Scorer(self.student, self.domain.evaluator, done_by, adapters=kept)

    @functools.cached_property
    def _recipe(self) -> Recipe:
        """How a worker makes the student as it was before its base changed."""
        config = self.config
        base = shared_base(config.model, config.device, config.dtype, config.trust_remote_code)[0]
        how = config.model, config.device, config.dtype, config.trust_remote_code, config.lora_options()
        return Recipe(*how, fingerprint(base))


def _current(outcome: Outcome) -> Outcome:
    """The outcome for the newest passage alone."""
    return Outcome(outcome.results[-1:], outcome.fit, outcome.adapter)


def _retention(outcome: Outcome) -> float:
    """Mean change of the accuracy on earlier passages that are graded; 0 where there are none."""
    earlier = [result for result in outcome.results[:-1] if result.graded]
    return sum(result.score - result.score_before for result in earlier) / len(earlier) if earlier else 0.0


def _graded(outcomes: list[Outcome]) -> list[Outcome]:
    """The evaluations that any question was graded in; all where there is none."""
    return [outcome for outcome in outcomes if outcome.graded] or outcomes


def _describe(outcomes: list[Outcome], seeds: list[int]) -> dict[str, Any]:
    """What a step's info says; nothing of it depends on the clock."""
    first = outcomes[0]
    before, score = (float(np.mean([getattr(one, name) for one in _graded(outcomes)])) for name in ("score_before", "score"))
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
        "questions": tuple(row for result in first.results for row in _rows(result)),
    }


def _rows(result: TaskResult) -> list[dict[str, Any]]:
    return [
        {
            "question": question.question,
            "gold": question.answers[0],
            "answer_before": before,
            "answer": after,
            "correct_before": was,
            "correct": now,
        }
        for question, before, after, was, now in zip(
            result.task.questions, result.answers_before, result.answers, result.correct_before, result.correct
        )
    ]
