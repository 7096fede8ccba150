"""What updates on passages teach a model: edits made from the answers, the model's own edits, and questions without an update.

``benchmarks.measure_smollm2`` and ``seal-bench tune`` use this on any knowledge environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from agents.seeding import task_seeds
from benchmarks.measurements.task_scores import TaskScorer
from seal_env.chat import Prompt, prompt_ids
from seal_env.domains.knowledge import KnowledgeDomain
from seal_env.edits import EditFormat, EditSettings, ParsedEdit, get_format, parse, passage_only
from seal_env.evaluation.scoring import Outcome, ScoreRequest
from seal_env.student import Sampling


class Effect(NamedTuple):
    """The result of an edit for one task.

    Attributes:
        score: share of the questions that were answered correctly.
        tokens: trained tokens, over all epochs.
        outcome: the scores and all answers.
    """

    score: float
    tokens: int
    outcome: Outcome


class EffectScorer(TaskScorer):
    """The first tasks of a split, and a student that is updated on edits about them and answers their questions.

    Args:
        env_id: of a knowledge environment.
        tasks: number of tasks.
        batch: edits that are scored together; it bounds the memory, and changes no result.
        options: keywords of the environment.

    Raises:
        ValueError: the environment has another domain, or fewer tasks.
    """

    def __init__(self, env_id: str, tasks: int, *, batch: int = 12, **options: Any) -> None:
        super().__init__(env_id, **options)
        if not isinstance(self.domain, KnowledgeDomain):
            raise ValueError(f"{env_id} has domain={self.config.domain!r}, and edits from answers need domain='knowledge'")
        source = self.domain.source
        if source.size is not None and source.size < tasks:
            raise ValueError(f"{tasks} tasks were asked for, and the split has {source.size}")
        self.batch = batch
        self.tasks = [source[i] for i in range(tasks)]
        self.settings: EditSettings = self.config.settings()

    def write(self, edit_format: str | EditFormat, sampling: Sampling, max_new_tokens: int, seed: int = 0) -> list[str]:
        """An edit of the base model, without an adapter, for each task."""
        template = self.settings.template
        prompts: list[Prompt] = [
            tuple(prompt_ids(self.student.tokenizer, get_format(edit_format).prompt(task, template), template))
            for task in self.tasks
        ]
        seeds = task_seeds(seed, range(len(prompts)), "effects")
        adapter = self.student.zero(1)
        (edits,) = self.student.sample(adapter, [prompts], seeds=[seeds], sampling=sampling, max_new_tokens=max_new_tokens)
        return [edit.text for edit in edits]

    def effects(
        self, edits: Sequence[str], settings: EditSettings | None = None, edit_format: str | EditFormat | None = None
    ) -> list[Effect]:
        """The effect of an edit for each of the first tasks.

        Args:
            edits: one for a task, for all tasks or fewer.
            settings: how edits are split and learnt; by default the environment's.
            edit_format: of the edits; by default that of ``settings``.
        """
        settings = settings or self.settings
        if edit_format is not None:
            settings = replace(settings, format=edit_format)
        return self._run([parse(edit, task, settings, i) for i, (edit, task) in enumerate(zip(edits, self.tasks))])

    def passage_only(self, settings: EditSettings | None = None) -> list[Effect]:
        """The effect of an update on each passage alone."""
        return self._run([passage_only(task, settings or self.settings, i) for i, task in enumerate(self.tasks)])

    def closed_book(self) -> list[Effect]:
        """The scores without an update."""
        return self._run([parse("", task, self.settings, 0) for task in self.tasks])

    def open_book(self) -> list[float]:
        """The scores without an update, with the passage in each prompt."""
        return self.score_open_book(self.tasks)

    def _run(self, edits: Sequence[ParsedEdit]) -> list[Effect]:
        requests = [ScoreRequest((task,), edit.update) for task, edit in zip(self.tasks, edits)]
        outcomes = [
            outcome for i in range(0, len(requests), self.batch) for outcome in self._scorer.score(requests[i : i + self.batch])
        ]
        return [Effect(outcome.score, outcome.fit.tokens, outcome) for outcome in outcomes]
