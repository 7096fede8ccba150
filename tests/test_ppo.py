"""PPO by Stable-Baselines3 on a tiny random Llama: exact ratios, nothing frozen in the optimizer, and learning that is real."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
import torch
from peft import LoraConfig

from agents.callbacks import Checkpoint, LogEdits, latest
from agents.ppo import PAD, PPO, LanguageModelPolicy, PromptVecEnv, padded, unpadded
from seal_env.student import Sampling
from tests.toy import Curve, EditReward, make_toy, share_of_letters

CONFIG = {"contexts": 4, "samples": 8, "learning_rate": 5e-3, "clip_range": 0.2, "target_kl": None}


class Toy(EditReward):
    """The toy reward, for prompts of few bytes."""

    def reset(self, **options):
        observations, infos = self.env.reset(**options)
        self.tasks = [tasks[0] for tasks in infos["task_indices"]]
        return {**observations, "instruction": tuple(f"Passage {task}" for task in self.tasks)}, infos


class Easy(Toy):
    """Every other passage gives 1 for any edit, the others 0."""

    def step(self, actions):
        even = np.array([float(task % 2 == 0) for task in self.tasks])
        observations, _, *rest = super().step(actions)
        return observations, even, *rest


@pytest.fixture
def make(model_path):
    """``make()``: an environment with the toy reward, and a policy whose temperature lets a random model say anything."""

    def build(num_envs: int = 32, reward=share_of_letters, rewarded=Toy, **options):
        env, policy = make_toy(model_path("llama"), num_envs, None, sampling=Sampling(temperature=0.2), **options)
        return rewarded(env, reward), policy

    return build


def test_a_toy_reward_is_learnt(make):
    env, policy = make()
    curve = Curve()
    PPO(env, policy, seed=1, **CONFIG).learn(32 * 12, curve)
    assert curve["reward"][-1] > curve["reward"][0] + 0.25, curve["reward"]
    assert curve["entropy"][-1] < curve["entropy"][0]


@pytest.mark.parametrize("options", [{}, {"lora": "all"}, {"gradient_checkpointing": True}])
@pytest.mark.parametrize("log_ratio", ["mean", "sum"])
def test_the_first_ratio_of_every_round_is_one(make, options, log_ratio):
    env, policy = make(**options)
    curve = Curve()
    PPO(env, policy, contexts=2, samples=4, batch_size=5, learning_rate=1e-3, log_ratio=log_ratio).learn(16, curve)
    # Rounding depends on the edits that share a sequence; float32 resolves a sum of 100 nats to 8e-6.
    rounding = {"mean": 1e-6, "sum": 2e-5}[log_ratio]
    assert len(curve.rounds) == 2 and max(curve["first_ratio_error"]) < rounding
    assert min(curve["approx_kl"]) > 0  # and later ratios are not


@pytest.mark.parametrize("lora", [LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"), "all"])
def test_the_optimizer_holds_what_is_trained_and_nothing_else(make, lora):
    env, policy = make(8, lora=lora)
    agent = PPO(env, policy, contexts=2, samples=4)
    held = [p for group in agent.optimizer.param_groups for p in group["params"]]
    head = [agent.value_head.weight, agent.value_head.bias]
    assert {id(p) for p in held} == {id(p) for p in [*policy.parameters(), *head]}
    before = [p.detach().clone() for p in held]
    frozen = {} if policy.all_weights else {name: value.clone() for name, value in policy.model.state_dict().items()}
    agent.learn(8)
    assert all((new != old).any() for new, old in zip(held, before))
    assert all(torch.equal(value, policy.model.state_dict()[name]) for name, value in frozen.items())


def test_the_vec_env_takes_what_the_policy_samples_and_scores_the_decoded_edits(make):
    env, policy = make(3)
    agent = PPO(env, policy, contexts=2, samples=4)
    tasks = [0, 0, 1, 1]
    seeds = agent.task_seeds("collect", tasks)
    prompts = PromptVecEnv(agent, tasks, seeds)
    observations = prompts.reset()
    assert prompts.observation_space.contains(observations[0]) and observations.shape == (4, len("Passage 0"))
    options = {"value_head": agent.value_head, "optimizer": agent.optimizer, "config": agent.config}
    actor_critic = LanguageModelPolicy(
        prompts.observation_space, prompts.action_space, None, language_model=policy, seeds=seeds, **options
    )
    actions, values, log_probs = actor_critic(torch.as_tensor(observations))
    assert all(prompts.action_space.contains(action) for action in actions.numpy()) and (actions == PAD).any()
    again = actor_critic.evaluate_actions(torch.as_tensor(observations), actions)
    torch.testing.assert_close((values, log_probs), again[:2], rtol=0, atol=1e-6)
    torch.testing.assert_close(actor_critic.predict_values(torch.as_tensor(observations)), values)

    _, rewards, dones, _ = prompts.step(actions.numpy())
    collected = agent.collect([0, 1], 2, top_p=1.0)
    assert prompts.rollout == collected and rewards.tolist() == [edit.reward for edit in collected] and dones.all()


def test_padding_of_token_ids_is_reversible():
    rows = [(), (5, 0, 7), (1,)]
    assert padded(rows, 4).tolist() == [[PAD] * 4, [5, 0, 7, PAD], [1, PAD, PAD, PAD]]
    assert unpadded(padded(rows, 4)) == unpadded(padded(rows, 4).float().numpy()) == rows


def test_the_critic_leaves_the_language_model_alone_unless_its_gradient_is_shared(make):
    def trained(**options):
        env, policy = make(8)
        PPO(env, policy, contexts=2, samples=4, learning_rate=1e-3, max_grad_norm=1e9, target_kl=None, **options).learn(8)
        return policy.adapter.detach()

    assert torch.equal(trained(vf_coef=0.5), trained(vf_coef=0.0))
    assert not torch.allclose(trained(vf_coef=0.5, shared_gradient=True), trained(vf_coef=0.0), atol=1e-5)


def test_the_value_head_learns_what_to_expect_of_a_passage(make):
    env, policy = make(16, rewarded=Easy)
    curve = Curve()
    agent = PPO(env, policy, contexts=4, samples=4, learning_rate=2e-2, n_epochs=8, target_kl=None)
    policy.adapter.requires_grad_(False)  # what it sees of the passages stays the same
    agent.learn(16 * 4, curve)
    assert curve["explained_variance"][0] < 0.01 and curve["explained_variance"][-1] > 0.9, curve["explained_variance"]


def test_the_same_seed_gives_the_same_curve_and_touches_no_global_generator(make):
    curves = []
    for seed in (1, 1, 2):
        env, policy = make(8)
        random.seed(seed), np.random.seed(len(curves)), torch.manual_seed(len(curves))
        states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
        curve = Curve()
        PPO(env, policy, seed=seed, contexts=2, samples=4, batch_size=4).learn(24, curve)
        curves.append(curve.rounds)
        assert random.getstate() == states[0]
        assert np.array_equal(np.random.get_state()[1], states[1]) and torch.equal(torch.get_rng_state(), states[2])
    assert curves[0] == curves[1] != curves[2]


def test_gradient_checkpointing_changes_memory_alone(make):
    adapters = []
    for checkpointing in (False, True):
        env, policy = make(8, gradient_checkpointing=checkpointing)
        with torch.no_grad():
            policy.adapter.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
        PPO(env, policy, contexts=2, samples=4, learning_rate=1e-3).learn(8)
        adapters.append(policy.adapter.detach())
    torch.testing.assert_close(*adapters, rtol=0, atol=1e-5)


@pytest.mark.parametrize("self_adapting", [False, True])
def test_a_resumed_run_ends_as_an_unbroken_one(make, tmp_path, self_adapting):
    options = {"contexts": 2, "samples": 4, "batch_size": 4, "learning_rate": 1e-2}
    env, policy = make(8)
    unbroken = PPO(env, policy, seed=3, self_adapting=self_adapting, **options)
    unbroken.learn(24, LogEdits(tmp_path / "unbroken.jsonl"))

    env, policy = make(8)
    agent = PPO(env, policy, seed=3, self_adapting=self_adapting, **options)
    agent.learn(16, [LogEdits(tmp_path / "broken.jsonl"), Checkpoint(tmp_path / "checkpoints")])
    assert not [path for path in (tmp_path / "checkpoints").rglob("*") if path.suffix in (".pkl", ".pt", ".pth", ".zip")]

    env, policy = make(8)
    resumed = PPO.load(latest(tmp_path / "checkpoints"), env, policy)
    resumed.learn(24, LogEdits(tmp_path / "broken.jsonl"))
    assert (tmp_path / "broken.jsonl").read_text() == (tmp_path / "unbroken.jsonl").read_text()
    state, expected = resumed.state(), unbroken.state()
    assert state.keys() == expected.keys() and all(torch.equal(value, expected[name]) for name, value in state.items())
    assert torch.equal(resumed.policy.adapter, unbroken.policy.adapter)


def test_a_budget_is_kept_to_the_edit(make):
    env, policy = make(3)
    curve = Curve()
    agent = PPO(env, policy, contexts=3, samples=4).learn(22, curve)
    assert agent.edits == 20 and len(curve.rounds) == 2  # 12 and 8; two more are too few for a passage
    with pytest.raises(ValueError, match="a budget of 3 edits is too small for one round of PPO"):
        PPO(env, policy, samples=4).learn(3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"samples": 1}, "samples must be at least 2, got 1"),
        ({"batch_size": 4}, "batch_size must be at least 6 (samples), got 4"),
        ({"n_epochs": 0}, "n_epochs must be at least 1, got 0"),
        ({"log_ratio": "max"}, "log_ratio must be one of mean, sum, got 'max'"),
        ({"n_steps": 8}, "PPO: no option 'n_steps'"),
    ],
)
def test_invalid_hyperparameters_raise_clear_errors(make, config, message):
    env, policy = make(2)
    with pytest.raises(ValueError, match=re.escape(message)):
        PPO(env, policy, **config)
