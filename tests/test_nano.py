"""The bundled student does what its model card says, on a few test articles; `benchmarks.measure_nano` measures all of it."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import seal_env  # noqa: F401 (registers the ids)
from benchmarks.measure_nano import NanoBenchmark, facts_edit, pairs_edit, wrong_facts
from seal_env.edits import pairs_text
from seal_env.models import bundled_folder, bundled_models
from seal_env.tasks.almanac import Almanac


@pytest.fixture(scope="module")
def benchmark() -> NanoBenchmark:
    return NanoBenchmark(articles=16)


def test_it_is_a_small_standard_folder():
    folder = bundled_folder("seal-nano")
    assert bundled_models() == ["seal-nano", "seal-nano-arc"] and bundled_folder("another") is None
    assert sum(path.stat().st_size for path in Path(folder).iterdir()) < 12e6
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = "né\x00🙂 1,250\n\tEnd"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert model.config.model_type == "llama" and sum(p.numel() for p in model.parameters()) < 3e6


def test_it_reads_well_and_knows_nothing_of_what_it_never_saw(benchmark):
    assert np.mean(benchmark.open_book()) > 0.9
    assert np.mean(benchmark.closed_book()) < 0.1


def test_what_it_is_taught_matters(benchmark):
    passage = np.mean(benchmark.passage_only())
    facts = np.mean(benchmark.written("implications", facts_edit))
    pairs = np.mean(benchmark.written("self-qa", pairs_edit))
    wrong = np.mean(benchmark.written("implications", wrong_facts))
    edits = [edit for (edit,) in benchmark.sample_edits("implications", benchmark.tasks, k=1, seed=0)]
    untrained = np.mean(benchmark.score_edits("implications", benchmark.tasks, edits, seed=2))
    assert passage < untrained < facts and passage < 0.4 and pairs > 0.75
    assert wrong < facts - 0.2


def test_it_writes_edits_of_varied_quality(benchmark):
    tasks = benchmark.tasks[:8]
    edits = benchmark.sample_edits("implications", tasks, k=5, seed=1)
    repeated, flat = [task for task in tasks for _ in range(5)], [text for texts in edits for text in texts]
    scores = np.reshape(benchmark.score_edits("implications", repeated, flat, seed=2), (8, 5))
    assert (scores.max(1) > scores.min(1)).mean() > 0.7
    assert all(len(set(texts)) > 1 for texts in edits)


def test_the_default_environment_works_at_once_and_pairs_beat_echoes():
    envs = gym.make_vec("SEAL-SQuAD-v0", num_envs=8)
    observations, infos = envs.reset(seed=0, options={"task": list(range(8))})
    almanac = Almanac()
    articles = [almanac.article_of(name) for name in infos["task_id"]]
    assert [article.context for article in articles] == list(observations["context"])
    _, echoes, *_ = envs.step([context.replace(". ", ".\n") for context in observations["context"]])
    envs.reset(seed=0, options={"task": list(range(8))})
    _, pairs, *_ = envs.step([pairs_text(article.oracle_pairs()) for article in articles])
    assert pairs.mean() > echoes.mean() + 0.4


def test_the_loop_in_the_readme_runs(capsys):
    text = (Path(__file__).parents[1] / "README.md").read_text()
    block = text.split("## The environment")[1].split("```python\n")[1].split("```")[0]
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("'gold'") == 3
