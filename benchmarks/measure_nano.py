"""What `seal-nano` can and cannot do: ``python -m benchmarks.measure_nano [--model FOLDER]``.

On test articles of the Almanac, whose entities the model never saw: open-book and closed-book accuracy, and closed-book
accuracy after the update on the passage alone, on the untrained policy's edits in each format, on the best of k of them
(chosen by one score, reported by another with fresh seeds), on hand-made facts and pairs, and on facts of which half are
wrong. Intervals are 95 %, by bootstrap over articles.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from peft import LoraConfig

from benchmarks.training.nano_corpus import FORMATS
from seal_env.edits import EditSettings, get_format, pairs_text, parse, passage_only
from seal_env.evaluation import ClosedBook
from seal_env.evaluation.graders import exact
from seal_env.evaluation.scoring import Scorer, ScoreRequest
from seal_env.files import write_json
from seal_env.presets import NANO_LORA, NANO_SETTINGS
from seal_env.student import Sampling, Student
from seal_env.tasks import Task, open_book_prompt
from seal_env.tasks.almanac import Almanac, Article, Names

MAX_EDIT_TOKENS = 256


@dataclass(frozen=True)
class Measure:
    """One row: accuracy in percent, with its interval.

    Attributes:
        scores: of each article.
    """

    name: str
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return 100 * float(np.mean(self.scores))

    def interval(self, resamples: int = 10_000) -> tuple[float, float]:
        """95 % interval of the mean, by percentile bootstrap over articles."""
        scores = np.asarray(self.scores)
        rng = np.random.default_rng(0)
        means = scores[rng.integers(0, len(scores), (resamples, len(scores)))].mean(1)
        low, high = np.quantile(means, (0.025, 0.975))
        return 100 * float(low), 100 * float(high)


def sample_edits(student: Student, prompts: Sequence[str], k: int, seed: int) -> list[list[str]]:
    """``k`` edits after each prompt, sampled as SEAL does: temperature 1, top-p 0.95."""
    rows = [prompt for prompt in prompts for _ in range(k)]
    seeds = [seed * 1_000_000 + i for i in range(len(rows))]
    (written,) = student.sample(
        student.zero(1), [rows], seeds=[seeds], sampling=Sampling(1.0, 0.95), max_new_tokens=MAX_EDIT_TOKENS
    )
    texts = [answer.text for answer in written]
    return [texts[i : i + k] for i in range(0, len(texts), k)]


def wrong_facts(article: Article, share: float = 0.5) -> str:
    """Plain facts, the first ``share`` of which are wrong."""
    rng = random.Random(f"{article.seed}/wrong")
    lines = []
    for i, fact in enumerate(article.facts):
        while i < share * len(article.facts):
            value = fact.relation.draw(rng, Names("test"))
            if value.text != fact.value:
                fact = fact.with_value(value)
                break
        lines.append(fact.statement(rng.randrange(1000)))
    return "\n".join(lines)


def facts_edit(article: Article) -> str:
    """Hand-made plain facts, one a line."""
    return "\n".join(article.oracle_facts())


def pairs_edit(article: Article) -> str:
    """Hand-made pairs in the form of a `self-qa` edit."""
    return pairs_text(article.oracle_pairs())


class Bench:
    """Articles, a student that answers about them, and the settings of its inner loop."""

    def __init__(self, student: Student, settings: EditSettings, articles: int, split: str = "test") -> None:
        almanac = Almanac()
        self.articles = [almanac.article(split, i) for i in range(articles)]
        self.tasks = [article.task for article in self.articles]
        self.student, self.settings = student, settings
        self.scorer = Scorer(student, ClosedBook(max_new_tokens=24))

    def score(self, tasks: Sequence[Task], edits: Sequence[str], name: str, seed: int) -> list[float]:
        """Score of each edit for its task; ``name`` is the format that it is written in."""
        settings = replace(self.settings, format=name)
        updates = [parse(edit, task, settings, seed * 10_000 + i).update for i, (edit, task) in enumerate(zip(edits, tasks))]
        requests = [ScoreRequest((task,), update) for task, update in zip(tasks, updates)]
        return [outcome.score for outcome in self.scorer.score(requests)]

    def open_book(self) -> list[float]:
        """Accuracy with the passage in view."""
        prompts = [[open_book_prompt(t.title, t.context, q.question) for q in t.questions] for t in self.tasks]
        groups = self.student.answer(self.student.zero(len(prompts)), prompts, max_new_tokens=24, stop=("\n",))
        return [
            float(np.mean([exact(answer.text.strip(), q.answers) for answer, q in zip(group, task.questions)]))
            for group, task in zip(groups, self.tasks)
        ]

    def closed_book(self) -> list[float]:
        """Accuracy without any update."""
        requests = [ScoreRequest((task,), parse("", task, self.settings, 0).update) for task in self.tasks]
        return [outcome.score for outcome in self.scorer.score(requests)]

    def passage_only(self) -> list[float]:
        """After the update on the passage, which SEAL appends to every edit: here it stands alone."""
        requests = [ScoreRequest((task,), passage_only(task, self.settings, i).update) for i, task in enumerate(self.tasks)]
        return [outcome.score for outcome in self.scorer.score(requests)]

    def oracle(self, write: Callable[[Article], str], name: str) -> list[float]:
        return self.score(self.tasks, [write(article) for article in self.articles], name, seed=1)

    def sampled(self, name: str, k: int) -> tuple[list[float], list[float], list[list[str]]]:
        """Mean score of ``k`` sampled edits an article, that of the best of them scored again, and the edits."""
        edit_format = get_format(name)
        edits = sample_edits(self.student, [edit_format.prompt(t) for t in self.tasks], k, seed=0)
        flat = [edit for group in edits for edit in group]
        scores = np.reshape(self.score([t for t in self.tasks for _ in range(k)], flat, name, seed=2), (-1, k))
        best = scores.argmax(1)
        again = self.score(self.tasks, [group[i] for group, i in zip(edits, best)], name, seed=3)
        return scores.mean(1).tolist(), again, edits


def speed(bench: Bench, passages: int = 48, k: int = 5) -> dict[str, float]:
    """Seconds to write, fit and ask ``passages * k`` edits."""
    tasks = bench.tasks[:passages]
    started = time.perf_counter()
    edits = sample_edits(bench.student, [get_format("implications").prompt(t) for t in tasks], k, seed=1)
    written = time.perf_counter()
    bench.score([t for t in tasks for _ in range(k)], [e for group in edits for e in group], "implications", seed=4)
    done = time.perf_counter()
    return {"write": written - started, "fit and ask": done - written, f"{passages * k} edits in all": done - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="seal-nano", help="bundled name or folder")
    parser.add_argument("--articles", type=int, default=200)
    parser.add_argument("--k", type=int, default=5, help="edits an article, of which the best is taken")
    parser.add_argument(
        "--search", action="store_true", help="instead: accuracy and cost of inner-loop settings, on validation"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    if arguments.search:
        record: object = search(arguments.model, arguments.articles)
    else:
        student = Student.from_pretrained(arguments.model, LoraConfig(**NANO_LORA))
        rows, seconds = measure(Bench(student, NANO_SETTINGS, arguments.articles), arguments.k)
        record = {
            "accuracy": {row.name: {"mean": row.mean, "interval": row.interval()} for row in rows},
            "articles": arguments.articles,
            "seconds": seconds,
        }
    if arguments.json:
        write_json(arguments.json, record)


OTHER_LORAS: tuple[dict[str, object], ...] = (
    {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]},
    {"r": 8, "lora_alpha": 16, "target_modules": ["gate_proj", "up_proj", "down_proj"]},
    {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
)
GRID = [
    {"batch_size": batch_size, "epochs": epochs, "learning_rate": learning_rate}
    for batch_size in (0, 1, 2)
    for epochs in (4, 6)
    for learning_rate in (5e-3, 1e-2, 2e-2)
]


def search(model: str, articles: int) -> list[dict[str, object]]:
    """Accuracy on validation articles, and seconds an edit, of one setting after another, printing each as it is known.

    All of ``GRID`` with the default adapter, then other adapters with the default settings.
    """
    found = []
    print(f"{'adapter':<20} {'batch':>5} {'epochs':>6} {'lr':>6} {'passage':>8} {'facts':>6} {'pairs':>6} {'s/edit':>7}")
    tried = [(NANO_LORA, NANO_SETTINGS.with_options(**point)) for point in GRID]
    for lora, settings in tried + [(lora, NANO_SETTINGS) for lora in OTHER_LORAS]:
        student = Student.from_pretrained(model, LoraConfig(**lora))
        bench = Bench(student, settings, articles, "validation")
        passage = 100 * float(np.mean(bench.passage_only()))
        started = time.perf_counter()
        facts = 100 * float(np.mean(bench.oracle(facts_edit, "implications")))
        pairs = 100 * float(np.mean(bench.oracle(pairs_edit, "self-qa")))
        seconds = (time.perf_counter() - started) / 2 / articles
        targets = lora["target_modules"]
        name = f"r={lora['r']} {targets if isinstance(targets, str) else '+'.join(t.split('_')[0] for t in targets)}"  # type: ignore[attr-defined]
        point = {name: getattr(settings.update_config, name) for name in ("batch_size", "epochs", "learning_rate")}
        print(
            f"{name:<20} {point['batch_size'] or 'all':>5} {point['epochs']:>6} {point['learning_rate']:>6}"
            f" {passage:>8.1f} {facts:>6.1f} {pairs:>6.1f} {seconds:>7.3f}",
            flush=True,
        )
        found.append({"lora": lora, **point, "passage": passage, "facts": facts, "pairs": pairs, "seconds_per_edit": seconds})
    return found


def measure(bench: Bench, k: int) -> tuple[list[Measure], dict[str, float]]:
    """Measure everything, printing each row as it is known."""
    rows: list[Measure] = []

    def add(name: str, scores: Sequence[float]) -> None:
        rows.append(Measure(name, tuple(scores)))
        low, high = rows[-1].interval()
        print(f"{name:<44} {rows[-1].mean:5.1f} %   [{low:5.1f}, {high:5.1f}]", flush=True)

    print(f"{len(bench.tasks)} test articles, {sum(len(t.questions) for t in bench.tasks)} questions")
    add("open book", bench.open_book())
    add("closed book, no update", bench.closed_book())
    add("passage only", bench.passage_only())
    for name in FORMATS:
        scores, best, edits = bench.sampled(name, k)
        add(f"untrained policy, {name}", scores)
        add(f"its best of {k}, scored afresh", best)
    add("hand-made facts, half of them wrong", bench.oracle(wrong_facts, "implications"))
    add("hand-made facts", bench.oracle(facts_edit, "implications"))
    add("hand-made pairs", bench.oracle(pairs_edit, "self-qa"))
    seconds = speed(bench)
    print(", ".join(f"{name}: {value:.1f} s" for name, value in seconds.items()))
    return rows, seconds


if __name__ == "__main__":
    main()
