"""Domains behind one interface: one from outside, the reference of all keywords, and what an import loads."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agents import evaluate, get_agent
from benchmarks.cli import main
from examples.my_domain import ReversedConfig, ReversedDomain
from seal_env.domains import DOMAINS, EnvConfig, domain_of, from_keywords, keyword_reference
from seal_env.envs import SealEnv, ToolChoices
from seal_env.registration import ENVIRONMENTS

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "datasets", "peft")
PATH = "examples.my_domain:ReversedDomain"


@pytest.fixture
def options(model_path):
    return {"model": model_path("toy"), "lora": {"r": 2}, "inner_loop": {"epochs": 30, "learning_rate": 1e-2}}


def test_a_domain_from_outside_is_one_file(options):
    env = gym.make("Reversed-v0", render_mode="ansi", **options)
    observation, info = env.reset(seed=0, options={"task": 1})
    assert observation["context"] == "stone" and "the word stone" in observation["instruction"]
    assert "stone" in env.render()
    _, reward, terminated, _, info = env.step("What is stone backwards?\nenots")
    assert terminated and reward == info["score"] and info["fit_status"] == "trained"
    assert [(row["question"], row["gold"]) for row in info["questions"]] == [("What is stone backwards?", "enots")]
    assert all(part in env.render() for part in ("stone", "self-edit (ok)", "enots"))
    assert isinstance(env.unwrapped.config, ReversedConfig) and isinstance(env.unwrapped.engine.domain, ReversedDomain)
    check_env(gym.make("Reversed-v0", **options).unwrapped, skip_render_check=True)


def test_a_domain_is_named_by_its_path_or_given_as_the_class(options):
    rewards = []
    for domain in ("reversed", PATH, ReversedDomain):
        env = gym.make("SEAL-SQuAD-v0", domain=domain, render_mode="rgb_array", **options)
        env.reset(seed=3)
        assert env.render().shape[0] == 8
        rewards.append(env.step("A lamp.")[4]["questions"])
        assert env.unwrapped.config.domain in ("reversed", PATH)
    assert rewards[0] == rewards[1] == rewards[2]


def test_agents_play_in_a_domain_from_outside(options):
    envs = gym.make_vec("Reversed-v0", num_envs=2, render_mode="rgb_array", words="lamp stone", **options)
    for name, edits in (
        ("oracle", ["What is lamp backwards?\npmal", "What is stone backwards?\nenots"]),
        ("passage_only", ["lamp", "stone"]),
        ("no_update", ["", ""]),
    ):
        results = evaluate(get_agent(name)(envs, None), envs, [0, 1])
        assert [result.edit for result in results] == edits
    assert [image.dtype for image in envs.render()] == [np.uint8] * 2
    assert get_agent("tool_ppo").incompatibility(from_keywords({"domain": "reversed"}))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"domain": "reversd"}, r"no domain 'reversd'. Did you mean 'reversed'\?"),
        ({"domain": "pathlib:Path"}, "must be a subclass of seal_env.domains.Domain"),
        ({"domain": 7}, "must be a subclass of seal_env.domains.Domain"),
        ({"mode": "corpus"}, "mode must be one of single, refine, continual, got 'corpus'"),
        ({"reward": "proxy"}, "domain 'reversed' has no proxy"),
        ({"wrds": "a b"}, "no option 'wrds'. Did you mean 'words'"),
        ({"render_mode": "human"}, "render_mode must be one of ansi, rgb_array or None in domain 'reversed', got 'human'"),
    ],
)
def test_what_a_domain_does_not_support_is_named(options, keywords, message):
    with pytest.raises(ValueError, match=message):
        gym.make("Reversed-v0", **{**options, **keywords})


def test_only_choices_of_tools_are_wrapped_as_numbers(options):
    with pytest.raises(TypeError, match="SEAL-ARC-v0"):
        ToolChoices(gym.make("Reversed-v0", **options))


# The reference of keywords ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["knowledge", "arc", "reversed"])
def test_every_keyword_has_a_type_a_default_and_a_sentence(name):
    config_class = DOMAINS.get(name).Config
    rows = keyword_reference(config_class)
    assert [row.name for row in rows] == [f.name for f in fields(config_class)]
    for row in rows:
        assert re.fullmatch(r"[A-Z`].*[.]", row.help) and row.type and row.default, row
    assert {row.name: row.default for row in rows}["domain"] == repr(name)


def test_the_page_of_keywords_is_current(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import reference

    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run: python docs/reference.py"


def test_help_holds_every_keyword_once():
    for name in ("knowledge", "arc"):
        for row in keyword_reference(DOMAINS.get(name).Config):
            assert f"- ``{row.name}`` ({row.type}, default {row.default}" in SealEnv.__doc__
    for f in fields(EnvConfig):
        assert SealEnv.__doc__.count(f"- ``{f.name}`` (") == 1 + sum(
            f.name in vars(DOMAINS.get(name).Config)["__annotations__"] for name in ("knowledge", "arc")
        ), f.name


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_command_lists_the_keywords_of_an_id_with_its_defaults(name, capsys):
    assert main(["list", "--env", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [f.name for f in fields(domain_of(ENVIRONMENTS[name]).Config)]
    for key, value in ENVIRONMENTS[name].items():
        assert next(repr(value) in line for line in lines if line.split()[0] == key)


def test_the_command_names_a_wrong_id(capsys):
    assert main(["list", "--env", "SEAL-SQuD-v0"]) != 0
    assert "--env must be one of SEAL-SQuAD-v0" in capsys.readouterr().err


# The import ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["seal_env", "seal_env.domains.knowledge", "seal_env.domains.arc"])
def test_an_import_loads_no_model_library(module):
    started = time.perf_counter()
    code = f"import sys, time; t = time.process_time(); import {module}; print(time.process_time() - t, *sys.modules)"
    cpu, *modules = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    print(f"import {module}: {time.perf_counter() - started:.2f} s with the interpreter, {float(cpu):.2f} s of CPU time")
    assert not {*HEAVY} & {*modules}


def test_the_student_is_exported_lazily():
    code = (
        "import sys, seal_env; assert 'torch' not in sys.modules and 'Student' in dir(seal_env); seal_env.Student;"
        " assert 'torch' in sys.modules; from seal_env import *; Student, Update; seal_env.student_"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "AttributeError: module 'seal_env' has no attribute 'student_'" in ended.stderr
