"""Outcomes are the same wherever they are computed, and losing workers costs time and nothing else."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import gymnasium as gym
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seal_env  # noqa: F401
from seal_env.distributed import ProcessPool, Recipe, Refused, WorkersLost, chunked
from seal_env.distributed.dispatcher import cost
from seal_env.distributed.worker import BaseVersion, ChunkContext, do
from seal_env.student.requests import GenerationConfig, UpdateRequest
from tests.processes import needs_proc, running, still_running, tagged_environment

PLACES = 6
SMALL: dict[str, object] = {"inner_loop": {"epochs": 2}, "lora": {"r": 2, "lora_alpha": 4}, "max_new_tokens": 8}


@pytest.fixture(autouse=True)
def small_student(model_path) -> None:
    SMALL["model"] = model_path("toy")


def played(env: gym.vector.VectorEnv, seed: int = 0) -> list[str]:
    """All that two steps in each place come to: rewards, infos and adapters."""
    found = []
    observations, _ = env.reset(seed=seed)
    for part in (slice(0, 80), slice(40, 200)):
        edits = [context[part] for context in observations["context"]]
        edits[1] = ""  # nothing to learn: nobody is asked
        observations, rewards, _, _, infos = env.step(edits)
        found += [repr(rewards.tolist()), repr(infos), repr(np.asarray(observations.get("adapter", 0)).tobytes())]
    return found


def made(**options: object) -> gym.vector.VectorEnv:
    return gym.make_vec("SEAL-SQuAD-v0", num_envs=PLACES, **{**SMALL, **options}).unwrapped


def score_on(executor: Executor, **options: object) -> list[str]:
    env = made(**options)
    env.score_on(executor)
    return played(env)


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


# The same numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["single", "refine", "continual"])
def test_outcomes_on_spawned_processes_are_those_of_this_process(processes, mode):
    options = {} if mode == "single" else {"mode": mode, "updates_per_episode": 2, "adapter_observation": "none"}
    assert score_on(processes, **options) == played(made(**options))


def test_outcomes_on_threads_are_those_of_this_process():
    with ThreadPoolExecutor(3) as executor:
        assert score_on(executor) == played(made())


def test_few_shot_tasks_are_scored_elsewhere_too(processes):
    def outcomes(executor: Executor | None) -> list[str]:
        env = gym.make_vec("SEAL-ARC-v0", num_envs=3, **{**SMALL, "inner_loop": {"max_examples": 4}}).unwrapped
        if executor:
            env.score_on(executor)
        env.reset(seed=0)
        edit = env.config.oracle().text()
        return [repr(part) for part in env.step([edit, "{}", edit])[1:]]

    assert outcomes(processes) == outcomes(None)


def test_workers_follow_a_base_that_changes(processes):
    """SEAL's student becomes the policy after each round; two students take turns at the same workers."""

    def rounds(executor: Executor | None) -> list[list[str]]:
        changing, fixed = made(), made()
        for env in (changing, fixed):
            if executor:
                env.score_on(executor)
        found = []
        student = changing.engine.student
        for seed in range(2):
            adapter = student.fresh([seed])[0] + 0.01
            changing.load_student({**student.model.state_dict(), **student.merged_weights(adapter)})
            student = changing.engine.student
            found += [played(changing), played(fixed)]
        return found

    expected = rounds(None)
    assert expected[0] != expected[2] and expected[1] == expected[3]  # the base matters, and the other student's does not
    assert rounds(processes) == expected


def test_where_edits_are_scored_is_a_keyword():
    env = made(executor="spawn", workers=1)
    try:
        assert played(env) == played(made())
    finally:
        env.close()


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        yield
        ray.shutdown()


def test_outcomes_on_ray_are_those_of_this_process_even_if_a_worker_is_killed(ray_here, caplog):
    here, there = made(), made(executor="ray", workers=2)
    expected = played(here)
    assert played(there) == expected
    for env in (here, there):
        student = env.engine.student
        env.load_student({**student.model.state_dict(), **student.merged_weights(student.fresh([1])[0] + 0.01)})
    changed = played(here)
    victims = [one for one in psutil.Process().children(recursive=True) if "ray::Worker" in " ".join(one.cmdline())]
    assert victims  # the other one may not have begun yet
    victims[0].kill()
    with caplog.at_level(logging.WARNING, "seal_env.distributed"):
        assert played(there) == changed != expected
    assert "a worker died" in caplog.text


def test_more_workers_than_ray_has_cpus_get_one_line(ray_here):
    made(executor="ray", workers=1)  # there is a Ray now, however many CPUs it has
    with pytest.raises(ValueError, match="100000 workers need a CPU each, and Ray has"):
        made(executor="ray", workers=100_000)


# What is refused -------------------------------------------------------------------------------------------------------


def test_an_executor_that_forks_is_refused():
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor,
        pytest.raises(ValueError, match="forks its workers, which then have torch's locks but not its threads"),
    ):
        made().score_on(executor)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"executor": "fork"}, "executor must be one of spawn, ray, got 'fork'"),
        ({"executor": "spawn", "workers": 0}, "workers must be an integer >= 1, got 0"),
        ({"workers": 2}, "workers=2 needs executor='spawn' or 'ray'"),
    ],
)
def test_bad_options_get_one_line(options, said):
    with pytest.raises(ValueError, match=said):
        made(**options)


def test_a_worker_refuses_what_it_cannot_do_as_it_is_meant():
    recipe = made().engine._recipe
    generation, request = GenerationConfig(4, adapters=False), [UpdateRequest(("Hello",))]

    def on_a_thread(context: ChunkContext) -> Future:
        return executor.submit(do, context, request, generation)

    with ThreadPoolExecutor(1) as executor:  # one thread, so one student
        assert on_a_thread(ChunkContext(recipe, BaseVersion())).result().done[0].texts
        student = made().engine.student

        class Changed:
            def load(self):
                return student.model.state_dict()

        assert on_a_thread(ChunkContext(recipe, BaseVersion("me", 2, Changed()))).result().base.number == 2
        with pytest.raises(Refused, match="for version 1 of the base, and this worker is at 2 by now"):
            on_a_thread(ChunkContext(recipe, BaseVersion("me", 1, Changed()))).result()
        parts = {"model": recipe.model, "device": "cpu", "dtype": "float32", "trust_remote_code": False, "lora": recipe.lora}
        with pytest.raises(Refused, match="has other weights than where the work was sent from"):
            on_a_thread(ChunkContext(Recipe(**parts, base="another"), BaseVersion())).result()
        with pytest.raises(Refused, match=r"this worker has seal-env .*, and what sent the work 0.0.0"):
            on_a_thread(ChunkContext(Recipe(**parts, base=recipe.base, package="0.0.0"), BaseVersion())).result()


# Portions --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(1, 1e6), max_size=200), st.integers(1, 40), st.integers(1, 20), st.integers(1, 5))
def test_portions_hold_everything_once_and_the_longest_come_first(costs, workers, most, least):
    chunks = chunked(costs, workers, most=most, least=min(least, most))
    flat = [i for chunk in chunks for i in chunk]
    assert sorted(flat) == list(range(len(costs)))
    assert all(costs[a] >= costs[b] for a, b in zip(flat, flat[1:]))
    assert all(1 <= len(chunk) <= most for chunk in chunks)
    assert len(chunks) >= min(workers, len(costs))


def test_all_workers_have_something_to_do_and_end_at_about_the_same_time():
    rng = random.Random(0)
    costs = [rng.lognormvariate(0, 1) for _ in range(400)]
    ends = [0.0] * 8
    for chunk in chunked(costs, 8):  # pulled by whoever is free
        free = min(range(8), key=ends.__getitem__)
        ends[free] += sum(costs[i] for i in chunk)
    assert sum(ends) / (8 * max(ends)) > 0.95


def test_what_an_edit_costs_grows_with_its_epochs():
    env = made()
    plan = env.engine.domain.parse("Some text to learn.", env.engine.source[0], 0).plan
    assert cost(UpdateRequest(("?",), plan)) > cost(UpdateRequest(("?",)))


# Lost workers ----------------------------------------------------------------------------------------------------------


class Killing(ProcessPool):
    """Processes of which one is killed after each of the first ``kills`` portions was sent."""

    def __init__(self, count: int, kills: int) -> None:
        super().__init__(count)
        self.kills = kills

    def submit(self, *what):
        future = super().submit(*what)
        if self.kills:
            self.kills -= 1
            victim = random.Random(self.kills).choice(list(self.executor()._processes.values()))
            threading.Timer(0.05, victim.kill).start()
        return future


def test_a_killed_worker_costs_time_and_nothing_else(caplog):
    env, expected = made(), played(made())
    env.engine._pool = Killing(2, kills=1)
    env.engine.scorer = env.engine._make_scorer()
    with caplog.at_level(logging.WARNING, "seal_env.distributed"):
        assert played(env) == expected
    assert "a worker died" in caplog.text and "(retry 1 of 3)" in caplog.text
    # Killed again and again: an error, after which the same environment works.
    env.engine._pool.kills = 10**9
    with pytest.raises(WorkersLost, match="workers died 4 times with the same edits"):
        played(env)
    env.engine._pool.kills = 0
    assert played(env) == expected


class BreaksWhileItTakesWork(ProcessPoolExecutor):
    """It loses its worker while it takes the second portion: before it notes that down, or before it starts another worker."""

    moment = "note"

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        pool = self

        class Noted(dict):
            def __setitem__(self, number, item):
                if number == 1 and pool.moment == "note":
                    pool.lose_a_worker()
                super().__setitem__(number, item)

        self._pending_work_items = Noted()

    def _adjust_process_count(self) -> None:
        if self._queue_count == 2 and self.moment == "start":
            self.lose_a_worker()
        super()._adjust_process_count()

    def lose_a_worker(self) -> None:
        type(self).moment = "never again"
        for process in self._processes.values():
            process.kill()
        while not self._call_queue._reader.closed:
            time.sleep(0.01)


@pytest.mark.parametrize(("moment", "workers"), [("note", 1), ("start", 2)])
def test_a_pool_that_breaks_while_it_takes_work_costs_time_and_nothing_else(moment, workers, monkeypatch, caplog):
    monkeypatch.setattr("seal_env.distributed.dispatcher.TELL", 1.0)
    monkeypatch.setattr("seal_env.distributed.pools.ProcessPoolExecutor", BreaksWhileItTakesWork)
    monkeypatch.setattr(BreaksWhileItTakesWork, "moment", moment)
    env = made()
    env.engine._pool = ProcessPool(workers)
    env.engine.scorer = env.engine._make_scorer()
    with caplog.at_level(logging.WARNING, "seal_env.distributed"):
        assert played(env) == played(made())
    assert BreaksWhileItTakesWork.moment == "never again" and "a worker died" in caplog.text


def test_somebody_elses_executor_is_not_replaced():
    class Broken(Executor):
        def submit(self, *_):
            raise BrokenExecutor("gone")

    env = made()
    env.score_on(Broken())
    with pytest.raises(WorkersLost, match="the executor lost a worker and takes no more work: make a new one"):
        played(env)


DRIVER = """
import json, sys
import gymnasium as gym
import seal_env

if __name__ == "__main__":
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=2, executor=sys.argv[1], workers=2, **json.loads(sys.argv[2]))
    observations, _ = env.reset(seed=0)
    env.step(list(observations["context"]))
    print("scored", flush=True)
    while True:
        env.step(list(observations["context"]))
"""


def test_a_script_that_closes_nothing_ends_without_a_word(tmp_path):
    (tmp_path / "script.py").write_text(DRIVER.partition("    while")[0])
    command = [sys.executable, str(tmp_path / "script.py"), "spawn", json.dumps(SMALL)]
    ended = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert ended.returncode == 0 and ended.stdout == "scored\n"
    assert "ignored" not in ended.stderr and "Error" not in ended.stderr and "leaked" not in ended.stderr


@needs_proc
@pytest.mark.parametrize("executor", ["spawn", "ray"])
def test_a_driver_that_is_killed_leaves_no_process_behind(executor, tmp_path):
    if executor == "ray":
        pytest.importorskip("ray")
    (tmp_path / "driver.py").write_text(DRIVER)
    environment, tag = tagged_environment(tmp_path)
    environment.pop("RAY_ADDRESS", None)
    driver = subprocess.Popen(
        [sys.executable, str(tmp_path / "driver.py"), executor, json.dumps(SMALL)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout.readline() == "scored\n"
    assert len(running(tag)) >= 3  # itself and two workers
    driver.kill()
    driver.wait()
    assert not still_running(tag)
