"""seal-bench replay: the authors' runs come out as they were published, and synthetic runs as computed by hand."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from benchmarks.commands import replay
from benchmarks.replay import aggregation
from benchmarks.replay.grading import self_agreement
from benchmarks.replay.recordings import CONTINUAL, EVAL, FILES, JOINT, RUBRIC, SELECTION, TRAIN
from benchmarks.replay.replay_tables import Section
from seal_env.edits import get_format
from seal_env.evaluation.graders import Answered, Verdict
from seal_env.tasks import Document
from tests.shared import RUNS, needs_runs, needs_squad

ROW = "rank_iter0: mean / median / p90 / max"


def command(*arguments: object) -> dict[str, Section]:
    """The sections of ``seal-bench replay`` with these arguments, by the first word of a section's title."""
    parser = argparse.ArgumentParser(epilog=replay.EXAMPLES)
    replay.add_arguments(parser)
    sections = replay.run(parser.parse_args([str(argument) for argument in arguments]))
    return {section.title.split()[0].rstrip(",:"): section for section in sections}


def ours(section: Section, name: str) -> str:
    return str(section[name].ours)


# The authors' runs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> dict[str, Section]:
    return command(RUNS, "--grader", "exact,contains")


@needs_runs
def test_accuracies_are_the_published_ones(real):
    section = real["Evaluation"]
    printed = [ours(section, f"{name}: {EVAL[f'eval/{name}.json']}") for name in ("naive", "base", "iter2")]
    assert printed == ["33.5 ± 1.9", "39.7 ± 2.0", "47.0 ± 1.9"]
    assert ours(section, "base: before the update") == "32.7 ± 1.9"
    assert ours(real["Joint"], "cpt_full_iter2_200") == "58.2 ± 2.2"


@needs_runs
def test_containment_orders_the_models_as_gpt_4_1_did_and_exact_match_does_not(real):
    orders = [real["Evaluation"][f"order, by {name}"] for name in ("contains", "exact")]
    assert [row.recorded for row in orders] == ["naive < base < iter2"] * 2
    assert [row.recorded == row.ours for row in orders] == [True, False]


@needs_runs
def test_the_kept_rows_are_the_authors_and_only_rounding_tells_equal_edits_apart(real):
    section = real["Selection"]
    for file in SELECTION:
        name = Path(file).stem
        assert ours(section, f"{name}: rows by recorded scores") == ours(section, f"{name}: prompts") == "50 of 50"
        row = section[f"{name}: rows by verdicts"]
        others = 50 - int(str(row.ours).split()[0])
        assert 0 < others < 5 and row.note.startswith(f"{others} of the {others} others have equal scores")


@needs_runs
@needs_squad
def test_the_evaluation_is_rebuilt_from_squad(real):
    for name in ("naive", "base", "iter2"):
        assert ours(real["Tasks"], f"{name}: passages") == "200 of 200"
        assert ours(real["Tasks"], f"{name}: questions") == "974 of 974"


@needs_runs
def test_forgetting_is_the_published_one(real):
    printed = [str(row.ours) for row in real["Continual"].rows]
    assert printed == ["41.5", "24.7", "30.7", "16.7"]
    assert len(real["Continual"].lines) == 10


@needs_runs
def test_nothing_else_differs_from_what_was_published_or_recorded(real):
    differs = {row.name for section in real.values() for row in section.rows if "DIFFERS" in row.remark}
    assert differs == {f"{Path(file).stem}: rows by verdicts" for file in SELECTION} | {"order, by exact"}


@needs_runs
def test_rewards_are_noisy_and_the_rubric_says_little_of_them(real):
    section = real["Training"]
    assert ours(section, "implications: best of 5, as scored").startswith("54.3")
    assert ours(section, "implications: kept edits without gain") == "10 of 50"
    assert 0.25 < section["implications: reliability of a reward"].ours.value < 0.4
    assert 42 < section["implications: best of 5, worth"].ours.value < 46
    rubric = real["Rubric"]
    assert ours(rubric, "passages with the same edits") == "50 of 50"
    within = rubric["Pearson's r within passages"].ours
    assert within.interval[0] < 0.1 and within.interval[1] < rubric["highest possible r within passages"].ours.value
    for file in TRAIN:
        coverage = rubric[f"coverage (local proxy), {Path(file).stem}: r within passages"].ours
        assert 0 < coverage.interval[0] < 0.15 < coverage.value < 0.25


@needs_runs
def test_edits_are_cut_as_was_said_of_them(real):
    assert ours(real["Sequences"], ROW) == "8.7 / 7 / 11 / 67"
    assert ours(real["Sequences"], "cpt_full_iter2_200: all sequences") == "1200"


# Synthetic runs ---------------------------------------------------------------------------------------------------------

PASSAGES, EDITS, REPEATS = 4, 3, 2
SQUAD = [
    {
        "title": f"Town {i}",
        "context": f"Town {i} was founded in {1200 + i} by Queen {i}.",
        "questions": [
            {"question": f"When was {i}?", "answer": str(1200 + i)},
            {"question": f"Who {i}?", "answer": f"Queen {i}"},
        ],
    }
    for i in range(PASSAGES)
]


def shuffled() -> list[dict]:
    passages = list(SQUAD)
    random.seed(42)
    random.shuffle(passages)
    return passages


def article(passage: dict, name: str | None, edits: int, repeats: int, rng: random.Random) -> dict:
    completions = []
    for edit in range(edits):
        questions = [
            {
                "rep": rep,
                **question,
                "baseline_answer": "no idea",
                "adapter_answer": question["answer"] if (right := rng.random() < 0.6) else "1066",
                "baseline_correct": rng.random() < 0.2,
                "adapter_correct": right,
            }
            for rep in range(repeats)
            for question in passage["questions"]
        ]
        after = mean(q["adapter_correct"] for q in questions)
        stats_ = {"adapter_mean": after, "gain_mean": after - mean(q["baseline_correct"] for q in questions)}
        text = "\n".join(f"{n}. Fact {edit}." for n in range(1, edit + 2)) if name else ""
        completions.append({"text": text, "stats": stats_, "questions": questions})
    prompt = get_format(name).prompt(Document(passage["title"], passage["context"])) if name else ""
    return {**{key: passage[key] for key in ("title", "context")}, "prompt": prompt, "completions": completions}


def write_runs(folder: Path) -> dict[str, dict]:
    """Runs of every kind below ``folder``/runs, with SQuAD beside it; what was written, by file."""
    rng, written = random.Random(1), {}
    for file in EVAL:
        name = None if "naive" in file else "implications"
        articles = [article(passage, name, 1, 1, rng) for passage in shuffled()]
        overall = {"adapter_mean_accuracy": mean(article["completions"][0]["stats"]["adapter_mean"] for article in articles)}
        written[file] = {"overall": overall, "articles": articles}
    for file, name in TRAIN.items():
        written[file] = {"overall": {}, "articles": [article(passage, name, EDITS, REPEATS, rng) for passage in SQUAD]}
    proxy = json.loads(json.dumps(written["train/rank_iter0.json"]))
    for edit in (edit for article in proxy["articles"] for edit in article["completions"]):
        length, quality = rng.randrange(1, 6), rng.randrange(1, 6)
        edit["stats"] = {"adapter_mean": 0.0, "gain_mean": 0.0, "proxy_mean": float(length + quality)}
        edit.update(questions=[], proxy_scores=[{"length": length, "quality": quality, "final": length + quality}])
    written[RUBRIC] = {**proxy, "overall": {"mean_proxy_score": mean(scores(proxy, "proxy_mean").ravel())}}
    for file, source in SELECTION.items():
        chosen = [
            (article, article["completions"][scores(written[source])[i].argmax()])
            for i, article in enumerate(written[source]["articles"])
        ]
        written[file] = {"rows": [{"prompt": article["prompt"], "completion": edit["text"]} for article, edit in chosen]}
    questions = [question for passage in shuffled() for question in passage["questions"]]
    random.Random(42).shuffle(questions)
    right = [rng.random() < 0.5 for _ in questions[:6]]
    written[JOINT] = {
        "k_completions": 5,
        "train_sequences": PASSAGES * 6,
        "metrics": {"adapter_accuracy": mean(right)},
        "per_question": {
            "adapter_texts": [question["answer"] if is_right else "1066" for question, is_right in zip(questions, right)],
            "adapter_correct": right,
        },
        "args": {"split_newlines": False},
    }
    matrix = [[0.3, 0.2, 0.1], [0.5, 0, 0], [0.4, 0.6, 0], [0.1, 0.3, 0.8]]
    written[CONTINUAL] = {"mean_over_sequences": matrix, "n_sequences": 2}
    for file, data in written.items():
        (folder / "runs" / file).parent.mkdir(parents=True, exist_ok=True)
        lines = "\n".join(map(json.dumps, data["rows"])) if "rows" in data else json.dumps(data)
        (folder / "runs" / file).write_text(lines)
    (folder / "squad").mkdir()
    (folder / "squad" / "squad_val.json").write_text(json.dumps(SQUAD))
    return written


def scores(data: dict, key: str = "adapter_mean") -> np.ndarray:
    return np.array([[edit["stats"][key] for edit in article["completions"]] for article in data["articles"]])


@pytest.fixture
def written(tmp_path) -> dict[str, dict]:
    return write_runs(tmp_path)


def test_synthetic_runs_come_out_as_computed_by_hand(tmp_path, written):
    sections = command(tmp_path / "runs", "--grader", "exact")
    for file, source in EVAL.items():
        after, name = scores(written[file])[:, 0], Path(file).stem
        row = sections["Evaluation"][f"{name}: {source}"]
        assert row.ours.value == pytest.approx(100 * after.mean()) == pytest.approx(row.recorded.value)
        assert row.ours.error == pytest.approx(100 * stdev(after) / PASSAGES**0.5)
        by_exact = sections["Evaluation"][f"{name}, by exact"]
        assert by_exact.ours.value == pytest.approx(100 * after.mean())  # the synthetic verdicts are those of exact match
        assert by_exact.note == "agrees 100.0 %, too kind 0.0, too strict 0.0"
    right = written[JOINT]["per_question"]["adapter_correct"]
    assert sections["Joint"]["cpt_full_iter2_200"].ours.value == pytest.approx(100 * mean(right))
    assert ours(sections["Joint"], "answers that contain the gold answer") == f"{sum(right)} of 6"
    assert sections["Joint"]["cpt_full_iter2_200, by exact"].note == "agrees 100.0 %, too kind 0.0, too strict 0.0"
    for file, name in TRAIN.items():
        rewards, gains = scores(written[file]), scores(written[file], "gain_mean")
        best = sections["Training"][f"{name}: best of {EDITS}, as scored"]
        assert best.ours.value == pytest.approx(100 * rewards.max(1).mean())
        useless = sum(gain[reward.argmax()] <= 1e-9 for reward, gain in zip(rewards, gains))
        assert ours(sections["Training"], f"{name}: kept edits without gain") == f"{useless} of {PASSAGES}"
    rubric, real = scores(written[RUBRIC], "proxy_mean"), scores(written["train/rank_iter0.json"])
    assert sections["Rubric"]["Pearson's r, all edits"].ours.value == pytest.approx(
        stats.pearsonr(rubric.ravel(), real.ravel())[0]
    )
    assert sections["Rubric"]["Spearman's rho, all edits"].ours.value == pytest.approx(
        stats.spearmanr(rubric.ravel(), real.ravel())[0]
    )
    for file in SELECTION:
        assert ours(sections["Selection"], f"{Path(file).stem}: rows by recorded scores") == f"{PASSAGES} of {PASSAGES}"
    assert ours(sections["Sequences"], ROW) == "3.0 / 3 / 4 / 4"  # one, two or three lines, and the passage
    assert ours(sections["Sequences"], "cpt_full_iter2_200: all sequences") == str(PASSAGES * 6)
    assert ours(sections["Tasks"], "iter2: passages") == f"{PASSAGES} of {PASSAGES}"
    assert ours(sections["Tasks"], "iter2: questions") == f"{2 * PASSAGES} of {2 * PASSAGES}"
    assert [row.ours.value for row in sections["Continual"].rows] == pytest.approx([100 * 1.9 / 3, 40, 20, 100 * 0.7 / 3])


def test_coverage_is_held_against_the_real_reward(tmp_path, written):
    for file in TRAIN:
        for i, article in enumerate(written[file]["articles"]):
            texts = (f"It dates from {1200 + i}.", f"A Queen did it in {1200 + i}.", "It is a place.")
            for edit, text in zip(article["completions"], texts, strict=True):
                edit["text"] = text
        (tmp_path / "runs" / file).write_text(json.dumps(written[file]))
    section = command(tmp_path / "runs")["Rubric"]
    for file in TRAIN:
        rewards, coverage = scores(written[file]), np.tile([0.5, 1, 0], (PASSAGES, 1))
        proxy = f"coverage (local proxy), {Path(file).stem}"
        assert section[f"{proxy}: Pearson's r"].ours.value == pytest.approx(
            stats.pearsonr(coverage.ravel(), rewards.ravel())[0]
        )
        assert section[f"{proxy}: Spearman's rho"].ours.value == pytest.approx(
            stats.spearmanr(coverage.ravel(), rewards.ravel())[0]
        )
        centred = (rewards - rewards.mean(1, keepdims=True)).ravel()
        assert section[f"{proxy}: r within passages"].ours.value == pytest.approx(stats.pearsonr(coverage.ravel(), centred)[0])


def test_wrong_records_are_reported(tmp_path, written):
    naive = written["eval/naive.json"]
    naive["overall"]["adapter_mean_accuracy"] += 0.01
    naive["articles"][0]["context"] += " Or not."
    naive["articles"][1]["completions"][0]["questions"][0]["question"] += "?"
    (tmp_path / "runs/eval/naive.json").write_text(json.dumps(naive))
    rows = (tmp_path / "runs" / next(iter(SELECTION))).read_text().replace("Fact", "Fiction", 1)
    (tmp_path / "runs" / next(iter(SELECTION))).write_text(rows)
    sections = command(tmp_path / "runs")
    assert "DIFFERS from published; DIFFERS from recorded" in sections["Evaluation"]["naive: passage only"].remark
    assert ours(sections["Tasks"], "naive: passages") == f"{PASSAGES - 1} of {PASSAGES}"
    assert ours(sections["Tasks"], "naive: questions") == f"{2 * PASSAGES - 1} of {2 * PASSAGES}"
    assert ours(sections["Selection"], "sft_best1of5_iter0: rows by recorded scores") == f"{PASSAGES - 1} of {PASSAGES}"


def test_the_tables_are_printed_and_written_as_markdown(tmp_path, written, capsys):
    out = tmp_path / "new" / "replay.md"
    sections = command(tmp_path / "runs", "--out", out)
    printed, markdown = capsys.readouterr().out, out.read_text(encoding="utf-8")
    for section in sections.values():
        assert section.title in printed and f"## {section.title}" in markdown
        for row in section.rows:
            assert any(line.startswith(row.name) and str(row.ours) in line for line in printed.splitlines())
            assert f"| {row.name} |" in markdown
    for table in markdown.split("\n\n"):
        assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) <= 1


@pytest.mark.parametrize("file", FILES)
def test_rows_without_their_file_are_left_out_and_the_file_is_named(tmp_path, written, capsys, file):
    (tmp_path / "runs" / file).unlink()
    before = sum(len(section.rows) for section in command(tmp_path / "runs", "--grader", "contains").values())
    assert f"rows that need them are left out: {file})" in capsys.readouterr().out
    (tmp_path / "runs" / file).write_text("\n".join(map(json.dumps, written[file].get("rows", [written[file]]))))
    assert sum(len(section.rows) for section in command(tmp_path / "runs", "--grader", "contains").values()) > before


@pytest.mark.parametrize("file", FILES)
def test_one_file_alone_is_enough(tmp_path, written, file):
    for other in set(FILES) - {file}:
        (tmp_path / "runs" / other).unlink()
    sections = command(tmp_path / "runs", "--grader", "contains")
    assert file in SELECTION or any(section.rows for section in sections.values())


def test_without_squad_the_passages_are_left_out(tmp_path, written):
    (tmp_path / "squad" / "squad_val.json").unlink()
    section = command(tmp_path / "runs")["Tasks"]
    assert "passages and questions are left out" in section.notes[0]
    assert {row.name.partition(": ")[2] for row in section.rows} == {"prompts"}
    with pytest.raises(ValueError, match="elsewhere"):
        command(tmp_path / "runs", "--squad", tmp_path / "elsewhere.json")


def test_a_folder_without_runs_is_refused_in_a_line(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match="holds none of SEAL's recorded runs") as caught:
            command(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("text", ["{", "{}", "[]", "3", '{"articles": [{}], "overall": 3}', '{"articles": [], "overall": {}}'])
def test_a_broken_file_is_named(tmp_path, written, file, text):
    if file in SELECTION and text == "[]":
        text = "[3"
    (tmp_path / "runs" / file).write_text(text)
    with pytest.raises(ValueError, match=Path(file).name) as caught:
        command(tmp_path / "runs")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapter_correct": "yes"}, "adapter_correct must be bool, got 'yes'"),
        ({"baseline_answer": None}, "baseline_answer must be str, got None"),
        ({"answer": " "}, "answer must not be empty"),
        ({"answer": None}, "answer must not be empty, got None"),
        ({"rep": 7}, "the same number of edits"),
    ],
)
def test_a_wrong_question_is_named(tmp_path, written, change, message):
    data = written["train/rank_iter0.json"]
    data["articles"][1]["completions"][2]["questions"][0].update(change)
    (tmp_path / "runs" / "train/rank_iter0.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message) as caught:
        command(tmp_path / "runs")
    assert "rank_iter0.json" in str(caught.value)


# Graders ----------------------------------------------------------------------------------------------------------------


def generous(answered: Sequence[Answered], score: float = 1.0) -> list[Verdict]:
    return [score for _ in answered]


def test_graders_take_options_of_their_own(tmp_path, written):
    path = f"{__name__}:generous"
    section = command(tmp_path / "runs", "--grader", path, "--grader-options", "score=0.5")["Evaluation"]
    row = section[f"iter2, by {path}"]
    right = scores(written["eval/iter2.json"]).mean()
    assert row.ours.value == pytest.approx(50) and row.recorded.value == pytest.approx(100 * right)
    assert row.note == f"agrees 50.0 %, too kind {50 * (1 - right):.1f}, too strict {50 * right:.1f}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grader", "exat"], "Did you mean 'exact'"),
        (["--grader", "exact", "--grader-options", "score=1"], "grader 'exact': no option 'score'"),
        (["--grader", "exact,contains", "--grader-options", "contains.score=1"], "grader 'contains': no option 'score'"),
        (["--grader", "exact", "--grader-options", "contains.score=1"], "must be one of exact, got 'contains'"),
        (["--grader", "exact", "--grader-options", "score"], "takes KEY=VALUE, got 'score'"),
        (["--grader-options", "score=1"], "say which --grader"),
    ],
)
def test_unusable_graders_are_named(tmp_path, written, arguments, message):
    with pytest.raises(ValueError, match=message):
        command(tmp_path / "runs", *arguments)


def test_gpt_4_1_is_held_against_itself():
    item, other = (Answered("When?", answer, ("1219",)) for answer in ("1219", "1220"))
    assert self_agreement([(item, True), (other, False)]) is None
    assert self_agreement([(item, True), (item, True), (item, False), (other, False)]) == (pytest.approx(1 / 3), 1)


# Statistics -------------------------------------------------------------------------------------------------------------


def test_reliability_is_that_of_an_analysis_of_variance():
    samples = np.random.default_rng(0).normal(size=(7, 4, 3)) + np.random.default_rng(1).normal(size=(7, 4, 1))
    between = mean(3 * np.var(passage.mean(1), ddof=1) for passage in samples)
    inside = mean(np.var(edit, ddof=1) for passage in samples for edit in passage)
    assert aggregation.reliability(samples) == pytest.approx(1 - inside / between)
    assert aggregation.reliability(np.repeat(samples[..., :1], 3, axis=-1)) == pytest.approx(1)


def test_means_of_passages_do_not_affect_correlations_within_them():
    rng = np.random.default_rng(0)
    easy = 10 * rng.normal(size=(200, 1))
    x, y = rng.normal(size=(2, 200, 5)) + easy
    assert aggregation.pearson(x, y) > 0.9 > 0.1 > abs(aggregation.within(x, y))
    figure = aggregation.over_passages(aggregation.within, x, y)
    assert figure.interval[0] < figure.value < figure.interval[1]
    assert aggregation.over_passages(aggregation.within, x[:1], y[:1]).interval is None
