"""Token-id wrappers give the same rewards as text, in arrays that numeric libraries take."""

from __future__ import annotations

import json
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from benchmarks.measurements.shapes import byte_tokenizer
from seal_env.envs import TokenIds, VectorTokenIds
from tests.test_envs import SMALL

NAME = "SEAL-SQuAD-v0"
END = 1  # the byte tokenizer's end-of-text id
LENGTH = {"max_observation_tokens": 1500, "max_action_tokens": 40}
TEXTS = ["The ship was built in 1874.\nIt sank.", "Né 🙂", "", "One fact.", "A\x00b"]


@pytest.fixture(scope="module")
def keywords(model_path):
    return {"model": model_path("llama"), **SMALL}


def ids_of(text: str, fill: int = 77, dtype: type = np.int64) -> np.ndarray:
    """``text``, the end-of-text id, and then ids that must be ignored."""
    ids = byte_tokenizer()(text)["input_ids"]
    return np.array([*ids, END, *[fill] * (LENGTH["max_action_tokens"] - len(ids) - 1)], dtype)


def test_gymnasiums_checker_accepts_it(keywords):
    env = TokenIds(gym.make(NAME, **keywords), **LENGTH)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env)
    messages = {str(warning.message) for warning in caught}
    accepted = ("minimum value is -infinity", "maximum value is infinity", "different from the unwrapped", "render")
    assert [text for text in messages if not any(word in text for word in accepted)] == []


def test_stable_baselines_checker_accepts_it_and_ppo_trains(keywords):
    pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_checker import check_env as check

    lengths = {"max_observation_tokens": 1500, "max_action_tokens": 8}
    env = TokenIds(gym.make(NAME, **keywords), **lengths)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(env)
    model = PPO("MultiInputPolicy", env, n_steps=4, batch_size=4, n_epochs=1, device="cpu", seed=0)
    model.learn(8)
    action, _ = model.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(action)


def test_ids_get_the_reward_of_their_text(keywords):
    text_env = gym.make(NAME, reward="tests.test_envs:mean_loss", **keywords)
    env = TokenIds(gym.make(NAME, reward="tests.test_envs:mean_loss", **keywords), **LENGTH)
    for seed, text in enumerate(TEXTS):
        text_env.reset(seed=seed)
        env.reset(seed=seed)
        expected, actual = text_env.step(text), env.step(ids_of(text))
        assert env.edit(ids_of(text)) == text
        assert actual[1:4] == expected[1:4]
        assert {name: value for name, value in actual[4].items() if name != "prompt_cut"} == expected[4]
        assert np.array_equal(actual[0]["adapter"], expected[0]["adapter"])


def test_sub_environments_equal_a_single_environment(keywords):
    """Over two episodes of refinement: prompts, rewards, and the final observations."""
    keywords = {**keywords, "mode": "refine", "updates_per_episode": 2, "reward": "tests.test_envs:mean_loss"}
    envs = VectorTokenIds(gym.make_vec(NAME, num_envs=3, **keywords), **LENGTH)
    singles = [TokenIds(gym.make(NAME, **keywords), **LENGTH) for _ in range(3)]
    observations, infos = envs.reset(seed=4)
    assert envs.observation_space.contains(observations) and list(infos["prompt_cut"]) == [0, 0, 0]
    starts = [single.reset(seed=4 + i)[0] for i, single in enumerate(singles)]
    for step in range(3):
        texts = [TEXTS[(step + i) % len(TEXTS)] for i in range(3)]
        actions = np.stack([ids_of(text) for text in texts])
        assert envs.edits(actions) == texts and envs.action_space.contains(actions)
        observations, rewards, terminated, _, infos = envs.step(actions)
        assert envs.observation_space.contains(observations)
        for i, single in enumerate(singles):
            observation, reward, ended, _, info = single.step(actions[i])
            assert (reward, ended) == (rewards[i], terminated[i])
            if ended:
                assert all(np.array_equal(infos["final_obs"][i][name], observation[name]) for name in observation)
                assert infos["final_info"]["prompt_cut"][i] == info["prompt_cut"] == 0
                observation, _ = single.reset()
            assert all(np.array_equal(observations[name][i], observation[name]) for name in observation)
    assert set(starts[0]) == {"prompt", "attention_mask", "adapter"}


def test_the_prompt_is_the_instruction_padded_on_the_left(keywords):
    env = TokenIds(gym.make(NAME, **keywords), **LENGTH)
    observation, info = env.reset(seed=0)
    text = env.env.reset(seed=0)[0]["instruction"]
    size = int(observation["attention_mask"].sum())
    assert observation["prompt"][-size:].tolist() == byte_tokenizer()(text)["input_ids"] and info["prompt_cut"] == 0
    assert not observation["attention_mask"][:-size].any()
    assert set(observation["prompt"][:-size]) == {env.tokenizer.pad_token_id}


@pytest.mark.parametrize("edit_format", ["implications", "self-qa", "none"])
def test_a_prompt_that_is_too_long_loses_the_end_of_its_passage(keywords, edit_format):
    text_env = gym.make(NAME, edit_format=edit_format, **keywords)
    uncut = text_env.reset(seed=0)[0]
    env = TokenIds(text_env, max_observation_tokens=320)
    observation, info = env.reset(seed=0)
    prompt = env.tokenizer.decode(observation["prompt"])
    kept = len(uncut["context"]) - info["prompt_cut"]
    assert prompt == uncut["instruction"].replace(uncut["context"], uncut["context"][:kept])
    assert 0 < kept < len(uncut["context"]) and observation["attention_mask"].all()


def test_a_long_passage_is_cut_between_its_characters(keywords, tmp_path):
    task = {"title": "Signs", "context": "é🙂" * 20_000, "questions": [{"question": "Which?", "answer": "é"}]}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task))
    env = TokenIds(gym.make(NAME, dataset=str(tmp_path / "tasks.jsonl"), **keywords), max_observation_tokens=300)
    observation, info = env.reset(seed=0)
    prompt = env.tokenizer.decode(observation["prompt"][observation["attention_mask"] == 1])
    assert "Signs\né🙂" in prompt and "�" not in prompt and prompt.endswith("\n\nImplications:\n")
    assert 39_900 < info["prompt_cut"] < 40_000


def test_an_instruct_model_gets_its_chat_template(keywords, tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
    tokenizer.save_pretrained(tmp_path)
    text_env = gym.make(NAME, template="instruct", **keywords)
    env = TokenIds(text_env, **LENGTH, tokenizer=str(tmp_path))
    observation, _ = env.reset(seed=0)
    prompt = env.tokenizer.decode(observation["prompt"][observation["attention_mask"] == 1])
    assert prompt == f"[user]{text_env.reset(seed=0)[0]['instruction']}[assistant]"
    with pytest.raises(ValueError, match="student's tokenizer has no chat template"):
        TokenIds(text_env)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint64])
def test_every_integer_type_is_accepted(keywords, dtype):
    env = TokenIds(gym.make(NAME, **keywords), **LENGTH)
    assert env.edit(ids_of("A fact.", dtype=dtype)) == "A fact."
    assert env.edit(np.full(LENGTH["max_action_tokens"], END, dtype)) == ""


def test_an_invalid_action_raises_an_error(keywords):
    env = TokenIds(gym.make(NAME, **keywords), **LENGTH)
    envs = VectorTokenIds(gym.make_vec(NAME, num_envs=2, **keywords), **LENGTH)
    good = ids_of("A fact.")
    for action, message in (
        (np.where(good == END, 258, good), "token ids are 0 to 257, got 258 at position (7,)"),
        (np.where(good == END, -1, good), "token ids are 0 to 257, got -1 at position (7,)"),
        (np.full(40, 2**64 - 1, np.uint64), "got 18446744073709551615 at position (0,)"),
        (good.astype(float), "got (40,) of float64"),
        (good[:5], "array of (40,) integer token ids, got (5,)"),
        (good[None], "got (1, 40)"),
        ("A fact.", "got () of <U7"),
        (None, "got () of object"),
        ([[1], [2, 3]], "array of (40,) token ids, got list"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            env.step(action)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=re.escape("got 300 at position (1, 3)")):
        envs.step(np.stack([good, np.where(np.arange(40) == 3, 300, good)]))
    with pytest.raises(ValueError, match=re.escape("array of (2, 40) integer token ids, got (3, 40)")):
        envs.step(np.stack([good] * 3))


def test_what_cannot_be_wrapped_raises_an_error(keywords, tmp_path):
    env = gym.make(NAME, **keywords)
    with pytest.raises(TypeError, match="VectorTokenIds"):
        TokenIds(gym.make("CartPole-v1"))
    with pytest.raises(TypeError, match="TokenIds"):
        VectorTokenIds(gym.make_vec("CartPole-v1"))
    with pytest.raises(TypeError, match="texts 'context' and 'instruction'"):
        TokenIds(TokenIds(env))
    with pytest.raises(ValueError, match="max_action_tokens must be an integer >= 1, got 0"):
        TokenIds(env, max_action_tokens=0)
    with pytest.raises(ValueError, match="tokenizer '/no/such/folder' could not be loaded") as caught:
        TokenIds(env, tokenizer="/no/such/folder")
    assert "\n" not in str(caught.value)
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no end-of-text token"):
        TokenIds(env, tokenizer=str(tmp_path))
    with pytest.raises(ValueError, match="max_observation_tokens=50 cannot hold this prompt"):
        TokenIds(env, max_observation_tokens=50).reset(seed=0)


def test_the_wrapper_is_part_of_the_spec(keywords):
    env = TokenIds(gym.make(NAME, **keywords), **LENGTH)
    again = gym.make(type(env.spec).from_json(env.spec.to_json()))
    assert isinstance(again, TokenIds) and again.unwrapped.config == env.unwrapped.config
    assert (again.observation_space, again.action_space) == (env.observation_space, env.action_space)
    assert again.reset(seed=0)[0]["prompt"].tolist() == env.reset(seed=0)[0]["prompt"].tolist()
