"""Outcomes do not depend on where they are computed, and losing workers costs only time."""

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
from seal_env.distributed import ProcessPool, StudentSpec, WorkerMismatch, WorkersLost, chunked
from seal_env.distributed.dispatcher import estimated_cost
from seal_env.distributed.worker import BaseVersion, ChunkContext, run_chunk
from seal_env.student.requests import GenerationConfig, UpdateRequest
from tests.processes import needs_proc, running, still_running, tagged_environment

NUM_ENVS = 6
SMALL: dict[str, object] = {"inner_loop": {"epochs": 2}, "lora": {"r": 2, "lora_alpha": 4}, "max_new_tokens": 8}


@pytest.fixture(autouse=True)
def small_student(model_path) -> None:
    SMALL["model"] = model_path("toy")


def play(env: gym.vector.VectorEnv, seed: int = 0) -> list[str]:
    """Rewards, infos and adapters of two steps in each sub-environment."""
    results = []
    observations, _ = env.reset(seed=seed)
    for part in (slice(0, 80), slice(40, 200)):
        edits = [context[part] for context in observations["context"]]
        edits[1] = ""  # trains nothing, so no prompt is answered
        observations, rewards, _, _, infos = env.step(edits)
        results += [repr(rewards.tolist()), repr(infos), repr(np.asarray(observations.get("adapter", 0)).tobytes())]
    return results


def make(**options: object) -> gym.vector.VectorEnv:
    return gym.make_vec("SEAL-SQuAD-v0", num_envs=NUM_ENVS, **{**SMALL, **options}).unwrapped


def play_on(executor: Executor, **options: object) -> list[str]:
    env = make(**options)
    env.score_on(executor)
    return play(env)


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


# The same numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["single", "refine", "continual"])
def test_outcomes_on_spawned_processes_are_those_of_this_process(processes, mode):
    options = {} if mode == "single" else {"mode": mode, "updates_per_episode": 2, "adapter_observation": "none"}
    assert play_on(processes, **options) == play(make(**options))


def test_outcomes_on_threads_are_those_of_this_process():
    with ThreadPoolExecutor(3) as executor:
        assert play_on(executor) == play(make())


def test_few_shot_tasks_are_scored_on_workers_too(processes):
    def outcomes(executor: Executor | None) -> list[str]:
        env = gym.make_vec("SEAL-ARC-v0", num_envs=3, **{**SMALL, "inner_loop": {"max_examples": 4}}).unwrapped
        if executor:
            env.score_on(executor)
        env.reset(seed=0)
        edit = env.config.oracle().text()
        return [repr(part) for part in env.step([edit, "{}", edit])[1:]]

    assert outcomes(processes) == outcomes(None)


def test_workers_follow_a_base_that_changes(processes):
    """SEAL's student becomes the policy after each round; here two students share the workers."""

    def rounds(executor: Executor | None) -> list[list[str]]:
        changing, fixed = make(), make()
        for env in (changing, fixed):
            if executor:
                env.score_on(executor)
        results = []
        student = changing.engine.student
        for seed in range(2):
            adapter = student.fresh([seed])[0] + 0.01
            changing.load_student({**student.model.state_dict(), **student.merged_weights(adapter)})
            student = changing.engine.student
            results += [play(changing), play(fixed)]
        return results

    expected = rounds(None)
    assert expected[0] != expected[2] and expected[1] == expected[3]  # the base matters, and the other student's does not
    assert rounds(processes) == expected


def test_the_executor_is_a_keyword():
    env = make(executor="spawn", workers=1)
    try:
        assert play(env) == play(make())
    finally:
        env.close()


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    module = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        yield
        module.shutdown()


def test_outcomes_on_ray_are_those_of_this_process_even_if_a_worker_is_killed(ray, caplog):
    local, on_ray = make(), make(executor="ray", workers=2)
    expected = play(local)
    assert play(on_ray) == expected
    for env in (local, on_ray):
        student = env.engine.student
        env.load_student({**student.model.state_dict(), **student.merged_weights(student.fresh([1])[0] + 0.01)})
    changed = play(local)
    children = psutil.Process().children(recursive=True)
    victims = [child for child in children if "ray::Worker" in " ".join(child.cmdline())]
    assert victims  # the other may not have started yet
    victims[0].kill()
    with caplog.at_level(logging.WARNING, "seal_env.distributed"):
        assert play(on_ray) == changed != expected
    assert "a worker died" in caplog.text


def test_more_workers_than_ray_has_cpus_get_one_line(ray):
    make(executor="ray", workers=1)  # starts Ray, with the CPUs of this machine
    with pytest.raises(ValueError, match="100000 workers need a CPU each, and Ray has"):
        make(executor="ray", workers=100_000)


# Errors -----------------------------------------------------------------------------------------------------------------


def test_an_executor_that_forks_raises_an_error():
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor,
        pytest.raises(ValueError, match="forks its workers, which then have torch's locks but not its threads"),
    ):
        make().score_on(executor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "fork"}, "executor must be one of spawn, ray, got 'fork'"),
        ({"executor": "spawn", "workers": 0}, "workers must be an integer >= 1, got 0"),
        ({"workers": 2}, "workers=2 needs executor='spawn' or 'ray'"),
    ],
)
def test_bad_options_get_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_worker_with_another_student_raises_an_error():
    spec = make().engine._student_spec
    generation, requests = GenerationConfig(4, return_adapters=False), [UpdateRequest(("Hello",))]

    def on_a_thread(context: ChunkContext) -> Future:
        return executor.submit(run_chunk, context, requests, generation)

    with ThreadPoolExecutor(1) as executor:  # one thread, so one student
        assert on_a_thread(ChunkContext(spec, BaseVersion())).result()[0].texts
        load = make().engine.student.model.state_dict
        assert on_a_thread(ChunkContext(spec, BaseVersion("me", 2, load))).result()[0].texts
        with pytest.raises(WorkerMismatch, match="for version 1 of the base, and this worker has version 2"):
            on_a_thread(ChunkContext(spec, BaseVersion("me", 1, load))).result()
        parts = {"model": spec.model, "device": "cpu", "dtype": "float32", "trust_remote_code": False, "lora": spec.lora}
        with pytest.raises(WorkerMismatch, match="has other weights on this worker than on the driver"):
            on_a_thread(ChunkContext(StudentSpec(**parts, base="another"), BaseVersion())).result()
        with pytest.raises(WorkerMismatch, match=r"this worker has seal-env .*, and the driver 0.0.0"):
            on_a_thread(ChunkContext(StudentSpec(**parts, base=spec.base, package="0.0.0"), BaseVersion())).result()


# Chunks ----------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(1, 1e6), max_size=200), st.integers(1, 40), st.integers(1, 20), st.integers(1, 5))
def test_chunks_hold_every_request_once_and_the_longest_come_first(costs, workers, max_size, min_size):
    chunks = chunked(costs, workers, max_size=max_size, min_size=min(min_size, max_size))
    flat = [i for chunk in chunks for i in chunk]
    assert sorted(flat) == list(range(len(costs)))
    assert all(costs[a] >= costs[b] for a, b in zip(flat, flat[1:]))
    assert all(1 <= len(chunk) <= max_size for chunk in chunks)
    assert len(chunks) >= min(workers, len(costs))


def test_workers_stay_busy_and_end_at_about_the_same_time():
    rng = random.Random(0)
    costs = [rng.lognormvariate(0, 1) for _ in range(400)]
    ends = [0.0] * 8
    for chunk in chunked(costs, 8):  # the next free worker pulls it
        free = min(range(8), key=ends.__getitem__)
        ends[free] += sum(costs[i] for i in chunk)
    assert sum(ends) / (8 * max(ends)) > 0.95


def test_the_estimated_cost_grows_with_the_training():
    env = make()
    config = env.engine.domain.parse("Some text to learn.", env.engine.source[0], 0).update
    assert estimated_cost(UpdateRequest(("?",), config)) > estimated_cost(UpdateRequest(("?",)))


# Lost workers ----------------------------------------------------------------------------------------------------------


class Killing(ProcessPool):
    """Processes, one of which is killed after each of the first ``kills`` chunks was submitted."""

    def __init__(self, count: int, kills: int) -> None:
        super().__init__(count)
        self.kills = kills

    def submit(self, *arguments):
        future = super().submit(*arguments)
        if self.kills:
            self.kills -= 1
            victim = random.Random(self.kills).choice(list(self.executor()._processes.values()))
            threading.Timer(0.05, victim.kill).start()
        return future


def test_a_killed_worker_costs_only_time(caplog):
    env, expected = make(), play(make())
    env.engine._pool = Killing(2, kills=1)
    env.engine.scorer = env.engine._make_scorer()
    with caplog.at_level(logging.WARNING, "seal_env.distributed"):
        assert play(env) == expected
    assert "a worker died" in caplog.text and "(retry 1 of 3)" in caplog.text
    # Killed again and again: an error, after which the same environment works.
    env.engine._pool.kills = 10**9
    with pytest.raises(WorkersLost, match="workers died 4 times with the same edits"):
        play(env)
    env.engine._pool.kills = 0
    assert play(env) == expected


class BreaksDuringSubmit(ProcessPoolExecutor):
    """Loses its worker while the second chunk is submitted: before it is recorded, or before another worker is started."""

    moment = "record"

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)
        pool = self

        class WorkItems(dict):
            def __setitem__(self, number, item):
                if number == 1 and pool.moment == "record":
                    pool.lose_a_worker()
                super().__setitem__(number, item)

        self._pending_work_items = WorkItems()

    def _adjust_process_count(self) -> None:
        if self._queue_count == 2 and self.moment == "start":
            self.lose_a_worker()
        super()._adjust_process_count()

    def lose_a_worker(self) -> None:
        type(self).moment = "over"
        for process in self._processes.values():
            process.kill()
        while not self._call_queue._reader.closed:
            time.sleep(0.01)


@pytest.mark.parametrize(("moment", "workers"), [("record", 1), ("start", 2)])
def test_a_pool_that_breaks_during_submit_costs_only_time(moment, workers, monkeypatch, caplog):
    monkeypatch.setattr("seal_env.distributed.dispatcher.LOG_INTERVAL", 1.0)
    monkeypatch.setattr("seal_env.distributed.pools.ProcessPoolExecutor", BreaksDuringSubmit)
    monkeypatch.setattr(BreaksDuringSubmit, "moment", moment)
    env = make()
    env.engine._pool = ProcessPool(workers)
    env.engine.scorer = env.engine._make_scorer()
    with caplog.at_level(logging.WARNING, "seal_env.distributed"):
        assert play(env) == play(make())
    assert BreaksDuringSubmit.moment == "over" and "a worker died" in caplog.text


def test_an_executor_of_the_user_is_not_replaced():
    class Broken(Executor):
        def submit(self, *_):
            raise BrokenExecutor("gone")

    env = make()
    env.score_on(Broken())
    with pytest.raises(WorkersLost, match="the executor lost a worker and accepts no more work: make a new one"):
        play(env)


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


def test_a_script_that_closes_nothing_prints_no_errors(tmp_path):
    (tmp_path / "script.py").write_text(DRIVER.partition("    while")[0])
    command = [sys.executable, str(tmp_path / "script.py"), "spawn", json.dumps(SMALL)]
    completed = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert completed.returncode == 0 and completed.stdout == "scored\n"
    assert "ignored" not in completed.stderr and "Error" not in completed.stderr and "leaked" not in completed.stderr


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
