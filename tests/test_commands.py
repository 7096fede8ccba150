"""seal-bench list, eval and adapt: what they print, write and reject, on small models."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from agents import Policy, evaluate, evaluate_sequences, get_agent
from agents.saved import open_policy, split_config
from benchmarks import CONFIGS
from benchmarks.cli import main
from benchmarks.commands import adapt, listing
from benchmarks.commands import evaluate as evaluate_command
from benchmarks.commands.adapt import read_documents
from seal_env.registration import ENVIRONMENTS
from seal_env.tasks import DATASETS
from seal_env.tasks.folder import DOCUMENTS, PASSAGE_WORDS
from seal_env.tasks.tables import TABLES
from tests.toy import LORA, SMALL

TOKENS = 12
# SMALL as options of the command line.
OPTIONS = ["lora.r=2", "lora.lora_alpha=4", "inner_loop.epochs=1", "inner_loop.batch_size=0", "max_new_tokens=2"]


def command(module, *arguments):
    """Parse ``arguments`` as ``seal-bench`` does, and run the command."""
    parser = argparse.ArgumentParser(epilog=module.EXAMPLES)
    module.add_arguments(parser)
    return module.run(parser.parse_args([str(argument) for argument in arguments]))


# list -------------------------------------------------------------------------------------------------------------------


def test_every_registry_is_listed_with_one_line_per_name(capsys):
    command(listing)
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    names = (name for registry in listing.REGISTRIES.values() for name in registry)
    assert {*listing.LISTS, *ENVIRONMENTS, *names} <= set(lines)
    for what in listing.LISTS:
        command(listing, what)
        assert all(line == line.strip() and line for line in capsys.readouterr().out.splitlines())


def test_agents_and_datasets_are_listed_with_descriptions(capsys):
    command(listing, "agents")
    out = capsys.readouterr().out
    assert "baseline: the policy without training" in out and "SEAL's outer loop: sample, keep good edits, fine-tune" in out
    command(listing, "datasets")
    out = capsys.readouterr().out.splitlines()
    assert len(out) == len(DATASETS.names()) == 9 and out[0].startswith("almanac ") and "rajpurkar/squad" in out[2]


def test_configs_are_listed_with_their_first_comment(capsys, monkeypatch, tmp_path):
    (tmp_path / "mine.yaml").write_text("# What mine is for.\nenv: SEAL-SQuAD-v0\n")
    (tmp_path / "defaults.yaml").write_text("# Not one to choose.\n")
    monkeypatch.setattr(listing, "CONFIGS", tmp_path)
    command(listing, "configs")
    assert capsys.readouterr().out.split() == ["mine", "What", "mine", "is", "for."]
    monkeypatch.setattr(listing, "CONFIGS", CONFIGS / "nothing")
    command(listing, "configs")
    assert capsys.readouterr().out == ""


# eval -------------------------------------------------------------------------------------------------------------------


@dataclass
class Toy:
    """``seal-bench eval`` on a tiny model."""

    model: str

    def eval(self, *arguments):
        options = [part for option in [f"model={self.model}", *OPTIONS] for part in ("-P", option)]
        sizes = ["--tasks", 3, "--num-envs", 2, "--edit-tokens", TOKENS]
        return command(evaluate_command, "--env", "SEAL-SQuAD-v0", *options, *sizes, *arguments)

    def env(self):
        return gym.make_vec("SEAL-SQuAD-v0", num_envs=2, model=self.model, split="test", **SMALL)

    def policy(self):
        return Policy.from_pretrained(self.model, LORA, max_new_tokens=TOKENS)


@pytest.fixture
def toy(model_path):
    return Toy(model_path("toy"))


def trained(policy):
    """The policy as after training: one adapter merged, another one trained."""
    for seed in (1, 2):
        with torch.no_grad():
            policy.adapter.copy_(0.2 * torch.randn(policy.adapter.shape, generator=torch.Generator().manual_seed(seed)))
        if seed == 1:
            policy.merge()
    return policy


def edits(results):
    return [result.edit for result in results]


def test_a_saved_policy_is_evaluated_as_it_was(toy, tmp_path, capsys):
    agent = get_agent("untrained")(toy.env(), trained(toy.policy()), self_adapting=True)
    expected = evaluate(agent, toy.env(), range(3), seed=5)
    agent.save(tmp_path / "agent")
    evaluation = toy.eval("--policy", tmp_path / "agent", "--seed", 5)
    assert edits(evaluation.results) == edits(expected)
    assert [result.info["questions"] for result in evaluation.results] == [result.info["questions"] for result in expected]
    assert "tasks 3" in capsys.readouterr().out
    assert edits(toy.eval("--policy", tmp_path / "agent" / "policy", "--seed", 5).results) == edits(expected)
    assert edits(toy.eval("--agent", "untrained", "--seed", 5).results) != edits(expected)


def test_any_peft_adapter_and_any_full_model_is_a_policy(toy, tmp_path):
    policy = trained(toy.policy())
    policy.save(tmp_path / "policy")
    (tmp_path / "policy" / "policy.safetensors").unlink()  # the rest is what PEFT itself writes
    joined = open_policy(tmp_path / "policy")
    assert (joined.max_new_tokens, joined.sampling) == (TOKENS, policy.sampling)
    assert open_policy(tmp_path / "policy", max_new_tokens=3).max_new_tokens == 3
    for name, weight in joined.merged_weights().items():
        torch.testing.assert_close(weight, policy.merged_weights()[name], rtol=1e-4, atol=1e-5)

    full = Policy.from_pretrained(toy.model, "all", max_new_tokens=TOKENS)
    full.save(tmp_path / "full")
    assert open_policy(tmp_path / "full").sample(["Once"], [1]) == full.sample(["Once"], [1])


def test_sequences_and_corpora_are_evaluated(toy, capsys):
    """The reward of a sequence is the accuracy after its last step, that of a corpus the accuracy after the joint update."""
    episodes = ["-P", "updates_per_episode=2", "--tasks", 4, "--agent", "passage_only"]
    evaluation = toy.eval("-P", "mode=continual", *episodes)
    assert [result.task for result in evaluation.results] == [0, 1, 2, 3]
    assert [len(result.info["accuracy_row"]) for result in evaluation.results] == [1, 2, 1, 2]
    assert evaluation.reward.value == np.mean([result.info["accuracy_row"] for result in evaluation.results[1::2]])
    assert "right after each update" in capsys.readouterr().out
    evaluation = toy.eval("-P", "mode=corpus", *episodes)
    assert evaluation.reward.value == np.mean([result.reward for result in evaluation.results[1::2]])
    assert ["score" in result.info for result in evaluation.results] == [False, True] * 2
    with pytest.raises(ValueError, match="tasks need mode="):
        evaluate_sequences(get_agent("passage_only")(toy.env(), toy.policy()), toy.env(), [[0, 1]])


def test_edits_reads_what_out_writes(toy, tmp_path, capsys):
    first = toy.eval("--agent", "untrained", "--out", tmp_path / "new" / "edits.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "new" / "edits.jsonl").read_text().splitlines()]
    assert [line["edit"] for line in lines] == edits(first.results)
    assert {"task", "context", "reward", "score", "questions"} <= lines[0].keys()
    again = toy.eval("--edits", tmp_path / "new" / "edits.jsonl")
    assert [result.info["questions"] for result in again.results] == [result.info["questions"] for result in first.results]
    out = capsys.readouterr().out.splitlines()
    assert out[0] == out[1] and "[" in out[0]


def test_baselines_without_a_policy_load_none(toy, capsys):
    evaluation = toy.eval("--agent", "no_update")
    assert edits(evaluation.results) == ["", "", ""]
    assert "gain 0.000  tasks 3  edits that trained nothing 3" in capsys.readouterr().out
    assert all("Question 1:" in edit for edit in edits(toy.eval("--agent", "oracle").results))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--agent", "no_updat"], "Did you mean 'no_update'"),
        (["--agent", "rest_em"], "rest_em learns: evaluate what it saved with --policy"),
        (["--agent", "from_file"], "use --edits FILE"),
        (["--agent", "no_update", "-P", "reword=gain"], "no option 'reword'. Did you mean 'reward'"),
        (["--agent", "no_update", "-P", "limit=2"], "--tasks 3: there are 2"),
        (["--agent", "no_update", "-P", "mode=refine"], "a passage for every edit"),
        (["--agent", "no_update", "-P", "mode=continual", "--tasks", "9"], "--tasks must be a multiple of 8"),
        (["--agent", "no_update", "--env", "SEAL"], "no environment 'SEAL'. There are: SEAL-SQuAD-v0"),
        (["--agent", "no_update", "--tasks", "0"], "--tasks must be at least 1, got 0"),
        (["--policy", "nowhere"], "nowhere holds no policy"),
        (["--edits", "nowhere"], "nowhere: there is no such file"),
    ],
)
def test_eval_says_what_cannot_work(toy, arguments, message):
    with pytest.raises(ValueError) as caught:
        toy.eval(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


# adapt ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def notes(tmp_path):
    """Two documents, one of which has a question."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "otrar.md").write_text("# Otrar\n\nOtrar fell in 1219.\n")
    (folder / "sea.txt").write_text("The sea is wide.\n\nIt is deep, too.\n")
    (folder / "otrar.questions.json").write_text(json.dumps([{"question": "When did Otrar fall?", "answer": "1219"}]))
    return folder


def test_documents_become_an_adapter_that_plain_peft_loads(toy, notes, tmp_path, capsys):
    trained(toy.policy()).save(tmp_path / "policy")
    small = ["-P", "lora={r: 2, lora_alpha: 4}", "-P", "inner_loop.epochs=3", "--edit-tokens", TOKENS]
    out = tmp_path / "new" / "adapter"
    arguments = [notes, "--policy", tmp_path / "policy", "--edits-per-document", 2, *small]
    assert command(adapt, *arguments, "--out", out) == out
    assert "2 passages, 4 edits" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["adapter_config.json", "adapter_model.safetensors", "edits.jsonl"]
    assert [path.name for path in out.parent.iterdir()] == ["adapter"]
    lines = [json.loads(line) for line in (out / "edits.jsonl").read_text().splitlines()]
    assert [line["title"] for line in lines] == ["Otrar", "Otrar", "sea", "sea"]
    assert lines[0]["edit"] != lines[1]["edit"] and lines[0]["context"] == "Otrar fell in 1219."

    base = AutoModelForCausalLM.from_pretrained(toy.model, dtype="float32")
    ids = torch.tensor([[5, 6, 7]])
    before = base(ids).logits
    assert (PeftModel.from_pretrained(base, out)(ids).logits - before).abs().max() > 1e-4

    command(adapt, *arguments, "--out", tmp_path / "again")
    first, again = (load_file(folder / "adapter_model.safetensors") for folder in (out, tmp_path / "again"))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_joint_update_is_that_of_the_corpus_environment(toy, notes, tmp_path):
    """The same edits in an episode of mode="corpus", with the same seed of the update, give the same adapter."""
    small = ["-P", "inner_loop.epochs=2", "-P", "lora={r: 2, lora_alpha: 4}", "--edit-tokens", TOKENS]
    out = command(adapt, notes, "--model", toy.model, *small, "--out", tmp_path / "adapter")
    texts = [json.loads(line)["edit"] for line in (out / "edits.jsonl").read_text().splitlines()]
    records = [
        {"title": d.title, "context": d.context, "questions": [{"question": "Who?", "answer": "he"}]}
        for d in read_documents(str(notes))
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(records))
    options = {"model": toy.model, "lora": {"r": 2, "lora_alpha": 4}, "inner_loop": {"epochs": 2}, "max_new_tokens": 2}
    env = gym.make(
        "SEAL-SQuAD-Corpus-v0",
        dataset=str(tmp_path / "tasks.json"),
        updates_per_episode=2,
        adapter_observation="full",
        **options,
    )
    env.reset(seed=0, options={"tasks": [0, 1]})
    engine = env.unwrapped.engine
    for edit in texts:
        *_, info = env.step(edit)
    update = engine.domain.joint_update(tuple(engine.states[0].sequences), 0)
    expected = engine.student.fit([update]).adapters[0]
    assert info["fit_status"] == "trained"
    assert torch.equal(engine.student.load_adapter(out), expected)


def test_adapt_replaces_an_adapter_only_with_overwrite(toy, notes, tmp_path):
    small = ["--model", toy.model, "-P", "inner_loop.epochs=1", "--edit-tokens", TOKENS]
    out = tmp_path / "adapter"
    command(adapt, notes, *small, "--out", out)
    first = (out / "edits.jsonl").read_text()
    with pytest.raises(ValueError, match="exists: give --overwrite"):
        command(adapt, notes, *small, "--out", out)
    with pytest.raises(ValueError, match="ended as diverged: take a smaller learning rate"):
        command(adapt, notes, *small, "--out", out, "--overwrite", "-P", "inner_loop.learning_rate=1e9", "--seed", 1)
    assert (out / "edits.jsonl").read_text() == first
    command(adapt, notes, *small, "--out", out, "--overwrite", "--seed", 1)
    assert (out / "edits.jsonl").read_text() != first
    with pytest.raises(ValueError, match="is no adapter, and --overwrite replaces nothing else"):
        command(adapt, notes, *small, "--out", notes, "--overwrite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "notes"]


PDF = "\n".join("Otrar fell in 1219 after a siege of some five months, and more." for _ in range(400))


def test_a_long_document_is_learned_in_passages(toy, notes, tmp_path, capsys):
    (notes / "pdf.txt").write_text(PDF)
    out = tmp_path / "adapter"
    small = ["--model", toy.model, "-P", "inner_loop.epochs=1", "--edit-tokens", 2]
    command(adapt, notes, *small, "--out", out, "--passage-words", 50)
    lines = [json.loads(line) for line in (out / "edits.jsonl").read_text().splitlines()]
    assert len(lines) == 2 + 104 and "106 passages, 106 edits" in capsys.readouterr().out
    assert "\n".join(line["context"] for line in lines if line["title"] == "pdf") == PDF
    assert {"otrar.md", "sea.txt", "pdf.txt#1", "pdf.txt#104"} <= {line["id"] for line in lines}


def test_adapt_names_the_documents_that_leave_no_room_and_what_to_do(toy, notes, tmp_path):
    (notes / "pdf.txt").write_text(PDF)
    (notes / "huge.md").write_text(f"# All of it\n\n{PDF}")
    arguments = [notes, "--model", toy.model, "--out", tmp_path / "adapter", "--edit-tokens", 10]
    with pytest.raises(ValueError) as caught:
        command(adapt, *arguments, "--passage-words", 10_000)
    message = str(caught.value)
    assert message.startswith("2 of 4 prompts leave no room for an edit of 10 tokens, as the model reads 2048: document ")
    assert "\n" not in message
    assert "document 'huge.md' ('All of it', " in message and "'pdf.txt' ('pdf', " in message and "otrar" not in message
    assert "Lower --passage-words (of .txt and Markdown; it is 10000) or --edit-tokens, or take a model" in message
    with pytest.raises(ValueError, match="4 of 4 prompts leave no room for an edit of 1000000 tokens"):
        command(adapt, *arguments[:-1], 1_000_000, "--passage-words", 10_000)
    assert not (tmp_path / "adapter").exists()


def test_a_table_document_that_is_too_long_is_named(toy, tmp_path):
    rows = [{"title": f"T{i}", "context": PDF if i < 9 else "Short.", "question": "Q?", "answer": "x"} for i in range(10)]
    (tmp_path / "rows.json").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=r"9 of 10 .*: document 'rows-0' \('T0', .*'rows-4' .* and more\. Lower") as caught:
        command(adapt, tmp_path / "rows.json", "--model", toy.model, "--out", tmp_path / "adapter")
    assert "rows-5" not in str(caught.value)


def test_adapt_help_names_every_kind_of_file_and_its_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["adapt", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    for kind in (*DOCUMENTS, ".json", *TABLES):
        assert kind in out
    assert f"passages of about N words (default: {PASSAGE_WORDS})" in out


def test_adapt_says_what_cannot_work(toy, notes, tmp_path):
    out = ["--out", tmp_path / "adapter"]
    for arguments, message in [
        (["almanac", *out], "'almanac' never ends"),
        ([notes / "otra.md", *out], "Did you mean"),
        ([notes, *out, "--edit-format", "implication"], "Did you mean 'implications'"),
        ([notes, *out, "-P", "inner_lop.epochs=1"], "Did you mean 'inner_loop'"),
        ([notes, *out, "--policy", tmp_path], "names no base"),
        ([notes, *out, "--policy", tmp_path, "--model", toy.model], "holds no policy"),
        ([notes, *out, "--edits-per-document", 0], "--edits-per-document must be at least 1, got 0"),
        ([notes, *out, "--passage-words", 0], "--passage-words must be at least 1, got 0"),
    ]:
        with pytest.raises(ValueError) as caught:
            command(adapt, *arguments)
        assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "adapter").exists()


def test_own_part_inverts_the_join_of_rank_patterns():
    lora = LoraConfig(r=8, lora_alpha=32, rank_pattern={"q_proj": 4}, alpha_pattern={"q_proj": 6})
    own = split_config(lora, 2)
    assert (own.r, own.lora_alpha, own.rank_pattern, own.alpha_pattern) == (4, 16, {"q_proj": 2}, {"q_proj": 3})
