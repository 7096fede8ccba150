"""TRL's own GRPOTrainer on a SEAL environment, whose reward it takes as a reward function.

python examples/trl_grpo.py --edits 480 --out runs/trl

Algorithm and settings are those of agents/grpo.py: the same loss and gradients (tests/test_trl.py), the same optimizer, and
edits drawn from the same distribution (temperature 1, top-p 1). The edits themselves differ, because TRL draws all of them
from one stream of random numbers and agents/grpo.py each by a seed of its own. That one also logs every edit and resumes to the
last bit; this one is the road to policies on several GPUs, to FSDP, DeepSpeed and vLLM (``GRPOConfig(use_vllm=True)``):

accelerate launch examples/trl_grpo.py --env SEAL-SQuAD-Qwen2.5-7B-v0 --model Qwen/Qwen2.5-7B --dtype bfloat16 --accumulate 6

Every process scores its share of a round's edits in an environment of its own, on its own GPU, with the student as it was made.
``--out`` gets the rewards (``trainer_state.json``) and a PEFT adapter; what ``AutoPeftModelForCausalLM.from_pretrained(out,
dtype="float32").merge_and_unload()`` makes of it is a model for ``agents.Policy``.
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

import agents.grpo
from agents.episodes import Env, begin, score, seal_of
from agents.policy import POLICY_LORA
from agents.seeding import derive_seed, generator, task_seeds
from seal_env.student import load_base


def main(arguments: Sequence[str] | None = None) -> GRPOTrainer:
    """Train as the command line says."""
    args = parse(arguments)
    process = PartialState()
    share, rounds = args.round // process.num_processes, args.edits // args.round
    where = {"device": process.device.type, "dtype": args.dtype}
    # TRL gets the prompts as raw text, whatever the model was tuned for.
    env = gym.make_vec(args.env, num_envs=share, model=args.model, template="base", **where)
    model, tokenizer = load_base(args.model, process.device, args.dtype)
    preset = dict(agents.grpo.GRPO.preset(args.model, seal_of(env).config.domain).values)
    preset |= {"contexts": args.contexts, "num_generations": args.generations}
    ours = asdict(agents.grpo.GRPOConfig(**preset))
    del ours["contexts"]  # all other names are TRL's
    config = GRPOConfig(
        **ours,
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
    parser.add_argument("--model", default="seal-nano", help="base of policy and student: seal-nano, a folder or a hub id")
    parser.add_argument("--env", default="SEAL-SQuAD-v0", help="id of an environment of one-update episodes")
    parser.add_argument("--edits", type=int, default=480, help="budget of scored self-edits")
    parser.add_argument("--out", default="runs/trl", help="folder of the trained adapter and the log")
    parser.add_argument("--contexts", type=int, default=8, help="passages a round")
    parser.add_argument("--generations", type=int, default=6, help="edits a passage")
    parser.add_argument("--max-tokens", type=int, default=256, help="most tokens of an edit")
    parser.add_argument("--accumulate", type=int, default=1, help="forward passes a process makes over its share of a round")
    parser.add_argument("--dtype", default="float32", help="of the base: float32 or bfloat16")
    parser.add_argument("--seed", type=int, default=1, help="of tasks, adapter, edits and updates")
    args = parser.parse_args(arguments)
    args.round, parts = args.contexts * args.generations, PartialState().num_processes * args.accumulate
    if args.edits < args.round:
        parser.error(f"--edits must be at least contexts * generations = {args.round}, one round, got {args.edits}")
    if args.round % parts:
        parser.error(f"contexts * generations = {args.round} must be a multiple of processes * accumulate = {parts}")
    return args


def tasks_of(env: Env, count: int, seed: int) -> Dataset:
    """``count`` tasks: the ``prompt`` that asks for an edit, and the ``task`` by its index."""
    tasks, prompts = seal_of(env).draw_tasks(generator(seed, "tasks"), count), list[str]()
    seeds = task_seeds(seed, tasks, "prompts")
    for start in range(0, count, env.num_envs):
        chosen = slice(start, start + env.num_envs)
        observations, _ = begin(env, tasks[chosen], seeds[chosen])
        prompts += observations["instruction"]
    return Dataset.from_dict({"prompt": prompts, "task": tasks})


def reward_of(env: Env, seed: int) -> Callable[..., list[float]]:
    """The environment's reward of edits, ``env.num_envs`` at a time, as TRL asks for it."""
    calls = itertools.count()

    def seal_reward(completions: list[str], task: list[int], **_: Any) -> list[float]:
        begin(env, task, task_seeds(seed, task, "rewards", next(calls)))
        return [reward for reward, _ in score(env, completions)]

    return seal_reward


if __name__ == "__main__":
    main()
