"""SEAL-ARC-v0: the environment on few-shot tasks, with edits as text and as numbers, and the agents in it."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Dict, MultiDiscrete
from gymnasium.utils.env_checker import check_env, data_equivalence
from peft import LoraConfig
from stable_baselines3 import PPO
from transformers import LlamaConfig

from agents import Policy, evaluate, get_agent
from benchmarks.measurements.shapes import save_random_model
from seal_env.domains.arc import ArcConfig
from seal_env.edits import INSTRUCTION, EditStatus, ToolEdit
from seal_env.envs import ToolChoices, VectorToolChoices
from seal_env.plots import arc_image
from seal_env.tasks.arc import ArcTask, grid_text, pairs_text
from tests.shared import ARC, needs_arc

SMALL = {"inner_loop": {"max_examples": 4, "warmup_steps": 1}, "lora": {"r": 2, "lora_alpha": 4}, "views": 2, "orders": 1}
EDIT = ToolEdit(True, False, False, False, "train_using_output_tokens", 1e-2, 2).text()


@pytest.fixture
def options(model_path):
    """Keywords of a few-shot environment with a fast inner loop."""
    return {"model": model_path("toy"), "max_new_tokens": 8, **SMALL}


def test_the_bundled_student_learns_a_rule_that_it_cannot_read():
    envs = gym.make_vec("SEAL-ARC-v0", num_envs=12, split="test")
    envs.reset(seed=0, options={"task": list(range(12))})
    oracle = envs.unwrapped.config.oracle().text()
    _, rewards, terminated, _, infos = envs.step([oracle] * 12)
    before = infos["final_info"]["score_before"]
    assert terminated.all() and set(rewards) <= {0.0, 1.0}
    assert rewards.sum() >= before.sum() + 3


def test_gymnasium_accepts_it(options):
    check_env(gym.make("SEAL-ARC-v0", **options).unwrapped, skip_render_check=True)
    check_env(ToolChoices(gym.make("SEAL-ARC-v0", **options)), skip_render_check=True)


def test_what_is_seen_is_the_demonstrations_and_not_the_test(options):
    env = gym.make("SEAL-ARC-v0", **options)
    observation, info = env.reset(seed=3)
    task = env.unwrapped.engine.source[info["task_indices"][0]]
    assert isinstance(task, ArcTask)
    assert observation["context"] == pairs_text(task.demonstrations).strip()
    assert observation["instruction"] == pairs_text(task.demonstrations) + INSTRUCTION
    *_, step = env.step(EDIT)
    (row,) = step["questions"]
    assert row["gold"] not in observation["context"] or row["question"] not in observation["context"]
    assert step["status"] == "ok" and step["fit_status"] == "trained" and step["steps"] == 4


@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("{", EditStatus.NOT_JSON),
        (7, EditStatus.NOT_TEXT),
        ("", EditStatus.EMPTY),
        ('{"training": {}}', EditStatus.WRONG_KEYS),
        (EDIT.replace("0.01", '"0.01"'), EditStatus.WRONG_VALUE),
        (EDIT.replace(": 2", ": 1000000"), EditStatus.TOO_MANY_STEPS),
    ],
)
def test_what_is_no_edit_leaves_the_student_as_it_was(options, action, status):
    env = gym.make("SEAL-ARC-v0", **options, disable_env_checker=True)
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(action)
    assert terminated and info["status"] == status and info["fit_status"] == "nothing_to_train"
    assert reward == info["score"] == info["score_before"]
    assert ("problem" in info) == (status not in (EditStatus.NOT_TEXT, EditStatus.EMPTY))


def test_a_learning_rate_of_a_billion_harms_no_neighbour(options):
    def rewards(other: str):
        envs = gym.make_vec("SEAL-ARC-v0", num_envs=3, **options)
        envs.reset(seed=5)
        *_, infos = envs.step([EDIT, other, EDIT])
        return infos["final_info"]

    wild, plain = rewards(EDIT.replace("0.01", "1000000000.0")), rewards(EDIT)
    assert wild["fit_status"][1] in ("diverged", "trained")
    for i in (0, 2):
        assert data_equivalence(wild["questions"][i], plain["questions"][i])


def test_a_vector_environment_is_its_single_ones(options):
    envs = gym.make_vec("SEAL-ARC-v0", num_envs=3, **options)
    observations, _ = envs.reset(seed=11)
    _, rewards, *_, infos = envs.step([EDIT] * 3)
    for i in range(3):
        env = gym.make("SEAL-ARC-v0", **options)
        observation, _ = env.reset(seed=11 + i)
        assert observation["instruction"] == observations["instruction"][i]
        _, reward, *_, info = env.step(EDIT)
        assert reward == rewards[i] and data_equivalence(info["questions"], infos["final_info"]["questions"][i])


@pytest.mark.parametrize("mode", ["refine", "continual"])
def test_episodes_of_several_updates(options, mode):
    env = gym.make("SEAL-ARC-v0", mode=mode, updates_per_episode=2, **options)
    env.reset(seed=0)
    assert not env.step(EDIT)[2]
    *_, info = env.step(EDIT)
    assert len(info.get("accuracy_row", (0, 0))) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "corpus"}, "mode must be one of single, refine, continual, got 'corpus'"),
        ({"reward": "proxy"}, "reward='proxy': domain 'arc' has no proxy"),
        ({"views": 8}, "views must be at most 7"),
        ({"grid_text": "loose"}, "grid_text must be one of spaced, labelled"),
        ({"edit_format": "implications"}, "no option 'edit_format'"),
        ({"mini_arc": {"hight": 3}}, "mini_arc: no option 'hight'. Did you mean 'height'"),
        ({"inner_loop": {"epochs": 3}}, "inner_loop: no option 'epochs'"),
        ({"dataset": "mini-arcs"}, "Did you mean 'mini-arc'"),
        ({"dataset": "arc-agi-1", "mini_arc": {"height": 4}}, "mini_arc"),
        ({"domain": "ark"}, "no domain 'ark'. Did you mean 'arc'"),
        ({"render_mode": "rgb"}, "render_mode must be one of"),
    ],
)
def test_wrong_keywords_are_named(options, values, message):
    with pytest.raises(ValueError, match=message) as error:
        gym.make("SEAL-ARC-v0", **{**options, **values})
    assert "\n" not in str(error.value)


def test_pictures_and_text(options):
    env = gym.make("SEAL-ARC-v0", render_mode="rgb_array", **options)
    env.reset(seed=0)
    task = env.unwrapped.engine.states[0].task
    assert np.array_equal(env.render(), arc_image(task))
    *_, info = env.step(EDIT)
    info["questions"][0]["answer"] = grid_text(task.tests[0].output)  # the toy model writes no grids
    assert np.array_equal(env.render(), arc_image(task, [[task.tests[0].output]]))
    with pytest.raises(ValueError, match="render_mode must be one of ansi, human or None in domain 'knowledge'"):
        gym.make("SEAL-SQuAD-v0", model=options["model"], render_mode="rgb_array")
    envs = gym.make_vec("SEAL-ARC-v0", num_envs=2, render_mode="ansi", **options)
    observations, _ = envs.reset(seed=0)
    titles = [state.task.title for state in envs.unwrapped.engine.states]
    envs.step([EDIT, "{"])
    texts = envs.render()
    assert all(title in text and "truth" in text for title, text in zip(titles, texts))
    assert "self-edit (ok)" in texts[0] and "self-edit (not_json)" in texts[1]


# As numbers -------------------------------------------------------------------------------------------------------------


def test_numbers_are_the_same_edit(options):
    env = ToolChoices(gym.make("SEAL-ARC-v0", **options), learning_rates=(1e-2, 1e-3), epochs=(1, 2))
    assert env.action_space == MultiDiscrete([2, 2, 2, 2, 2, 2, 2])
    assert env.codec.text(np.array([1, 0, 0, 0, 1, 0, 1])) == EDIT
    named = ToolChoices(gym.make("SEAL-ARC-v0", **options), view="dict", learning_rates=(1e-2, 1e-3), epochs=(1, 2))
    assert isinstance(named.action_space, Dict)
    action = dict.fromkeys(named.action_space, 0) | {"use_basic_augmentations": 1, "strategy": 1, "num_train_epochs": 1}
    assert named.codec.text({name: np.int64(value) for name, value in action.items()}) == EDIT
    env.reset(seed=7)
    as_numbers = env.step(np.array([1, 0, 0, 0, 1, 0, 1]))
    plain = gym.make("SEAL-ARC-v0", **options)
    plain.reset(seed=7)
    as_text = plain.step(EDIT)
    assert as_numbers[1] == as_text[1] and data_equivalence(as_numbers[4], as_text[4])
    for sampled in (env.action_space.sample(), env.action_space.sample()):
        ToolEdit.read(env.codec.text(sampled))


def test_the_grids_are_seen_as_an_array(options):
    env = ToolChoices(gym.make("SEAL-ARC-v0", mini_arc={"height": 4, "demonstrations": 2}, **options))
    grids, info = env.reset(seed=1)
    task = env.unwrapped.engine.source[info["task_indices"][0]]
    assert grids.shape == (2, 2, 4, 4) and env.observation_space.contains(grids)
    for i, pair in enumerate(task.demonstrations):
        for j, grid in enumerate(pair):
            rows, columns = len(grid), len(grid[0])
            assert grids[i, j, :rows, :columns].tolist() == [list(row) for row in grid]
            assert (grids[i, j, rows:] == -1).all() and (grids[i, j, :, columns:] == -1).all()


def test_a_vector_of_numbers(options):
    envs = VectorToolChoices(gym.make_vec("SEAL-ARC-v0", num_envs=2, **options))
    first, _ = envs.reset(seed=0)
    assert first.shape == envs.observation_space.shape and envs.action_space.shape == (2, 7)
    grids, rewards, terminated, _, infos = envs.step(envs.action_space.sample())
    assert terminated.all() and (infos["final_obs"][0] == first[0]).all() and (grids != first).any()


def test_wrong_numbers_and_wrappers_are_named(options):
    env = ToolChoices(gym.make("SEAL-ARC-v0", **options))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="an action is one of"):
        env.step(np.array([2, 0, 0, 0, 0, 0, 0]))
    with pytest.raises(TypeError, match="wrap SEAL-ARC-v0"):
        ToolChoices(gym.make("SEAL-SQuAD-v0", model=options["model"]))
    with pytest.raises(ValueError, match="learning_rates"):
        ToolChoices(gym.make("SEAL-ARC-v0", **options), learning_rates=())
    with pytest.raises(ValueError, match="num_train_epochs"):
        ToolChoices(gym.make("SEAL-ARC-v0", **options), epochs=(0, 1))


def test_stable_baselines3_takes_it_as_it_is(options):
    env = ToolChoices(gym.make("SEAL-ARC-v0", **options))
    model = PPO("MlpPolicy", env, n_steps=4, batch_size=4, n_epochs=1, device="cpu", seed=0)
    model.learn(8)
    action, _ = model.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(action)


# Agents -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "config", "budget"),
    [
        ("rest_em", {"contexts": 2, "samples": 3, "epochs": 1}, 6),
        ("grpo", {"contexts": 2, "num_generations": 3}, 6),
        ("ppo", {"contexts": 2, "samples": 3, "batch_size": 3}, 6),
        ("tool_ppo", {"tasks": 4, "batch_size": 4}, 8),
        ("random_search", {"choices": 2, "tasks": 2}, 8),
        ("untrained", {}, 0),
        ("no_update", {}, 0),
        ("best_of_k", {"k": 2}, 0),
        ("oracle", {}, 0),
    ],
)
def test_every_agent_plays(options, name, config, budget, tmp_path):
    def make_agent():
        policy = Policy.from_pretrained(options["model"], LoraConfig(r=2, target_modules="all-linear"), max_new_tokens=6)
        return get_agent(name), gym.make_vec("SEAL-ARC-v0", num_envs=4, **options), policy

    kind, envs, policy = make_agent()
    agent = kind(envs, policy, seed=3, **config)
    if budget:
        agent.learn(budget)
        assert agent.edits == budget
    held_out = gym.make_vec("SEAL-ARC-v0", num_envs=4, split="test", **options)
    if name != "best_of_k":  # it looks tasks up in its own environment
        results = evaluate(agent, held_out, [0, 1, 2], seed=1)
        agent.save(tmp_path / "agent")
        again = kind.load(tmp_path / "agent", *make_agent()[1:])
        assert [result.edit for result in evaluate(again, held_out, [0, 1, 2], seed=1)] == [result.edit for result in results]


@pytest.mark.parametrize(
    ("changed", "limit"),
    [
        ({}, 100),
        ({"dataset": "mini-arc-filtered"}, 100),
        ({"mini_arc": {"seed": 4, "tests": 2}}, 100),
        ({"mini_arc": {"height": 4}}, 8191),
        ({"mini_arc": {"demonstrations": 5}}, 8191),
        ({"dataset": "arc-agi-1"}, 8191),
        ({"inner_loop": {"max_tokens": 60}}, 60),
    ],
)
def test_the_bundled_students_limit_is_for_the_grids_that_it_was_made_for(changed, limit):
    assert ArcConfig(**changed).settings().max_tokens == limit


def toy_reward(edit: str) -> float:
    """A third each for basic augmentations, loss on outputs only, and a learning rate of 0.001."""
    if not edit:  # of an environment without a task
        return 0.0
    chosen = ToolEdit.read(edit)
    return (chosen.basic + (chosen.strategy == "train_using_output_tokens") + (chosen.learning_rate == 1e-3)) / 3


@pytest.mark.parametrize(("name", "config", "budget", "least"), [("tool_ppo", {}, 600, 0.8), ("random_search", {}, 120, 0.6)])
def test_learners_of_numbers_find_what_is_rewarded(options, name, config, budget, least):
    from tests.toy import EditReward

    free = {**options, "inner_loop": {"max_examples": 1, "max_steps": 1}, "max_new_tokens": 1, "views": 1}
    envs = gym.make_vec("SEAL-ARC-v0", num_envs=30, **free)
    policy = Policy.from_pretrained(options["model"], LoraConfig(r=2, target_modules="all-linear"))
    agent = get_agent(name)(EditReward(envs, toy_reward), policy, seed=0, **config).learn(budget)
    rewards = [toy_reward(edit) for edit in agent.predict(*envs.reset(seed=1), seed=0)]
    assert np.mean(rewards) >= least


@needs_arc
def test_seals_tasks_go_through_the_loop_with_a_llama(tmp_path):
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16384,
        bos_token_id=0,
        eos_token_id=1,
    )
    save_random_model(config, tmp_path, seed=0)
    for name, count in (
        ("arc-agi_training_challenges_filtered_1B_training_set.json", 12),
        ("arc-agi_evaluation_challenges_filtered_1B_eval_set.json", 10),
    ):
        options = {"dataset": str(ARC / name), "model": str(tmp_path), "views": 1, "orders": 1, "max_new_tokens": 4}
        options["inner_loop"] = {"max_examples": 2, "max_tokens": 16_000}
        envs = gym.make_vec("SEAL-ARC-v0", num_envs=count, **options)
        assert envs.unwrapped.task_count == count
        envs.reset(seed=0, options={"task": list(range(count))})
        *_, infos = envs.step([ToolEdit(True, True, True, True, "train_using_output_tokens", 1e-4, 1).text()] * count)
        final = infos["final_info"]
        assert list(final["status"]) == ["ok"] * count and set(final["fit_status"]) <= {"trained", "truncated"}
        assert sorted({len(rows) for rows in final["questions"]}) in ([1], [1, 2])
