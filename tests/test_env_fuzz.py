"""2,000 actions of all kinds: none raises an error, and none changes the reward of another sub-environment.

There are 500 actions in each mode, each mode with another edit format. Every eighth sub-environment gets ordinary edits; its
rewards, observations and infos must equal those of a single environment to the last bit.
"""

from __future__ import annotations

import json
import random

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from seal_env.edits import EditStatus
from tests.test_envs import edits

NUM_ENVS, STEPS = 25, 20
ORDINARY = range(0, NUM_ENVS, 8)
PIECES = (
    *("Question 1:", "Question 2: Who?", "Answer:", "Answer: Edda.", "Implications:", "**Implications:**", "Thought Process:"),
    *(
        "---",
        "1.",
        "1. A fact.",
        "2. Another.",
        "Passage:",
        "</s>",
        "<s>",
        "{",
        "}",
        '"',
        "\\n",
        "\\",
        "```",
        "- ",
        "\t",
        "\r\n",
    ),
)
OBJECTS = (None, 3, 10**5000, 2.5, float("nan"), True, b"bytes", ["a", "list"], {"a": "dict"}, (), np.arange(3), object(), str)
LONG = ("a", " ", "\n", "word ", "🙂", "A fact.\n", "---", "Question 1:", "ש", "\ud800", "\x00")
FORWARDS_AND_BACKWARDS = (
    "שלום עולם",
    "مرحبا بالعالم",
    "\u202eabc\u202c",
    "e\u0301\u0302",
    "\u200b",
    "🏳️‍🌈",
    "\ufeff",
    "\ud83d",
    "\ude00",
)


def fuzzed(rng: random.Random) -> object:
    """One action; a long one in a hundred."""
    length = rng.randrange(120)
    texts = (
        lambda: "".join(rng.choice(" \n\t\r\v\u2028\u3000") for _ in range(rng.randrange(6))),
        lambda: "".join(chr(rng.randrange(0x110000)) for _ in range(length)),
        lambda: "".join(chr(rng.randrange(0x80)) for _ in range(length)),
        lambda: "\n".join(rng.choice(FORWARDS_AND_BACKWARDS) for _ in range(rng.randrange(6))),
        lambda: rng.choice(["\n", " ", ""]).join(rng.choice(PIECES) for _ in range(rng.randrange(12))),
        lambda: json.dumps({"learning_rate": rng.random(), "edit": rng.choice(PIECES)})[: rng.randrange(1, 60)],
        lambda: edits(1, rng.randrange(1000))[0],
        lambda: rng.choice(OBJECTS),
    )
    return (rng.choice(LONG) * 100_000)[:100_000] if rng.random() < 0.01 else rng.choice(texts)()


@pytest.fixture(scope="module")
def keywords(model_path, tmp_path_factory):
    """A small student and little text: short passages with one question each, and answers of two tokens."""
    source = tmp_path_factory.mktemp("tasks") / "tasks.jsonl"
    rows = [
        {"title": f"T{i}", "context": f"T{i} was built in {i}.", "questions": [{"question": "When?", "answer": f"{i}"}]}
        for i in range(40)
    ]
    source.write_text("\n".join(json.dumps(row) for row in rows))
    return {
        "model": model_path("llama"),
        "dataset": str(source),
        "lora": {"r": 2, "lora_alpha": 4},
        "inner_loop": {"epochs": 1, "max_length": 48, "max_sequences": 4},
        "max_new_tokens": 2,
        "reward": "tests.test_envs:mean_loss",
    }


@pytest.mark.parametrize(
    ("mode", "edit_format", "updates"),
    [("single", "implications", 1), ("refine", "self-qa", 3), ("continual", "chain-of-thought", 3), ("corpus", "none", 3)],
)
def test_no_action_raises_or_changes_other_sub_environments(keywords, mode, edit_format, updates):
    keywords = {**keywords, "mode": mode, "edit_format": edit_format, "updates_per_episode": updates}
    rng = random.Random(mode)
    envs = gym.make_vec("SEAL-SQuAD-v0", num_envs=NUM_ENVS, **keywords)
    singles = {i: gym.make("SEAL-SQuAD-v0", disable_env_checker=True, **keywords) for i in ORDINARY}
    envs.reset(seed=0)
    for i, single in singles.items():
        single.reset(seed=i)
    seen = set()
    for step in range(STEPS):
        actions = [edits(1, step * NUM_ENVS + i)[0] if i in singles else fuzzed(rng) for i in range(NUM_ENVS)]
        if step == 10:
            actions[1] = "x" * 1_000_000
        observations, rewards, terminated, truncated, infos = envs.step(actions)
        assert envs.observation_space.contains(observations) and np.isfinite(rewards).all() and not truncated.any()
        for i, action in enumerate(actions):
            info = info_of(infos, i)
            seen.add(info["status"])
            check(action, info)
            if i in singles:
                observation, reward, ended, _, single_info = singles[i].step(action)
                assert (reward, ended) == (rewards[i], terminated[i])
                assert data_equivalence(single_info, info, exact=True)
                last = infos["final_obs"][i] if ended else {name: column[i] for name, column in observations.items()}
                assert data_equivalence(observation, last, exact=True)
                if ended:
                    singles[i].reset()
    assert seen == {"ok", "not_text", "empty", "too_long", "too_many"}


def check(action: object, info: dict) -> None:
    """Invariants of every action's info."""
    assert info["status"] in {str(status) for status in EditStatus}
    assert (info["status"] == "not_text") == (not isinstance(action, str))
    if isinstance(action, str):
        assert (info["status"] == "too_long") == (len(action) > 200_000 and bool(action.strip()))
        assert info["status"] == "empty" or action.strip()
    if info.get("fit_status") == "nothing_to_train":
        assert info["gain"] == 0 and all(row["answer"] == row["answer_before"] for row in info["questions"])


def info_of(infos: dict, index: int) -> dict:
    """The info of a sub-environment's step, as a single environment returns it."""
    if infos.get("_final_info", np.zeros(NUM_ENVS, bool))[index]:
        infos = infos["final_info"]
    names = [name for name in infos if not name.startswith("_") and infos[f"_{name}"][index]]
    values = {name: infos[name][index] for name in names}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
