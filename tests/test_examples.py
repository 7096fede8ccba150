"""The examples work, and get_agent finds agents of other packages by name."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file

from agents import AGENTS, Policy, get_agent
from agents.seeding import task_seeds
from tests.toy import Curve, make_toy

ROOT = Path(__file__).parents[1]
CONFIG = {"contexts": 4, "samples": 8, "learning_rate": 2e-2}


@pytest.fixture
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def make(model_path):
    """``make(num_envs)``: an environment with the toy reward and a policy over the same tiny model."""

    def build(num_envs: int = 32):
        return make_toy(model_path("toy"), num_envs)

    return build


# The example agent ------------------------------------------------------------------------------------------------------


def test_the_example_agent_learns_and_is_short(make, examples):
    curve = Curve()
    get_agent("examples.my_agent:RLOO")(*make(), seed=2, **CONFIG).learn(32 * 12, curve)
    assert curve["reward"][-1] > curve["reward"][0] + 0.15, curve["reward"]  # how far it gets differs between CPUs
    assert len((ROOT / "examples" / "my_agent.py").read_text().splitlines()) < 60


def test_the_example_agent_resumes(make, examples, tmp_path):
    agent_type = get_agent("examples.my_agent:RLOO")
    config = {**CONFIG, "contexts": 2, "samples": 4}
    unbroken = agent_type(*make(8), seed=3, **config).learn(24)
    agent_type(*make(8), seed=3, **config).learn(16).save(tmp_path / "agent")
    resumed = agent_type.load(tmp_path / "agent", *make(8)).learn(24)
    assert resumed.edits == unbroken.edits == 24
    assert torch.equal(resumed.policy.adapter, unbroken.policy.adapter)


def test_the_example_agent_checks_its_hyperparameters(make, examples):
    with pytest.raises(ValueError, match="samples at least 2, got 8 and 1"):
        get_agent("examples.my_agent:RLOO")(*make(1), samples=1)


PLUGIN = '''
from agents.baselines import Baseline


class Mine(Baseline):
    """Writes the title and nothing else."""

    def predict(self, observations, infos=None, *, seed=0):
        return [info["title"] for info in infos]
'''


@pytest.fixture
def plugin(monkeypatch, tmp_path):
    """An installed package that registers one valid agent and three broken ones."""
    (tmp_path / "seal_plugin.py").write_text(PLUGIN)
    about = tmp_path / "seal_plugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: seal-plugin\nVersion: 1.0\n")
    lines = ["mine = seal_plugin:Mine", "typo = seal_plugin:Mien", "gone = no_such_module:Agent", "none = json:loads"]
    (about / "entry_points.txt").write_text("\n".join(["[seal_env.agents]", *lines, ""]))
    monkeypatch.syspath_prepend(str(tmp_path))


def test_an_agent_of_another_package_is_found_by_its_name(plugin):
    mine = get_agent("mine")
    assert (mine.__module__, mine.__name__) == ("seal_plugin", "Mine")
    assert {"mine", "typo", "gone", "rest_em"} <= set(AGENTS)
    assert get_agent("rest_em").__module__ == "agents.rest_em"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("typo", "agent 'typo' cannot be imported from 'seal_plugin:Mien': module 'seal_plugin' has no attribute 'Mien'"),
        ("gone", "agent 'gone' cannot be imported from 'no_such_module:Agent': No module named 'no_such_module'"),
        ("none", "agent 'none' is no subclass of agents.Agent: <function loads"),
        ("mina", "no agent 'mina'. Did you mean 'mine'"),
    ],
)
def test_a_broken_agent_of_another_package_is_named_in_one_line(plugin, name, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        get_agent(name)
    assert "\n" not in str(caught.value)


# TRL ----------------------------------------------------------------------------------------------------------------------

needs_trl = pytest.mark.skipif(
    importlib.util.find_spec("trl") is None, reason="trl is not installed: pip install 'seal-env[trl]'"
)


@needs_trl
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing.:FutureWarning", "ignore:'pin_memory' argument:UserWarning")
def test_trl_learns_from_the_environments_reward(examples, tmp_path):
    example, out = importlib.import_module("examples.trl_grpo"), str(tmp_path / "trl")
    sizes = ["--contexts", "2", "--generations", "2", "--max-tokens", "16"]
    trainer = example.main(["--edits", "11", *sizes, "--out", out])
    rounds = [line for line in trainer.state.log_history if "reward" in line]
    assert [line["step"] for line in rounds] == [1, 2]
    assert all(0 <= line["reward"] <= 1 for line in rounds)
    drawn = trainer.generation_config
    assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.max_new_tokens) == (1.0, 1.0, 0, 16)
    assert (trainer.loss_type, trainer.scale_rewards, trainer.num_iterations, trainer.beta) == ("bnpo", "batch", 1, 0.0)

    weights = load_file(tmp_path / "trl" / "adapter_model.safetensors")
    learnt = any(weight.any() for name, weight in weights.items() if "lora_B" in name)
    assert learnt == any(line["reward_std"] > 0 for line in rounds)
    trained = AutoPeftModelForCausalLM.from_pretrained(out, dtype="float32").merge_and_unload()
    assert Policy(trained, trainer.processing_class, max_new_tokens=4).sample(["Once"], [1])[0].ids


@needs_trl
def test_the_reward_that_trl_is_given_is_the_environments(examples):
    example = importlib.import_module("examples.trl_grpo")
    options = {"num_envs": 2, "inner_loop": {"epochs": 1}}
    env, same = gym.make_vec("SEAL-SQuAD-v0", **options), gym.make_vec("SEAL-SQuAD-v0", **options)
    dataset = example.tasks_of(env, 3, seed=1)
    tasks, prompts = list(dataset["task"]), list(dataset["prompt"])
    assert len(set(tasks)) == len(set(prompts)) == 3

    observations, _ = same.reset(seed=task_seeds(1, tasks[:2], "rewards", 0), options={"task": tasks[:2]})
    assert list(observations["instruction"]) == prompts[:2]
    edits = [observations["context"][0], "The sea is wide."]
    _, rewards, *_ = same.step(edits)
    assert example.reward_of(env, 1)(edits, tasks[:2], trainer_state=None) == rewards.tolist()


@needs_trl
def test_the_trl_example_checks_its_arguments(examples, capsys):
    example = importlib.import_module("examples.trl_grpo")
    for arguments, message in [
        (["--edits", "40"], "--edits must be at least contexts * generations = 48, one round, got 40"),
        (["--accumulate", "5"], "contexts * generations = 48 must be a multiple of processes * accumulate = 5"),
    ]:
        with pytest.raises(SystemExit):
            example.main(arguments)
        assert message in capsys.readouterr().err
