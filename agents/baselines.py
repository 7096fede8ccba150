"""Lines to compare with, through the same contract: they learn nothing and spend nothing of a budget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.base import Agent, Round, Seeds, seeds_of
from agents.seeding import derive_seed
from seal_env.checks import check_at_least
from seal_env.domains import DOMAINS, EnvConfig


class Baseline(Agent):
    """An agent that does not learn."""

    def round(self, budget: int) -> Round | None:
        return None


class NoUpdate(Baseline):
    """No self-edit: the student as it is."""

    writes = False

    def predict(
        self, observations: Mapping[str, Any], infos: Sequence[Mapping[str, Any]] | None = None, *, seed: Seeds = 0
    ) -> list[str]:
        return [""] * len(observations["context"])


class PassageOnly(Baseline):
    """The passage itself, and nothing else (the paper's baseline without self-edits)."""

    writes = False

    @classmethod
    def misfit(cls, config: EnvConfig) -> str:
        few_shot = "passage_only is for passages: a few-shot task's edit is a choice of tools"
        return super().misfit(config) or ("" if DOMAINS.get(config.domain).context_is_edit else few_shot)

    def predict(
        self, observations: Mapping[str, Any], infos: Sequence[Mapping[str, Any]] | None = None, *, seed: Seeds = 0
    ) -> list[str]:
        return list(observations["context"])


class Untrained(Baseline):
    """The policy as it was made."""


@dataclass(frozen=True)
class BestOfKConfig:
    """How many edits are tried.

    Attributes:
        k: edits a task, each of which is scored; the best is predicted, to be scored again.
    """

    k: int = 5

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)


class BestOfK(Baseline):
    """The best of k edits of the untrained policy: an upper line, since it scores every edit on the very questions.

    Its own environment must hold the tasks that it is asked about.
    """

    Config = BestOfKConfig
    config: BestOfKConfig

    def predict(
        self, observations: Mapping[str, Any], infos: Sequence[Mapping[str, Any]] | None = None, *, seed: Seeds = 0
    ) -> list[str]:
        if infos is None:
            raise ValueError("best_of_k needs the infos of the reset: it scores edits of the same tasks")
        tasks, k = [int(info["task_indices"][0]) for info in infos], self.config.k
        seeds = [derive_seed(one, "best_of_k", i) for one in seeds_of(seed, len(tasks)) for i in range(k)]
        scored = self.collect(tasks, k, seeds=seeds)
        return [max(scored[i : i + k], key=lambda one: one.reward).completion.text for i in range(0, len(scored), k)]


@dataclass(frozen=True)
class OracleConfig:
    """What is written by hand.

    Attributes:
        kind: about an article, ``pairs``, questions with their answers, or ``facts``, plain statements, one a line.
    """

    kind: str = "pairs"

    def __post_init__(self) -> None:
        if self.kind not in ("pairs", "facts"):
            raise ValueError(f"kind must be pairs or facts, got {self.kind!r}")


class Oracle(Baseline):
    """What a careful person would write: the facts of an Almanac article, or the tools that suit a few-shot student."""

    writes = False
    Config = OracleConfig
    config: OracleConfig

    @classmethod
    def misfit(cls, config: EnvConfig) -> str:
        return super().misfit(config) or DOMAINS.get(config.domain).oracle_problem(config)

    def predict(
        self, observations: Mapping[str, Any], infos: Sequence[Mapping[str, Any]] | None = None, *, seed: Seeds = 0
    ) -> list[str]:
        if infos is None:
            raise ValueError("oracle needs the infos of the reset: they name the tasks")
        edit = self.seal.engine.domain.oracle_edit
        return [edit(context, info["task_id"], self.config.kind) for context, info in zip(observations["context"], infos)]


@dataclass(frozen=True)
class FromFileConfig:
    """Where the edits are.

    Attributes:
        path: JSON lines with ``context`` and ``edit``, or a JSON file of the authors' runs.
    """

    path: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("from_file needs path=: JSON lines with context and edit, or a JSON file of the authors' runs")


class FromFile(Baseline):
    """Edits that somebody wrote before, by passage.

    Raises:
        ValueError: the file is neither of the two, or has no edit for a passage that is asked about.
    """

    writes = False
    Config = FromFileConfig
    config: FromFileConfig

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.written = _read_edits(Path(self.config.path))

    def predict(
        self, observations: Mapping[str, Any], infos: Sequence[Mapping[str, Any]] | None = None, *, seed: Seeds = 0
    ) -> list[str]:
        contexts = [context.strip() for context in observations["context"]]
        for context in contexts:
            if context not in self.written:
                raise ValueError(f"{self.config.path} has no edit for the passage that begins {context[:60]!r}")
        return [self.written[context] for context in contexts]


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
