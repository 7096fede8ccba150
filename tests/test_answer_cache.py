"""Answers before the update are kept on disk for large models; here every model counts as large."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from seal_env.evaluation import ClosedBook, answer_cache
from seal_env.evaluation.scoring import Scorer, ScoreRequest
from seal_env.student import Student
from seal_env.tasks import Question, Task
from seal_env.update import Update, UpdateConfig

QUESTIONS = (Question("When?", ("1219",)), Question("Who?", ("Nobody",)))
TASKS = [Task(f"Otrar {i}", "It fell in 1219.", QUESTIONS) for i in range(3)]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(answer_cache, "LEAST_PARAMETERS", 0)
    return tmp_path / "seal-env" / "answers"


def before(student: Student, tasks: list[Task] = TASKS, **options) -> list[tuple[str, ...]]:
    """The answers before the update, by a new scorer as in a new process."""
    scorer = Scorer(student, ClosedBook(max_new_tokens=6, **options))
    outcomes = scorer.score([ScoreRequest((task,), Update((), UpdateConfig())) for task in tasks])
    return [outcome.results[0].answers_before for outcome in outcomes]


def change(folder: Path) -> None:
    """Write another answer into every file."""
    for path in folder.rglob("*.json"):
        path.write_text(json.dumps(["from the file"] * len(json.loads(path.read_text()))))


def test_answers_are_read_from_disk_as_they_were_generated(model_path, folder):
    student = Student.from_pretrained(model_path("toy"))
    answers = before(student)
    assert len(list(folder.rglob("*.json"))) == 3
    assert before(Student.from_pretrained(model_path("toy"))) == answers
    change(folder)
    assert before(Student.from_pretrained(model_path("toy")), TASKS[:2]) == [("from the file",) * 2] * 2


def test_another_model_other_settings_and_damaged_files_are_not_mistaken(model_path, folder):
    student = Student.from_pretrained(model_path("toy"))
    answers = before(student)
    change(folder)
    assert ("from the file",) * 2 not in before(Student.from_pretrained(model_path("qwen2")))
    assert ("from the file",) * 2 not in before(student, stop=("1",))
    for path, text in zip(sorted(folder.rglob("*.json")), ("{", "[1, 2]", '["one"]')):
        path.write_text(text)
    for path in list(folder.rglob("*.json"))[3:]:
        path.unlink()
    assert before(student) == answers


def test_a_base_that_was_changed_has_no_cache(model_path, folder):
    student = Student.from_pretrained(model_path("toy"))
    before(student)
    change(folder)
    scorer = Scorer(student, ClosedBook(max_new_tokens=6))
    adapter = student.fresh([0])[0] + 0.1 * torch.randn(student.adapter_size, generator=torch.Generator().manual_seed(0))
    student.merge(adapter)
    files = len(list(folder.rglob("*.json")))
    (outcome,) = scorer.score([ScoreRequest((TASKS[0],), Update((), UpdateConfig()))])
    assert "from the file" not in outcome.results[0].answers_before
    assert ("from the file",) * 2 not in before(student)
    # Another student of the model whose weights were changed in place.
    assert ("from the file",) * 2 not in before(Student(student.model, student.tokenizer))
    assert len(list(folder.rglob("*.json"))) >= files


def test_small_models_have_no_cache(model_path, folder, monkeypatch):
    monkeypatch.setattr(answer_cache, "LEAST_PARAMETERS", 50_000_000)
    before(Student.from_pretrained(model_path("toy")))
    assert not folder.exists()
