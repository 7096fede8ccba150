"""How a student is asked after an update, and how its answers are marked: one file for each kind of task."""

from seal_env.exams.base import Answers, Exam, Marks, Verdicts, mean
from seal_env.exams.closed_book import ClosedBook, answered
from seal_env.exams.grids import VIEWS, GridExam

__all__ = ["VIEWS", "Answers", "ClosedBook", "Exam", "GridExam", "Marks", "Verdicts", "answered", "mean"]
