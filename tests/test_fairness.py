"""A fair comparison: results do not depend on ``num_envs``, all agents decode in one way, and tuning is recorded."""

from __future__ import annotations

import json
from dataclasses import asdict

import gymnasium as gym
import numpy as np
import pytest
from peft import LoraConfig

from agents import Callback, Policy, evaluate, evaluate_sequences, get_agent
from agents.seeding import derive_seed, task_seeds
from benchmarks.run_directory import create, run_folder
from benchmarks.runner import Runner
from benchmarks.settings import from_mapping
from seal_env.student import Sampling
from tests.toy import LORA, SMALL, make_toy

ARC = {"dataset": "mini-arc", "inner_loop": {"max_examples": 1, "max_steps": 1}, "max_new_tokens": 2, "views": 1}


@pytest.fixture
def make(model_path):
    """``make(num_envs, **options)``: an environment with its own reward and a policy over one tiny model."""
    return lambda num_envs, **options: make_toy(model_path("llama"), num_envs, None, **options)


def lines_of(folder, settings):
    """Every line of every run, timings aside."""
    lines_by_file = {}
    for label in settings.agents:
        for path in sorted(run_folder(folder, label, 0).glob("*.jsonl")):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            lines_by_file[label, path.name] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    return lines_by_file


def benchmark(tmp_path, num_envs, **tree):
    settings = from_mapping({**tree, "seeds": 1, "num_envs": num_envs})
    folder = tmp_path / f"num-envs-{num_envs}"
    create(folder, settings)
    Runner(folder, settings).run_all()
    return lines_of(folder, settings)


def test_no_line_depends_on_how_many_edits_are_scored_together(tmp_path):
    """With ``seal-nano`` on the CPU kernels, to the last bit."""
    tree = {
        "env": "SEAL-SQuAD-v0",
        "env_options": {"inner_loop": {"epochs": 1}},
        "policy": {"max_new_tokens": 16, "lora": {"r": 2, "target_modules": "all-linear"}},
        "agents": {
            "rest_em": {"config": {"contexts": 2, "samples": 3, "rescore": 1, "epochs": 1}},
            "grpo": {"config": {"contexts": 2, "num_generations": 4}, "self_adapting": True},
            "ppo": {"config": {"contexts": 2, "samples": 4, "batch_size": 4}},
            "best_of_k": {"config": {"k": 3}},
        },
        "budget": 8,
        "evaluation": {"tasks": 4, "every": 8, "start": False},
    }
    few, many = (benchmark(tmp_path, num_envs, **tree) for num_envs in (3, 8))
    assert few == many
    assert {name for _, name in few} == {"edits.jsonl", "rounds.jsonl", "evaluation.jsonl"}
    assert all(few.values())


def test_nor_does_one_of_few_shot_tasks(tmp_path, model_path):
    tree = {
        "env": "SEAL-ARC-v0",
        "env_options": {**ARC, "model": model_path("llama")},
        "policy": {"lora": {"r": 2, "target_modules": "all-linear"}, "max_new_tokens": 6},
        "agents": {
            "tool_ppo": {"config": {"tasks": 4, "batch_size": 4}},
            "random_search": {"config": {"choices": 2, "tasks": 2, "finalists": 1}},
        },
        "budget": 8,
        "evaluation": {"tasks": 3, "every": 8},
    }
    few, many = (benchmark(tmp_path, num_envs, **tree) for num_envs in (2, 5))
    assert few == many


def test_a_task_comes_to_the_same_alone_and_among_others(make):
    env, policy = make(3)
    agent = get_agent("untrained")(env, policy)
    others = evaluate(agent, env, [3, 1, 2, 0], seed=7)
    (alone,) = evaluate(agent, env, [2], seed=7)
    assert (alone.edit, alone.reward, alone.info["seeds"]) == (others[2].edit, others[2].reward, others[2].info["seeds"])
    twice = evaluate(agent, env, [2, 2], seed=7)
    assert twice[0].edit == alone.edit and twice[1].edit != alone.edit


def test_a_sequence_comes_to_the_same_alone_and_among_others(model_path, make):
    _, policy = make(1)
    sequences = [[0, 1], [2, 3]]
    results = []
    for num_envs, tasks in ((2, sequences), (1, sequences[1:])):
        options = {"mode": "continual", "updates_per_episode": 2, "model": model_path("llama"), "limit": 4, **SMALL}
        env = gym.make_vec("SEAL-SQuAD-v0", num_envs=num_envs, **options)
        agent = get_agent("untrained")(make(1)[0], policy)
        results.append([(step.edit, step.info["seeds"]) for step in evaluate_sequences(agent, env, tasks, seed=1)[-1]])
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ["untrained", "best_of_k"])
def test_an_edit_is_predicted_by_its_own_seed(make, name):
    env, policy = make(2)
    agent = get_agent(name)(env, policy)
    observations, infos = env.reset(seed=3)
    infos = [{"task_indices": indices} for indices in infos["task_indices"]]
    both = agent.predict(observations, infos, seed=[11, 12])
    second = {"instruction": observations["instruction"][1:], "context": observations["context"][1:]}
    assert agent.predict(second, infos[1:], seed=[12]) == both[1:]
    assert agent.predict(second, infos[1:], seed=[13]) != both[1:]
    with pytest.raises(ValueError, match="one for each of the 2 observations, got 3"):
        agent.predict(observations, infos, seed=[1, 2, 3])


def test_streams_of_other_names_are_other_streams():
    seeds = [
        derive_seed(0),
        derive_seed(1),
        derive_seed(0, "a"),
        derive_seed(0, "a", 1),
        derive_seed(0, "a1"),
        derive_seed(0, 1),
    ]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**62 for seed in seeds)
    assert task_seeds(5, [3, 4, 3], "x") == [*task_seeds(5, [3, 4], "x"), task_seeds(5, [4, 3, 3], "x")[2]]
    assert task_seeds(5, [np.int64(3)], "x") == task_seeds(5, [3], "x")


class Edits(Callback):
    """Every edit that was scored, with its task and the seeds of its updates."""

    def __init__(self):
        self.rounds = []

    def on_round(self, agent, result):
        self.rounds.append(result)
        return True


GRADIENTS = [
    ("grpo", {"contexts": 2, "num_generations": 4}),
    ("ppo", {"contexts": 2, "samples": 4, "batch_size": 8}),
    ("examples.my_agent:RLOO", {"contexts": 2, "samples": 4}),
]


@pytest.mark.parametrize(("name", "config"), [*GRADIENTS, ("rest_em", {"contexts": 2, "samples": 4})])
def test_policy_gradients_draw_from_the_distribution_that_they_differentiate(make, name, config):
    """With next to no nucleus all edits of a prompt are equal, unless they are drawn from the whole distribution."""
    env, policy = make(8, sampling=Sampling(temperature=1.0, top_p=1e-6))
    watcher = Edits()
    agent = get_agent(name)(env, policy, seed=0, **config)
    agent.learn(8, watcher)
    (result,) = watcher.rounds
    texts = {}
    for scored in result.rollout:
        texts.setdefault(scored.task, set()).add(scored.completion.text)
    assert all((len(different) > 1) == (name != "rest_em") for different in texts.values())
    predicted = agent.predict({"instruction": ["Go on:"] * 3}, seed=0)
    assert len(set(predicted)) == 1, "evaluated as all agents are, by the policy's sampling"


def test_choices_of_tools_are_drawn_as_edits_are(model_path):
    options = {**ARC, "model": model_path("llama")}
    choices = {}
    for top_p in (0.95, 1e-6):
        env = gym.make_vec("SEAL-ARC-v0", num_envs=4, **options)
        policy = Policy.from_pretrained(
            options["model"], LoraConfig(r=2, target_modules="all-linear"), sampling=Sampling(top_p=top_p)
        )
        agent = get_agent("tool_ppo")(env, policy, tasks=4, batch_size=4)
        observations = {"context": [env.reset(seed=0)[0]["context"][0]] * 20}
        choices[top_p] = agent.predict(observations, seed=1)
        assert agent.predict(observations, seed=1) == choices[top_p]
    assert len(set(choices[0.95])) > 1 and len(set(choices[1e-6])) == 1


def test_random_search_compares_on_common_tasks_and_scores_its_best_again(model_path):
    env = gym.make_vec("SEAL-ARC-v0", num_envs=4, **ARC, model=model_path("llama"))
    policy = Policy.from_pretrained(model_path("llama"), LoraConfig(r=2, target_modules="all-linear"))
    watcher = Edits()
    agent = get_agent("random_search")(env, policy, seed=0, choices=4, tasks=2, finalists=1)
    agent.learn(10 + 12, watcher)
    assert [(len(result.rollout), len(result.rescored)) for result in watcher.rounds] == [(8, 2), (8, 4)]
    for result in watcher.rounds:
        for part in (result.rollout, result.rescored):
            groups = {}
            for i, scored in enumerate(part):
                groups.setdefault(i // 2, []).append((scored.task, scored.info["seeds"]))
            assert len({tuple(group) for group in groups.values()}) == 1, "the same tasks, with the same seeds"
        assert not {scored.task for scored in result.rollout} & {scored.task for scored in result.rescored}
    last = watcher.rounds[-1].rescored
    means = [np.mean([scored.reward for scored in last[i : i + 2]]) for i in (0, 2)]
    assert watcher.rounds[-1].metrics["best"] == max(means)
    assert agent.learn(23).edits == 22, "one edit more is too little for a round"


@pytest.mark.parametrize("name", ["rest_em", "grpo", "ppo"])
def test_settings_of_the_bundled_model_do_not_reach_other_models(make, name):
    env, policy = make(2)
    kind = get_agent(name)
    other = kind(env, policy).config
    assert other == kind.Config() and other.learning_rate <= 3e-4
    nano = gym.make_vec("SEAL-SQuAD-v0", num_envs=2)
    bundled = kind(nano, Policy.from_pretrained("seal-nano", LORA)).config
    assert bundled.learning_rate >= 1e-3
    benchmarked = from_mapping({"env": "SEAL-SQuAD-v0", "agents": [name]}).agents[name]
    assert kind.Config(**benchmarked.config) == bundled, "the same in Python and in seal-bench"
    assert benchmarked.tuned_on == kind.presets["seal-nano"].tuned_on
    paper = from_mapping({"env": "SEAL-SQuAD-Qwen2.5-7B-v0", "agents": [name]}).agents[name]
    assert kind.Config(**paper.config) == kind.Config() and paper.tuned_on is None


def test_an_adapter_over_the_bundled_model_is_the_bundled_model(tmp_path):
    policy = Policy.from_pretrained("seal-nano", LORA)
    assert policy.name == "seal-nano"
    policy.save(tmp_path / "policy")
    again = Policy.from_pretrained(str(tmp_path / "policy"), LORA)
    env = gym.make_vec("SEAL-SQuAD-v0", num_envs=1)
    assert get_agent("grpo")(env, again).config == get_agent("grpo")(env, policy).config


def test_settings_that_were_changed_are_not_called_tuned():
    tree = {
        "env": "SEAL-SQuAD-v0",
        "agents": {
            "rest_em": {},
            "same": {"agent": "rest_em", "config": {"learning_rate": 3e-3}},
            "other": {"agent": "rest_em", "config": {"learning_rate": 1e-3}},
            "given": {"agent": "rest_em", "config": {"learning_rate": 1e-3}, "tuned_on": 960},
            "untrained": {},
        },
    }
    settings = from_mapping(tree)
    known = get_agent("rest_em").presets["seal-nano"].tuned_on
    tuned_on = {label: agent.tuned_on for label, agent in settings.agents.items()}
    assert tuned_on == {"rest_em": known, "same": known, "other": None, "given": 960, "untrained": 0}
    assert from_mapping(settings.to_json()) == settings
    assert {name: asdict(agent) for name, agent in settings.agents.items()} == settings.to_json()["agents"]
    with pytest.raises(ValueError, match="tuned_on must be at least 0"):
        from_mapping({**tree, "agents": {"rest_em": {"tuned_on": -1}}})
