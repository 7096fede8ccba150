"""The environments, on a small random Llama: Gymnasium's own checks, and SEAL's semantics."""

from __future__ import annotations

import dataclasses
import json
import pickle
import random

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces.utils import flatten, flatten_space, unflatten
from gymnasium.utils.env_checker import check_env, data_equivalence

import seal_env
from seal_env.domains.knowledge import KnowledgeConfig
from seal_env.envs import FreeText
from seal_env.evaluation.scoring import Outcome
from seal_env.registration import ENVIRONMENTS
from seal_env.tasks.almanac import Almanac

OFFLINE = ["SEAL-SQuAD-v0", "SEAL-SQuAD-Continual-v0", "SEAL-SQuAD-Corpus-v0"]
SMALL = {"lora": {"r": 2, "lora_alpha": 4}, "inner_loop": {"epochs": 2, "batch_size": 0}, "max_new_tokens": 4}


@pytest.fixture(scope="module")
def small(model_path):
    """Keywords of an environment on a small random model."""
    return {"model": model_path("llama"), **SMALL}


def edits(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return ["\n".join(f"Fact {rng.randrange(100)} of {rng.randrange(9)}." for _ in range(rng.randint(1, 4))) for _ in range(n)]


@pytest.mark.parametrize("name", OFFLINE)
def test_gymnasium_finds_nothing_wrong(small, name):
    keywords = small if name == "SEAL-SQuAD-v0" else {**small, "updates_per_episode": 2}
    env = gym.make(name, **keywords)
    with pytest.warns(UserWarning) as caught:
        check_env(env.unwrapped)
    warned = {str(warning.message) for warning in caught}
    accepted = ("minimum value is -infinity", "maximum value is infinity", "render", "not a numpy array", "rewards")
    assert [text for text in warned if not any(word in text for word in accepted)] == []


def rollout(env: gym.Env, seed: int, actions: list[str]) -> list:
    steps = [env.reset(seed=seed)]
    for action in actions:
        steps.append(env.step(action))
        if steps[-1][2]:
            steps.append(env.reset())
    return steps


@pytest.mark.parametrize("mode", ["single", "refine", "continual", "corpus"])
def test_equal_seeds_agree_in_everything(small, mode):
    keywords = {**small, "mode": mode, "evaluations_per_edit": 2}
    if mode != "single":
        keywords["updates_per_episode"] = 3
    first, second = (rollout(gym.make("SEAL-SQuAD-v0", **keywords), 5, edits(4)) for _ in range(2))
    assert all(data_equivalence(a, b) for a, b in zip(first, second))
    different = rollout(gym.make("SEAL-SQuAD-v0", **keywords), 6, edits(4))
    assert different[0][1]["task_id"] != first[0][1]["task_id"]


def test_single_is_batched_is_any_order(small):
    """Scores 100 edits one by one, 20 at a time, and in another order."""
    keywords = {**small, "reward": "tests.test_envs:mean_loss"}
    texts = edits(100)
    batched = gym.make_vec("SEAL-SQuAD-v0", num_envs=20, **keywords)
    batched.reset(seed=0, options={"task": [i // 5 for i in range(20)]})
    rewards, infos = [], []
    for start in range(0, 100, 20):
        observations, reward, terminated, truncated, info = batched.step(texts[start : start + 20])
        assert terminated.all() and not truncated.any()
        rewards.append(reward)
        infos.append(info["final_info"])
        assert observations["adapter"].shape == (20, batched.single_observation_space["adapter"].shape[0])
    single = gym.make("SEAL-SQuAD-v0", **keywords)
    for i in (0, 7, 19):
        single.reset(seed=i, options={"task": i // 5})
        for turn in range(5):
            _, reward, _, _, info = single.step(texts[turn * 20 + i])
            assert reward == rewards[turn][i]
            assert info["questions"] == infos[turn]["questions"][i]
            single.reset()
    backwards = gym.make_vec("SEAL-SQuAD-v0", num_envs=20, **keywords)
    backwards.reset(seed=[19 - i for i in range(20)], options={"task": [(19 - i) // 5 for i in range(20)]})
    assert np.array_equal(backwards.step(texts[:20][::-1])[1][::-1], rewards[0])


def mean_loss(outcome: Outcome) -> float:
    """A reward that differs between any two updates."""
    return -float(np.mean(outcome.fit.losses)) if outcome.fit.losses else 0.0


def test_an_unusable_edit_is_an_outcome(small):
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=8, reward="tests.test_envs:mean_loss", **small)
    good = edits(1)[0]
    bad = ["", " \n\t ", "a\x00b", "🙂" * 50, None, 7, "\ud800"]
    env.reset(seed=1, options={"task": [3] * 8})
    _, rewards, _, _, infos = env.step([*bad, good])
    assert list(infos["final_info"]["status"]) == ["empty", "empty", "ok", "ok", "not_text", "not_text", "ok", "ok"]
    assert list(rewards[[0, 1, 4, 5]]) == [0.0] * 4
    alone = gym.make("SEAL-SQuAD-v0", reward="tests.test_envs:mean_loss", **small)
    alone.reset(seed=8, options={"task": 3})
    assert alone.step(good)[1] == rewards[7]


def test_an_edit_that_trains_nothing_scores_as_the_unchanged_student(small):
    env = gym.make("SEAL-SQuAD-v0", **small)
    env.reset(seed=0)
    observation, reward, terminated, _, info = env.step("")
    assert (info["fit_status"], info["gain"], terminated) == ("nothing_to_train", 0.0, True)
    assert reward == info["score_before"]
    assert all(row["answer"] == row["answer_before"] for row in info["questions"])
    assert env.unwrapped.config.reward is None and set(observation) == {"context", "instruction", "adapter"}


def test_refinement_goes_on_from_the_last_adapter_and_its_gains_add_up(small):
    env = gym.make("SEAL-SQuAD-v0", mode="refine", updates_per_episode=3, **small)
    start, _ = env.reset(seed=2)
    assert not start["adapter"].any()
    adapters, infos, rewards = [], [], []
    for edit in edits(3):
        observation, reward, terminated, _, info = env.step(edit)
        adapters.append(observation["adapter"])
        infos.append(info)
        rewards.append(reward)
    assert terminated and not np.array_equal(adapters[0], adapters[1])
    assert [info["score"] for info in infos[:2]] == [info["score_before"] for info in infos[1:]]
    assert sum(rewards) == pytest.approx(infos[-1]["score"] - infos[0]["score_before"])


@pytest.mark.parametrize("carry", ["adapter", "merge"])
def test_continual_asks_all_earlier_passages_again(small, carry):
    env = gym.make("SEAL-SQuAD-Continual-v0", updates_per_episode=3, carry=carry, **small)
    before = {name: value.clone() for name, value in env.unwrapped.engine.student.model.state_dict().items()}
    titles = []
    _, info = env.reset(seed=0)
    for step, edit in enumerate(edits(3)):
        _, _, terminated, _, info = env.step(edit)
        titles.append(info["title"])
        assert len(info["accuracy_row"]) == step + 1
    assert terminated and len(set(titles)) == 3
    changed = any((value != before[name]).any() for name, value in env.unwrapped.engine.student.model.state_dict().items())
    assert changed == (carry == "merge")
    env.reset(seed=0)
    assert all((value == before[name]).all() for name, value in env.unwrapped.engine.student.model.state_dict().items())


def test_a_corpus_is_learnt_in_one_joint_update(small):
    env = gym.make("SEAL-SQuAD-Corpus-v0", updates_per_episode=3, **small)
    env.reset(seed=0)
    steps = [env.step(edit) for edit in ("One.\nTwo.", "Three.", "Four.")]
    assert [step[1] for step in steps[:2]] == [0.0, 0.0] and "score" not in steps[0][4]
    assert steps[2][4]["sequences"] == 4 + 3  # and the three passages
    assert len(steps[2][4]["questions"]) == sum(len(task.questions) for task in env.unwrapped.engine.states[0].tasks)


def test_loading_other_weights_changes_this_environment_only(small):
    env, other = gym.make("SEAL-SQuAD-v0", **small), gym.make("SEAL-SQuAD-v0", **small)
    weights = {name: value + 0.5 for name, value in env.unwrapped.engine.student.model.state_dict().items()}
    rewards = []
    for each in (env, other):
        each.reset(seed=0)
        rewards.append(each.step("A fact.")[4]["questions"])
    assert rewards[0] == rewards[1]
    env.unwrapped.load_student(weights)
    for each, expected in ((env, False), (other, True)):
        each.reset(seed=0)
        assert (each.step("A fact.")[4]["questions"] == rewards[0]) == expected


def test_specs_are_json_and_pickle(small):
    env = gym.make("SEAL-SQuAD-v0", **small)
    again = gym.make(type(env.spec).from_json(env.spec.to_json()))
    assert again.unwrapped.config == env.unwrapped.config
    assert pickle.loads(pickle.dumps(env.spec)) == env.spec
    json.dumps(ENVIRONMENTS)
    env.close()
    with pytest.raises(gym.error.ClosedEnvironmentError):
        env.unwrapped.reset()


def test_rendering_shows_passage_edit_and_answers(small):
    env = gym.make("SEAL-SQuAD-v0", render_mode="ansi", **small)
    observation, info = env.reset(seed=0)
    assert observation["context"] in env.render()
    _, _, _, _, info = env.step("A\x1b[2Jfact.")
    rendered = env.render()
    assert "\x1b[2J" not in rendered and "fact." in rendered
    assert all(row["question"] in rendered and row["gold"] in rendered for row in info["questions"])


def test_free_text_is_a_space():
    space = FreeText(20, seed=0)
    assert "né\x00🙂" in space and "" in space and 3 not in space and "x" * 21 not in space
    assert all(space.sample() in space for _ in range(20))
    point = flatten(space, "né🙂")
    assert point in flatten_space(space) and unflatten(space, point) == "né🙂"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"model": "/no/such/folder"}, "no such folder"),
        ({"dataset": "almanack"}, "Did you mean 'almanac'"),
        ({"edit_format": "implication"}, "Did you mean 'implications'"),
        ({"reward": "gains"}, "Did you mean 'gain'"),
        ({"reward": "nowhere:fn"}, "cannot be imported"),
        ({"lora": {"r": -1}}, "r=-1"),
        ({"lora": {"rank": 4}}, "no option 'rank'"),
        ({"inner_loop": {"epoch": 4}}, "Did you mean 'epochs'"),
        ({"almanac": {"min_facts": 9}}, "min_facts"),
        ({"edit_fromat": "rewrite"}, "Did you mean 'edit_format'"),
        ({"mode": "single", "updates_per_episode": 3}, "mode='refine'"),
        ({"mode": "corpus", "carry": "merge"}, "mode='refine' or mode='continual'"),
        ({"evaluations_per_edit": 0}, "evaluations_per_edit"),
        ({"split": "dev"}, "split must be one of"),
        ({"dataset": "/no/such/file.json"}, "no folder"),
        ({"render_mode": "rgb"}, "render_mode"),
    ],
)
def test_what_a_user_passed_wrongly_is_named(small, keywords, message):
    with pytest.raises(ValueError, match=message) as caught:
        gym.make("SEAL-SQuAD-v0", **{**small, **keywords})
    assert "\n" not in str(caught.value)


def test_wrong_ids_and_numbers_of_environments_are_named(small):
    with pytest.raises(gym.error.NameNotFound, match="SEAL-SQuAD"):
        gym.make("SEAL-SQuD-v0")
    with pytest.raises(ValueError, match="num_envs"):
        gym.make_vec("SEAL-SQuAD-v0", num_envs=0, **small)
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=2, **small)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="2 self-edits"):
        env.step(["one"])


def test_the_default_is_made_of_unread_almanac_articles():
    defaults = {field.name: field.default for field in dataclasses.fields(KnowledgeConfig)}
    assert defaults["dataset"] == "almanac" and defaults["model"] == "seal-nano"
    assert seal_env.__version__ and Almanac().task("train", 500_000).title


def test_sub_environments_of_a_continual_run_may_be_at_different_steps(small):
    envs = gym.make_vec("SEAL-SQuAD-Continual-v0", num_envs=2, updates_per_episode=3, **small)
    envs.reset(seed=0)
    envs.step(["A.", "B."])
    envs.reset(options={"reset_mask": np.array([True, False])})
    *_, infos = envs.step(["A.", "B."])
    assert [len(row) for row in infos["accuracy_row"]] == [1, 2]


def test_a_batch_of_actions_and_indices_that_are_none_say_so(small):
    envs = gym.make_vec("SEAL-SQuAD-v0", num_envs=2, **small)
    envs.reset(seed=np.int64(3))
    for actions in (None, 3, b"ab", "ab", ["a"], (edit for edit in "ab")):
        with pytest.raises(ValueError, match="step takes a list of 2 self-edits"):
            envs.step(actions)
    for options in ({"task": "xy"}, {"task": [0.5, 1]}, {"tasks": 5}, {"tasks": [1, 2]}):
        with pytest.raises(ValueError, match="reset option"):
            envs.reset(options=options)
    with pytest.raises(ValueError, match=r"'task' takes indices of tasks, integers from 0, got \['x'\]"):
        gym.make("SEAL-SQuAD-v0", **small).reset(options={"task": "x"})
