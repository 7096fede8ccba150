"""seal-bench tune, and the effects of edits that it measures, with the bundled model."""

from __future__ import annotations

import json

import pytest
import yaml

from benchmarks.cli import main
from benchmarks.measurements.effects import EffectScorer
from benchmarks.measurements.search import Trial
from seal_env.edits import gold_pairs, gold_statements, half_wrong_statements
from seal_env.student import Sampling
from seal_env.tasks import Question, Task

GRID = ["--learning-rates", "3e-3,1e-2", "--epochs", "1,3", "--batch-sizes", "0,2", "--temperatures", "0.7,1.0"]
GRID += ["--ranks", "4", "--targets", "all-linear,q_proj+v_proj", "--edit-tokens", "24", "--tasks", "3"]
TASK = Task("Otrar", "It fell.", tuple(Question(f"What is {i}?", (answer,)) for i, answer in enumerate(["a", "b", "b", "c"])))


def tune(out, *arguments: str) -> int:
    return main(["tune", "--env", "SEAL-SQuAD-v0", "--out", str(out), *GRID, *arguments])


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    out = tmp_path_factory.mktemp("tune") / "new"
    assert tune(out) == 0
    return out


def lines(out) -> list[Trial]:
    return [Trial(**json.loads(line)) for line in (out / "trials.jsonl").read_text().splitlines()]


def test_a_search_tries_every_setting_and_chooses_the_cheapest_of_the_best(searched):
    trials = lines(searched)
    loops = [trial for trial in trials if trial.tasks == 1]
    assert len({json.dumps(trial.inner_loop) for trial in loops}) == len(loops) == 8
    everything = [trial for trial in trials if trial.tasks == 3]
    # The best two of eight loops, then two adapters, then the other temperature.
    assert len(everything) == 2 + 2 + 1
    assert {trial.temperature for trial in everything} == {0.7, 1.0}
    assert {str(trial.lora["target_modules"]) for trial in everything} == {"all-linear", "['q_proj', 'v_proj']"}
    by_accuracy = sorted(loops, key=lambda trial: -trial.accuracy)
    assert {json.dumps(trial.inner_loop) for trial in everything} == {json.dumps(trial.inner_loop) for trial in by_accuracy[:2]}
    for trial in trials:
        assert 0 <= trial.gold <= 1 and 0 <= trial.own <= 1 and trial.seconds > 0 and trial.tokens > 0
    same_sequences = {trial.inner_loop["epochs"]: trial.tokens for trial in loops}
    assert same_sequences[3] == pytest.approx(3 * same_sequences[1])
    chosen = yaml.safe_load((searched / "chosen.yaml").read_text())
    (own,) = [
        trial
        for trial in everything
        if (chosen["env_options"], chosen["policy"]["temperature"])
        == ({"lora": trial.lora, "inner_loop": trial.inner_loop}, trial.temperature)
    ]
    assert own.accuracy >= max(trial.accuracy for trial in everything) - 3 * 0.01  # a tolerance of a point in each step


def test_a_search_continues_and_is_not_mixed_with_another(searched, capsys):
    before, chosen = (searched / "trials.jsonl").read_bytes(), (searched / "chosen.yaml").read_bytes()
    with (searched / "trials.jsonl").open("a") as file:
        file.write('{"lora": {')  # as if it had been killed while it wrote a line
    assert tune(searched) == 0
    assert (searched / "trials.jsonl").read_bytes() == before and (searched / "chosen.yaml").read_bytes() == chosen
    assert "chosen" in capsys.readouterr().out
    assert tune(searched, "--top-p", "0.9") == 2
    assert "holds a search with other arguments" in capsys.readouterr().err
    assert tune(searched.parent / "missing", "-P", "dataset=missing.json") == 2
    assert "no file or folder 'missing.json'" in capsys.readouterr().err and not (searched.parent / "missing").exists()
    assert main(["tune", "--env", "SEAL-ARC-v0", "--out", str(searched.parent / "arc"), *GRID]) == 2
    assert "domain='knowledge'" in capsys.readouterr().err


def test_gold_edits_have_the_answers_and_wrong_ones_half_of_them():
    assert gold_statements(TASK).splitlines()[1] == 'The answer to "What is 1?" is b.'
    assert gold_pairs(TASK).splitlines()[:2] == ["Question 1: What is 0?", "Answer: a"]
    wrong = [line.split()[-1] for line in half_wrong_statements(TASK).splitlines()]
    assert wrong == ["b.", "b.", "c.", "c."]  # the first and the third are of other questions


def test_gold_edits_teach_and_the_batch_changes_nothing():
    scorer = EffectScorer("SEAL-SQuAD-v0", 4, split="validation")
    gold = [gold_statements(task) for task in scorer.tasks]
    effects = scorer.effects(gold)
    assert sum(effect.score for effect in effects) > sum(effect.score for effect in scorer.closed_book())
    scorer.batch = 1
    assert [effect.score for effect in scorer.effects(gold)] == [effect.score for effect in effects]
    assert len(scorer.open_book()) == 4
    edits = scorer.write("self-qa", Sampling(0.7), 16)
    assert edits == scorer.write("self-qa", Sampling(0.7), 16) and len(set(edits)) == 4
    with pytest.raises(ValueError, match="3 tasks were asked for, and the split has 2"):
        EffectScorer("SEAL-SQuAD-v0", 3, split="validation", limit=2)
