"""Read the runs that SEAL's authors recorded (knowledge incorporation) into this project's tasks and results.

recordings = read(Path("seal_runs"))
recordings.runs["eval/iter2.json"].articles[0].edits[0].text
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seal_env.edits import EditSettings
from seal_env.evaluation import answered
from seal_env.evaluation.graders import Answered
from seal_env.evaluation.scoring import TaskResult
from seal_env.tasks import Document, Task
from seal_env.tasks.records import from_records
from seal_env.tasks.tables import read_json, read_records

EVAL = {  # file: what wrote its edits
    "eval/naive.json": "passage only",
    "eval/base.json": "untrained model's edits",
    "eval/iter2.json": "edits after two rounds",
}
TRAIN = {  # file: format of its edits
    "train/rank_iter0.json": "implications",
    "train/rank_iter0_prompt-rewrite.json": "rewrite",
    "train/rank_iter0_prompt-self-qa.json": "self-qa",
}
RUBRIC = "train/rank_iter0_proxy.json"  # the edits of rank_iter0, scored by a rubric
SELECTION = {  # file: the run that was selected from
    "selection/sft_best1of5_iter0.jsonl": "train/rank_iter0.json",
    "selection/sft_best1of5_iter0_prompt-rewrite.jsonl": "train/rank_iter0_prompt-rewrite.json",
}
JOINT = "eval/cpt_full_iter2_200.json"
CONTINUAL = "continual/overall_results.json"
FILES = (*EVAL, *TRAIN, RUBRIC, *SELECTION, JOINT, CONTINUAL)
FORMATS = {**TRAIN, RUBRIC: "implications", "eval/base.json": "implications", "eval/iter2.json": "implications"}
_JUDGED = {"baseline_answer": str, "baseline_correct": bool, "adapter_answer": str, "adapter_correct": bool}


@dataclass(frozen=True)
class Edit:
    """A recorded self-edit.

    Attributes:
        results: one per adapter run; none where a rubric rated the edit instead.
        score: recorded score after the update.
        gain: recorded gain.
        rubric: the rubric's score.
        criteria: the rubric's scores on each criterion, which sum to ``rubric``.
    """

    text: str
    results: tuple[TaskResult, ...]
    score: float
    gain: float
    rubric: float | None = None
    criteria: tuple[float, ...] = ()

    @property
    def scores(self) -> list[float]:
        """Accuracy after the update, of each adapter run."""
        return [result.score for result in self.results]

    @property
    def graded(self) -> bool:
        """Whether any of its answers has a verdict; recorded answers all have one."""
        return any(result.graded for result in self.results)

    @property
    def reward(self) -> float:
        """The reward as the environment computes it."""
        return float(np.mean([result.score for result in self.results if result.graded] or [0.0]))

    @property
    def before(self) -> float:
        """Accuracy before the update."""
        return float(np.mean([result.score_before for result in self.results]))


@dataclass(frozen=True)
class Article:
    """A passage and the edits that were sampled for it."""

    document: Document
    prompt: str
    edits: tuple[Edit, ...]

    @property
    def task(self) -> Task:
        """The passage with its questions."""
        return self.edits[0].results[0].task


@dataclass(frozen=True)
class Run:
    """A recorded run; ``overall`` is its recorded summary."""

    overall: Mapping[str, Any]
    articles: tuple[Article, ...]

    @property
    def edits(self) -> list[Edit]:
        return [edit for article in self.articles for edit in article.edits]

    @property
    def results(self) -> list[TaskResult]:
        return [result for edit in self.edits for result in edit.results]


@dataclass(frozen=True)
class Joint:
    """One update on the edits of all passages: the answers to its questions, with verdicts.

    Attributes:
        accuracy: recorded accuracy.
        sequences: recorded number of training sequences.
        edits: per passage.
    """

    accuracy: float
    sequences: int
    edits: int
    answers: tuple[str, ...]
    verdicts: tuple[bool, ...]
    settings: EditSettings


@dataclass(frozen=True)
class Recordings:
    """Everything in a folder of recorded runs.

    Attributes:
        runs: by file.
        kept: prompts and edits that ReST-EM kept, by file.
        joint: the joint update.
        continual: accuracy ``matrix`` of the continual sequences, ``(updates + 1, passages)``, and their number.
        missing: files that are not in the folder.
    """

    runs: Mapping[str, Run]
    kept: Mapping[str, list[tuple[str, str]]]
    joint: Joint | None
    continual: Mapping[str, Any] | None
    missing: tuple[str, ...]


def answers_of(result: TaskResult, before: bool = False) -> list[tuple[Answered, bool]]:
    """The answers after the update, or before it, each with GPT-4.1's verdict."""
    texts, verdicts = (result.answers_before, result.correct_before) if before else (result.answers, result.correct)
    return list(zip(answered(result.task, texts), map(bool, verdicts)))


def read(folder: Path) -> Recordings:
    """The recorded runs in ``folder``.

    Raises:
        ValueError: the folder has none of them, or a file is broken.
    """
    paths = {name: folder / name for name in FILES if (folder / name).is_file()}
    if not paths:
        raise ValueError(f"{folder} holds none of SEAL's recorded runs: {', '.join(FILES)}")
    runs = {*EVAL, *TRAIN, RUBRIC}
    return Recordings(
        runs={name: _read(path, _run) for name, path in paths.items() if name in runs},
        kept={name: _read(path, _kept) for name, path in paths.items() if name in SELECTION},
        joint=_read(paths[JOINT], _joint) if JOINT in paths else None,
        continual=_read(paths[CONTINUAL], _continual) if CONTINUAL in paths else None,
        missing=tuple(name for name in FILES if name not in paths),
    )


def _read(path: Path, parse: Callable[[Path], Any]) -> Any:
    try:
        return parse(path)
    except KeyError as error:
        raise ValueError(f"{path} is not what SEAL's authors recorded: no key {error}") from error
    except (TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} is not what SEAL's authors recorded: {error}") from error


def _run(path: Path) -> Run:
    data = read_json(path)
    articles = tuple(_article(article, f"{path}, article {i}") for i, article in enumerate(data["articles"], 1))
    if not articles:
        raise ValueError(f"{path} holds no article")
    shapes = {(len(article.edits), *(len(edit.results) for edit in article.edits)) for article in articles}
    if len(shapes) > 1 or len(set(next(iter(shapes))[1:])) != 1:
        raise ValueError(f"{path}: every article must have the same number of edits, and every edit of adapter runs")
    run = Run({**data["overall"]}, articles)
    if path.name == Path(RUBRIC).name:
        if any(edit.rubric is None for edit in run.edits):
            raise ValueError(f"{path}: an edit has no proxy_mean")
    elif not run.results:
        raise ValueError(f"{path} holds no question with its answers")
    return run


def _article(data: Mapping[str, Any], where: str) -> Article:
    edits = tuple(_edit(edit, data, f"{where}, edit {i}") for i, edit in enumerate(data["completions"], 1))
    return Article(Document(data["title"], data["context"]), data["prompt"], edits)


def _edit(data: Mapping[str, Any], article: Mapping[str, Any], where: str) -> Edit:
    by_run: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for record in data["questions"]:
        by_run[record["rep"]].append(record)
    results = tuple(_result(by_run[rep], article, where) for rep in sorted(by_run))
    rubric_scores = data.get("proxy_scores") or [{}]
    criteria = tuple(float(score) for name, score in rubric_scores[0].items() if name != "final")
    summary = data["stats"]
    return Edit(data["text"], results, summary["adapter_mean"], summary["gain_mean"], summary.get("proxy_mean"), criteria)


def _result(records: Sequence[Mapping[str, Any]], article: Mapping[str, Any], where: str) -> TaskResult:
    for number, record in enumerate(records, 1):
        if not str(record["answer"] or "").strip():  # from_records would skip it, and shift the recorded answers
            raise ValueError(f"{where}, question {number}: answer must not be empty, got {record['answer']!r}")
    questions = [{"question": record["question"], "answer": record["answer"]} for record in records]
    (task,) = from_records([(where, {"title": article["title"], "context": article["context"], "questions": questions})], where)
    for record in records:
        for key, kind in _JUDGED.items():
            if not isinstance(record[key], kind):
                raise ValueError(f"{where}: {key} must be {kind.__name__}, got {record[key]!r}")
    return TaskResult.from_verdicts(
        task,
        answers_before=tuple(record["baseline_answer"] for record in records),
        answers=tuple(record["adapter_answer"] for record in records),
        correct_before=tuple(record["baseline_correct"] for record in records),
        correct=tuple(record["adapter_correct"] for record in records),
    )


def _kept(path: Path) -> list[tuple[str, str]]:
    return [(row["prompt"], row["completion"]) for _, row in read_records(path)]


def _joint(path: Path) -> Joint:
    data = read_json(path)
    joint = Joint(
        accuracy=data["metrics"]["adapter_accuracy"],
        sequences=data["train_sequences"],
        edits=data["k_completions"],
        answers=tuple(data["per_question"]["adapter_texts"]),
        verdicts=tuple(data["per_question"]["adapter_correct"]),
        settings=EditSettings(split_newlines=data["args"]["split_newlines"]),
    )
    if not all(isinstance(answer, str) for answer in joint.answers):
        raise ValueError(f"{path}: adapter_texts must be text")
    if len(joint.answers) != len(joint.verdicts) or not joint.answers:
        raise ValueError(f"{path}: {len(joint.verdicts)} verdicts on {len(joint.answers)} answers")
    return joint


def _continual(path: Path) -> Mapping[str, Any]:
    data = read_json(path)
    count = len(data["mean_over_sequences"]) - 1
    if count < 1 or any(len(row) != count for row in data["mean_over_sequences"]):
        raise ValueError(f"{path}: mean_over_sequences must be n + 1 rows of n passages")
    return {"matrix": np.array(data["mean_over_sequences"], float), "sequences": data["n_sequences"]}
