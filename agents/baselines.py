"""Baselines: agents that learn nothing and use none of a training budget."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agents.agent_config import check_config
from agents.base import Agent, Infos, Observations, Round, SeedLike, expand_seeds
from agents.seeding import derive_seed
from seal_env.domains import DOMAINS, EnvConfig


class Baseline(Agent):
    """An agent that does not learn."""

    learns = False

    def round(self, budget: int) -> Round | None:
        return None


class NoUpdate(Baseline):
    """Writes empty edits: the score of the student without an update."""

    uses_policy = False

    def predict(self, observations: Observations, infos: Infos | None = None, *, seed: SeedLike = 0) -> list[str]:
        return [""] * len(observations["context"])


class PassageOnly(Baseline):
    """Writes the passage itself (the paper's baseline "train on passage")."""

    uses_policy = False

    @classmethod
    def incompatibility(cls, config: EnvConfig) -> str:
        few_shot = "passage_only is for passages: a few-shot task's edit is a choice of tools"
        return super().incompatibility(config) or ("" if DOMAINS.get(config.domain).context_is_edit else few_shot)

    def predict(self, observations: Observations, infos: Infos | None = None, *, seed: SeedLike = 0) -> list[str]:
        return list(observations["context"])


class Untrained(Baseline):
    """Samples edits from the untrained policy."""


@dataclass(frozen=True)
class BestOfKConfig:
    """Hyperparameters of :class:`BestOfK`.

    Attributes:
        k: edits that are scored per task; the best one is predicted.
    """

    k: int = 5

    def __post_init__(self) -> None:
        check_config(self, k=1)


class BestOfK(Baseline):
    """Samples k edits from the untrained policy and predicts the best one, as scored on the questions of the evaluation itself.

    The agent's environment must contain the tasks that it is evaluated on.
    """

    Config = BestOfKConfig
    config: BestOfKConfig

    def predict(self, observations: Observations, infos: Infos | None = None, *, seed: SeedLike = 0) -> list[str]:
        if infos is None:
            raise ValueError("best_of_k needs the infos of the reset: it scores edits of the same tasks")
        tasks, k = [int(info["task_indices"][0]) for info in infos], self.config.k
        seeds = [derive_seed(s, "best_of_k", i) for s in expand_seeds(seed, len(tasks)) for i in range(k)]
        edits = self.collect(tasks, k, seeds=seeds)
        return [max(edits[i : i + k], key=lambda edit: edit.reward).edit for i in range(0, len(edits), k)]


@dataclass(frozen=True)
class OracleConfig:
    """Hyperparameters of :class:`Oracle`.

    Attributes:
        kind: form of an edit about a passage: ``pairs`` of questions and answers, or ``facts``, one statement per line.
    """

    kind: Literal["pairs", "facts"] = "pairs"

    def __post_init__(self) -> None:
        check_config(self)


class Oracle(Baseline):
    """Writes the edit that knows the answers: the facts of an Almanac article, the questions of another passage with their
    answers, or the tools that suit a few-shot student.
    """

    uses_policy = False
    Config = OracleConfig
    config: OracleConfig

    @classmethod
    def incompatibility(cls, config: EnvConfig) -> str:
        return super().incompatibility(config) or DOMAINS.get(config.domain).oracle_problem(config)

    def predict(self, observations: Observations, infos: Infos | None = None, *, seed: SeedLike = 0) -> list[str]:
        if infos is None:
            raise ValueError("oracle needs the infos of the reset, which identify the tasks")
        edit = self.seal_env.engine.domain.oracle_edit
        return [edit(context, info["task_id"], self.config.kind) for context, info in zip(observations["context"], infos)]


@dataclass(frozen=True)
class FromFileConfig:
    """Hyperparameters of :class:`FromFile`.

    Attributes:
        path: JSON lines with ``context`` and ``edit``, or a JSON file of the authors' runs.
    """

    path: str = ""

    def __post_init__(self) -> None:
        check_config(self)
        if not self.path:
            raise ValueError("from_file needs path=: JSON lines with context and edit, or a JSON file of the authors' runs")


class FromFile(Baseline):
    """Reads edits from a file, by passage.

    Raises:
        ValueError: the file has another format, or no edit for a passage.
    """

    uses_policy = False
    Config = FromFileConfig
    config: FromFileConfig

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.edit_of = _read_edits(Path(self.config.path))

    def predict(self, observations: Observations, infos: Infos | None = None, *, seed: SeedLike = 0) -> list[str]:
        contexts = [context.strip() for context in observations["context"]]
        for context in contexts:
            if context not in self.edit_of:
                raise ValueError(f"{self.config.path} has no edit for the passage that begins {context[:60]!r}")
        return [self.edit_of[context] for context in contexts]


def _read_edits(path: Path) -> dict[str, str]:
    text = path.read_text(encoding="utf-8")
    try:
        if text.lstrip().startswith("{") and '"articles"' in text:
            rows = [(article["context"], article["completions"][0]["text"]) for article in json.loads(text)["articles"]]
        else:
            lines = [json.loads(line) for line in text.split("\n") if line.strip()]
            rows = [(line["context"], line["edit"]) for line in lines]
        return {context.strip(): edit for context, edit in rows}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{path} holds neither JSON lines with context and edit nor a run of SEAL's authors ({error!r})"
        ) from error
