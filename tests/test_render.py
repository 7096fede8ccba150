"""What a person sees of a step: the text of every sub-environment, of bounded length whatever a policy writes."""

from __future__ import annotations

import io
import sys

import gymnasium as gym
import pytest

from tests.test_envs import SMALL, edits

NAME = "SEAL-SQuAD-v0"


@pytest.fixture(scope="module")
def keywords(model_path):
    return {"model": model_path("llama"), **SMALL, "inner_loop": {"epochs": 1, "max_length": 64}, "max_new_tokens": 2}


def test_a_vector_environment_prints_what_each_prints_alone(keywords, capsys):
    envs = gym.make_vec(NAME, num_envs=3, render_mode="human", **keywords)
    observations, _ = envs.reset(seed=0)
    assert capsys.readouterr().out == ""
    texts = edits(3)
    envs.step(texts)
    printed = capsys.readouterr().out
    for i, text in enumerate(texts):
        single = gym.make(NAME, render_mode="human", **keywords)
        single.reset(seed=i)
        single.step(text)
        alone = capsys.readouterr().out
        assert (
            alone in printed
            and text in alone
            and observations["context"][i] in alone
            and f"environment {i + 1} of 3" in printed
        )
        assert single.render() is None
    assert envs.render() is None and capsys.readouterr().out == ""


def test_what_is_printed_is_bounded(keywords, capsys):
    envs = gym.make_vec(NAME, num_envs=19, render_mode="human", **keywords)
    envs.reset(seed=0, options={"task": [0] * 19})
    envs.step(["x" * 1_000_000, *[None, 10**5000, "\x1b[2J\ud800🙂"] * 6])
    printed = capsys.readouterr().out
    assert len(printed) < 100_000 and "999000 more characters" in printed and "(3 more environments)" in printed
    assert "(NoneType, not text)" in printed and "(int, not text)" in printed and "\x1b[2J" not in printed
    corpus = gym.make("SEAL-SQuAD-Corpus-v0", render_mode="human", updates_per_episode=6, **keywords)
    corpus.reset(seed=0)
    questions = [corpus.step("")[4] for _ in range(6)][-1]["questions"]
    assert f"({len(questions) - 20} more questions)" in capsys.readouterr().out


def test_all_of_it_is_there_for_programs(keywords):
    envs = gym.make_vec(NAME, num_envs=2, render_mode="ansi", **keywords)
    envs.reset(seed=0)
    envs.step(["A fact.", "y" * 5000])
    first, second = envs.render()
    assert "A fact." in first and "y" * 5000 in second


def test_a_terminal_that_knows_no_emoji_does_not_end_the_run(keywords, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", terminal)
    env = gym.make(NAME, render_mode="human", **keywords)
    env.reset(seed=0)
    env.step("né 🙂")
    terminal.flush()
    assert b"n? ?\n" in terminal.buffer.getvalue()


def test_before_the_first_reset_there_is_nothing_to_render(keywords):
    for env in (gym.make(NAME, render_mode="ansi", **keywords).unwrapped, gym.make_vec(NAME, render_mode="ansi", **keywords)):
        with pytest.raises(gym.error.ResetNeeded, match="call reset"):
            env.render()
