"""TRL's GRPOTrainer with the reward of a SEAL environment as its reward function.

python examples/trl_grpo.py --edits 480 --out runs/trl

Algorithm and hyperparameters are those of agents/grpo.py: the same loss and gradients (tests/test_trl.py), the same optimizer,
and the same sampling distribution (temperature 1, top-p 1). The sampled edits differ, because TRL samples all edits from one
stream of random numbers and agents/grpo.py each with a separate seed. agents/grpo.py also logs every edit and resumes exactly.
Use this example to train policies on several GPUs, with FSDP, DeepSpeed or vLLM (``GRPOConfig(use_vllm=True)``):

accelerate launch examples/trl_grpo.py --env SEAL-SQuAD-Qwen2.5-7B-v0 --model Qwen/Qwen2.5-7B --dtype bfloat16 --accumulate 6

Every process scores its share of a round's edits in a separate environment, on its own GPU, with a fixed student. The script
writes the rewards (``trainer_state.json``) and a PEFT adapter to ``--out``. ``AutoPeftModelForCausalLM.from_pretrained(out,
dtype="float32").merge_and_unload()`` returns a model for ``agents.Policy``.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import gymnasium as gym
from accelerate import PartialState  # type: ignore[import-untyped]
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

import agents
from agents.episodes import Env, begin, instructions_of, score, seal_vector_env
from agents.policy import POLICY_LORA
from agents.seeding import derive_seed, generator, task_seeds
from seal_env.student import load_base


def main(arguments: Sequence[str] | None = None) -> GRPOTrainer:
    """Train with the options of the command line."""
    args = parse(arguments)
    process = PartialState()
    share, rounds = args.round // process.num_processes, args.edits // args.round
    # TRL prompts with raw text, so the template is that of a base model.
    options = {"model": args.model, "template": "base", "device": process.device.type, "dtype": args.dtype}
    env = gym.make_vec(args.env, num_envs=share, **options)
    model, tokenizer = load_base(args.model, process.device, args.dtype)
    preset = agents.GRPO.preset(args.model, seal_vector_env(env).config.domain).values
    sizes = {"contexts": args.contexts, "num_generations": args.generations}
    hyperparameters = asdict(agents.GRPOConfig(**{**preset, **sizes}))
    del hyperparameters["contexts"]  # all other names are TRL's
    config = GRPOConfig(
        **hyperparameters,
        output_dir=args.out,
        seed=args.seed,
        max_steps=rounds,
        per_device_train_batch_size=share // args.accumulate,
        gradient_accumulation_steps=args.accumulate,
        lr_scheduler_type="constant",
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        max_completion_length=args.max_tokens,
        shuffle_dataset=False,
        bf16=args.dtype == "bfloat16",
        gradient_checkpointing=process.device.type != "cpu",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    trainer = GRPOTrainer(
        model,
        reward_of(env, derive_seed(args.seed, "process", process.process_index)),
        config,
        tasks_of(env, rounds * args.contexts, args.seed),
        processing_class=tokenizer,
        peft_config=LoraConfig(**POLICY_LORA),
    )
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    return trainer


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model", default="seal-nano", help="base model of policy and student: seal-nano, a folder or a hub id"
    )
    parser.add_argument("--env", default="SEAL-SQuAD-v0", help="id of an environment with one update per episode")
    parser.add_argument("--edits", type=int, default=480, help="budget of scored self-edits")
    parser.add_argument("--out", default="runs/trl", help="output folder of the trained adapter and the log")
    parser.add_argument("--contexts", type=int, default=8, help="passages per round")
    parser.add_argument("--generations", type=int, default=6, help="edits per passage")
    parser.add_argument("--max-tokens", type=int, default=256, help="maximum number of tokens of an edit")
    parser.add_argument("--accumulate", type=int, default=1, help="forward passes of a process over its share of a round")
    parser.add_argument("--dtype", default="float32", help="dtype of the base model: float32 or bfloat16")
    parser.add_argument("--seed", type=int, default=1, help="seed of tasks, adapter, edits and updates")
    args = parser.parse_args(arguments)
    args.round, parts = args.contexts * args.generations, PartialState().num_processes * args.accumulate
    if args.edits < args.round:
        parser.error(f"--edits must be at least contexts * generations = {args.round}, one round, got {args.edits}")
    if args.round % parts:
        parser.error(f"contexts * generations = {args.round} must be a multiple of processes * accumulate = {parts}")
    return args


def tasks_of(env: Env, count: int, seed: int) -> Dataset:
    """A dataset of ``count`` tasks with columns ``prompt``, the instruction, and ``task``, the index."""
    tasks = seal_vector_env(env).draw_tasks(generator(seed, "tasks"), count)
    prompts = instructions_of(env, tasks, task_seeds(seed, tasks, "prompts"))
    return Dataset.from_dict({"prompt": prompts, "task": tasks})


def reward_of(env: Env, seed: int) -> Callable[..., list[float]]:
    """A reward function for TRL that scores ``env.num_envs`` edits per call."""
    calls = itertools.count()

    def seal_reward(completions: list[str], task: list[int], **_: Any) -> list[float]:
        begin(env, task, task_seeds(seed, task, "rewards", next(calls)))
        return [reward for reward, _ in score(env, completions)]

    return seal_reward


if __name__ == "__main__":
    main()
