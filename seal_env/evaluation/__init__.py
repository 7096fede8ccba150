"""How an updated student is questioned, graded and scored."""

from seal_env.evaluation.closed_book import ClosedBook, answered
from seal_env.evaluation.evaluator import Answers, Evaluator, Scores, Verdicts, mean
from seal_env.evaluation.grid_evaluator import VIEWS, GridEvaluator

__all__ = ["VIEWS", "Answers", "ClosedBook", "Evaluator", "GridEvaluator", "Scores", "Verdicts", "answered", "mean"]
