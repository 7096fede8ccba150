"""Gymnasium's vector environments carry the same texts, and environments can be copied and pickled."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from gymnasium.vector.utils import create_shared_memory, read_from_shared_memory, write_to_shared_memory

import seal_env  # noqa: F401  (registers the ids)
from seal_env.envs import FreeText

FAST = {"inner_loop": {"epochs": 1, "batch_size": 0}, "lora": {"r": 2, "lora_alpha": 4}, "max_new_tokens": 2}
EDITS = ["The bridge was built in 1874.", "Its architect was Edda Marlin."]


def make_env() -> gym.Env:
    return gym.make("SEAL-SQuAD-v0", **FAST)


def play(envs: gym.vector.VectorEnv) -> tuple:
    observations, infos = envs.reset(seed=0)
    observations = copy.deepcopy(observations)  # with copy=False the next step overwrites them
    _, rewards, terminated, _, _ = envs.step(EDITS)
    envs.close()
    return observations, infos["task_id"].tolist(), rewards.tolist(), terminated.tolist()


@pytest.fixture(scope="module")
def expected() -> tuple:
    return play(gym.make_vec("SEAL-SQuAD-v0", num_envs=2, **FAST))


def check(actual: tuple, expected: tuple) -> None:
    for name, value in expected[0].items():
        if name == "adapter":
            np.testing.assert_array_equal(actual[0][name], value)
        else:
            assert actual[0][name] == value
    assert actual[1:] == expected[1:]


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("sync", {}),
        ("sync", {"copy": False}),
        ("async", {}),
        ("async", {"shared_memory": False}),
        ("async", {"context": "spawn"}),
    ],
)
def test_every_vectorization_mode_gives_the_same_results(expected, mode, options):
    envs = gym.make_vec("SEAL-SQuAD-v0", num_envs=2, vectorization_mode=mode, vector_kwargs=options, **FAST)
    assert isinstance(envs, AsyncVectorEnv if mode == "async" else SyncVectorEnv)
    check(play(envs), expected)


def test_without_copies_an_observation_is_a_view_of_the_current_texts():
    envs = AsyncVectorEnv([make_env, make_env], copy=False)
    observations, _ = envs.reset(seed=0)
    first = list(observations["context"])
    envs.reset(seed=7)
    second = list(observations["context"])
    envs.close()
    single, texts = make_env(), []
    for seed in (0, 1, 7, 8):
        texts.append(single.reset(seed=seed)[0]["context"])
    assert [first, second] == [texts[:2], texts[2:]]


def test_different_spaces_and_wrappers_carry_texts_too(expected):
    envs = AsyncVectorEnv([make_env, make_env], observation_mode="different")
    check(play(envs), expected)
    envs = gym.wrappers.vector.RecordEpisodeStatistics(AsyncVectorEnv([make_env, make_env]))
    check(play(envs), expected)


TEXTS = ["", "plain", "ünïcode 🦭 \0 \ud800", "語" * 1000]


def _write(space, memory) -> None:
    for i, text in enumerate(TEXTS):
        write_to_shared_memory(space, i, text, memory)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_any_text_passes_through_shared_memory(method):
    space, context = FreeText(1000), multiprocessing.get_context(method)
    memory = create_shared_memory(space, n=len(TEXTS), ctx=context)
    view = read_from_shared_memory(space, memory, n=len(TEXTS))
    assert copy.deepcopy(view) == ("",) * len(TEXTS)
    process = context.Process(target=_write, args=(space, memory))
    process.start()
    process.join()
    assert copy.deepcopy(view) == tuple(TEXTS)
    assert (len(view), view[1], view[1:3]) == (4, TEXTS[1], tuple(TEXTS[1:3]))
    write_to_shared_memory(space, 3, "short", memory)
    assert view[3] == "short"
    with pytest.raises(ValueError, match="at most 1000 characters"):
        write_to_shared_memory(space, 0, "x" * 1001, memory)


def test_shared_texts_use_only_the_memory_of_their_contents():
    before = _resident()
    memory = create_shared_memory(FreeText(1 << 23), n=32)  # a GiB of code points, if all of it were used
    write_to_shared_memory(FreeText(1 << 23), 31, "a text", memory)
    assert _resident() - before < 64 << 20


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_process_that_is_forked_after_an_update_does_not_hang():
    # OpenMP's threads do not survive a fork. The tests run with one thread, so this needs another process.
    code = (
        "import gymnasium as gym, seal_env, torch\n"
        f"fast = {FAST!r}\n"
        "torch.set_num_threads(2)\n"
        "warm = gym.make_vec('SEAL-SQuAD-v0', num_envs=2, **fast); warm.reset(seed=0)\n"
        f"rewards = warm.step({EDITS!r})[1]\n"
        "fork = {'vectorization_mode': 'async', 'vector_kwargs': {'context': 'fork'}}\n"
        "envs = gym.make_vec('SEAL-SQuAD-v0', num_envs=2, **fork, **fast)\n"
        "envs.reset(seed=0)\n"
        f"assert list(envs.step({EDITS!r})[1]) == list(rewards)\n"
        "envs.close()\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    completed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240)
    assert completed.returncode == 0, completed.stderr
    assert "was forked and computes with one thread" in completed.stderr


# Copies ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("vector", [False, True])
def test_a_copy_continues_as_the_environment_does(how, vector):
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=2, **FAST) if vector else make_env()
    edit = EDITS if vector else EDITS[0]
    env.reset(seed=3)
    other = how(env)
    assert other.unwrapped.engine.student.model is env.unwrapped.engine.student.model  # it never changes, so it is shared
    for _ in range(2):
        assert str(env.step(edit)) == str(other.step(edit))
        assert str(env.reset()) == str(other.reset())


def test_a_copy_has_its_own_merged_base():
    env = gym.make("SEAL-SQuAD-Continual-v0", carry="merge", **FAST)
    env.reset(seed=0)
    env.step(EDITS[0])
    other = copy.deepcopy(env)
    env.step(EDITS[1])  # changes the base of only one
    third = copy.deepcopy(other)
    assert str(other.step("It sank.")) == str(third.step("It sank."))
    assert str(env.reset(seed=5)) == str(other.reset(seed=5))  # both restart from the loaded base
    assert str(env.step("It sank.")) == str(other.step("It sank."))


def test_an_environment_on_an_executor_of_the_user_cannot_be_copied():
    from concurrent.futures import ProcessPoolExecutor

    env = make_env()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        env.unwrapped.score_on(executor)
        with pytest.raises(TypeError, match="executor of yours"):
            copy.deepcopy(env)


# Tokens that the student has no embedding for ------------------------------------------------------------------------------


def test_an_unknown_token_in_an_edit_is_a_status_and_in_a_passage_an_error(tmp_path):
    import json

    from tiny import COMMON, save_tiny

    folder = save_tiny(tmp_path / "model", "llama", **COMMON)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(folder)
    row = {"title": "Otrar", "context": "Otrar fell in 1219.", "question": "When?", "answer": "1219"}

    def make(**changed: str) -> gym.vector.VectorEnv:
        (tmp_path / "one.jsonl").write_text(json.dumps({**row, **changed}))
        options = {"model": folder, "dataset": str(tmp_path / "one.jsonl"), **FAST, "lora": {"r": 2}}
        return gym.make_vec("SEAL-SQuAD-v0", num_envs=3, **options)

    envs = make()
    envs.reset(seed=0)
    _, rewards, _, _, infos = envs.step(["A fine edit.", "Say <tool>.", "A fine edit."])
    assert list(infos["final_info"]["fit_status"]) == ["trained", "out_of_vocabulary", "trained"]
    assert infos["final_info"]["score"][1] == infos["final_info"]["score_before"][1] == rewards[1]
    with pytest.raises(ValueError, match=r"task 'one-0': the passage holds the token '<tool>'"):
        make(context="Otrar fell to a <tool>.").reset(seed=0)
    envs = make(question="Which <tool>?")
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"a prompt holds the token '<tool>'"):
        envs.step(["a", "b", "c"])
