"""seal-bench list, eval and adapt: what they print, write and refuse, on small models."""

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

from agents import Policy, agent_names, evaluate, evaluate_sequences, get_agent
from agents.joined import own_part
from agents.saved import open_policy
from benchmarks.adaptation import read_documents
from benchmarks.cli import main
from benchmarks.commands import adapt, listing
from benchmarks.commands import evaluate as evaluation
from benchmarks.settings import CONFIGS
from seal_env.edits import available_formats
from seal_env.evaluation.graders import GRADERS
from seal_env.registration import ENVIRONMENTS
from seal_env.rewards.proxy import PROXIES
from seal_env.tasks.folder import DOCUMENTS, PASSAGE_WORDS
from seal_env.tasks.tables import TABLES
from tests.toy import LORA, SMALL

TOKENS = 12
# SMALL as a user would type it.
OPTIONS = ["lora.r=2", "lora.lora_alpha=4", "inner_loop.epochs=1", "inner_loop.batch_size=0", "max_new_tokens=2"]


def command(module, *arguments):
    """What ``seal-bench`` makes of these arguments."""
    parser = argparse.ArgumentParser(epilog=module.EXAMPLES)
    module.add_arguments(parser)
    return module.run(parser.parse_args([str(argument) for argument in arguments]))


# list -------------------------------------------------------------------------------------------------------------------


def test_every_registry_is_listed_a_line_each(capsys):
    command(listing)
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {*listing.LISTS, *ENVIRONMENTS, *available_formats(), *GRADERS, *PROXIES, *agent_names()} <= set(lines)
    for what in listing.LISTS:
        command(listing, what)
        assert all(line == line.strip() and line for line in capsys.readouterr().out.splitlines())


def test_agents_and_data_sets_are_listed_by_what_their_docstrings_say(capsys):
    command(listing, "agents")
    out = capsys.readouterr().out
    assert "The policy as it was made." in out and "ReST-EM, the outer loop that SEAL published" in out
    command(listing, "datasets")
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 10 and out[0].startswith("almanac") and "hub id" in out[4] and out[5].startswith("mini-arc")


def test_configs_are_listed_by_their_first_comment(capsys, monkeypatch, tmp_path):
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
    """A tiny model and ``seal-bench eval`` on it."""

    model: str

    def eval(self, *arguments):
        options = [part for option in [f"model={self.model}", *OPTIONS] for part in ("-P", option)]
        sizes = ["--tasks", 3, "--num-envs", 2, "--edit-tokens", TOKENS]
        return command(evaluation, "--env", "SEAL-SQuAD-v0", *options, *sizes, *arguments)

    def env(self):
        return gym.make_vec("SEAL-SQuAD-v0", num_envs=2, model=self.model, split="test", **SMALL)

    def policy(self):
        return Policy.from_pretrained(self.model, LORA, max_new_tokens=TOKENS)


@pytest.fixture
def toy(model_path):
    return Toy(model_path("toy"))


def trained(policy):
    """The policy as if it had been trained: one adapter merged, another begun."""
    for seed in (1, 2):
        with torch.no_grad():
            policy.adapter.copy_(0.2 * torch.randn(policy.adapter.shape, generator=torch.Generator().manual_seed(seed)))
        if seed == 1:
            policy.merge()
    return policy


def edits(found):
    return [one.edit for one in found]


def test_a_saved_policy_is_evaluated_as_it_was(toy, tmp_path, capsys):
    agent = get_agent("untrained")(toy.env(), trained(toy.policy()), self_adapting=True)
    expected = evaluate(agent, toy.env(), range(3), seed=5)
    agent.save(tmp_path / "agent")
    found = toy.eval("--policy", tmp_path / "agent", "--seed", 5)
    assert edits(found.results) == edits(expected)
    assert [one.info["questions"] for one in found.results] == [one.info["questions"] for one in expected]
    assert "tasks 3" in capsys.readouterr().out
    assert edits(toy.eval("--policy", tmp_path / "agent" / "policy", "--seed", 5).results) == edits(expected)
    assert edits(toy.eval("--agent", "untrained", "--seed", 5).results) != edits(expected)


def test_any_peft_adapter_and_any_whole_model_is_a_policy(toy, tmp_path):
    policy = trained(toy.policy())
    policy.save(tmp_path / "policy")
    (tmp_path / "policy" / "policy.safetensors").unlink()  # what is left is what PEFT itself would write
    joined = open_policy(tmp_path / "policy")
    assert (joined.max_new_tokens, joined.sampling) == (TOKENS, policy.sampling)
    assert open_policy(tmp_path / "policy", max_new_tokens=3).max_new_tokens == 3
    for name, weight in joined.merged_weights().items():
        torch.testing.assert_close(weight, policy.merged_weights()[name], rtol=1e-4, atol=1e-5)

    whole = Policy.from_pretrained(toy.model, "all", max_new_tokens=TOKENS)
    whole.save(tmp_path / "whole")
    read = open_policy(tmp_path / "whole")
    assert read.sample(["Once"], [1]) == whole.sample(["Once"], [1])


def test_sequences_and_corpora_are_evaluated(toy, capsys):
    """A sequence is what stepping through the environment by hand gives; a corpus is learnt and asked as one."""
    several = ["-P", "updates_per_episode=2", "--tasks", 4, "--agent", "passage_only"]
    found = toy.eval("-P", "mode=continual", *several)
    assert [one.task for one in found.results] == [0, 1, 2, 3]
    assert [len(one.info["accuracy_row"]) for one in found.results] == [1, 2, 1, 2]
    assert found.reward.value == np.mean([one.info["accuracy_row"] for one in found.results[1::2]])
    assert "right after each update" in capsys.readouterr().out
    found = toy.eval("-P", "mode=corpus", *several)
    assert found.reward.value == np.mean([one.reward for one in found.results[1::2]])
    assert ["score" in one.info for one in found.results] == [False, True] * 2
    with pytest.raises(ValueError, match="tasks need mode="):
        evaluate_sequences(get_agent("passage_only")(toy.env(), toy.policy()), toy.env(), [[0, 1]])


def test_what_out_writes_edits_reads(toy, tmp_path, capsys):
    first = toy.eval("--agent", "untrained", "--out", tmp_path / "new" / "edits.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "new" / "edits.jsonl").read_text().splitlines()]
    assert [line["edit"] for line in lines] == edits(first.results)
    assert {"task", "context", "reward", "score", "questions"} <= lines[0].keys()
    again = toy.eval("--edits", tmp_path / "new" / "edits.jsonl")
    assert [one.info["questions"] for one in again.results] == [one.info["questions"] for one in first.results]
    out = capsys.readouterr().out.splitlines()
    assert out[0] == out[1] and "[" in out[0]


def test_a_baseline_needs_no_language_model_that_writes(toy, capsys):
    found = toy.eval("--agent", "no_update")
    assert edits(found.results) == ["", "", ""]
    assert "gain 0.000  tasks 3  edits that trained nothing 3" in capsys.readouterr().out
    assert all("Question 1:" in edit for edit in edits(toy.eval("--agent", "oracle").results))


@pytest.mark.parametrize(
    ("arguments", "said"),
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
def test_eval_says_what_cannot_work(toy, arguments, said):
    with pytest.raises(ValueError) as caught:
        toy.eval(*arguments)
    assert said in str(caught.value) and "\n" not in str(caught.value)


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
    out = tmp_path / "made" / "adapter"
    asked = [notes, "--policy", tmp_path / "policy", "--edits-per-document", 2, *small]
    assert command(adapt, *asked, "--out", out) == out
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

    command(adapt, *asked, "--out", tmp_path / "again")
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (out, tmp_path / "again"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_joint_update_is_that_of_the_corpus_environment(toy, notes, tmp_path):
    """The same edits, in an episode of mode="corpus" whose update has the same seed, end in the same adapter."""
    small = ["-P", "inner_loop.epochs=2", "-P", "lora={r: 2, lora_alpha: 4}", "--edit-tokens", TOKENS]
    out = command(adapt, notes, "--model", toy.model, *small, "--out", tmp_path / "adapter")
    written = [json.loads(line)["edit"] for line in (out / "edits.jsonl").read_text().splitlines()]
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
    for edit in written:
        *_, info = env.step(edit)
    plan = engine.domain.joint_plan(tuple(engine.states[0].sequences), 0)
    expected = engine.student.fit([plan]).adapters[0]
    assert info["fit_status"] == "trained"
    assert torch.equal(engine.student.load_adapter(out), expected)


def test_adapt_replaces_nothing_unless_it_is_told_to(toy, notes, tmp_path):
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


def test_a_long_document_is_learnt_in_passages_beside_the_others(toy, notes, tmp_path, capsys):
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
    asked = [notes, "--model", toy.model, "--out", tmp_path / "adapter", "--edit-tokens", 10]
    with pytest.raises(ValueError) as caught:
        command(adapt, *asked, "--passage-words", 10_000)
    message = str(caught.value)
    assert message.startswith("2 of 4 prompts leave no room for an edit of 10 tokens, as the model reads 2048: document ")
    assert "\n" not in message
    assert "document 'huge.md' ('All of it', " in message and "'pdf.txt' ('pdf', " in message and "otrar" not in message
    assert "Lower --passage-words (of .txt and Markdown; it is 10000) or --edit-tokens, or take a model" in message
    with pytest.raises(ValueError, match="4 of 4 prompts leave no room for an edit of 1000000 tokens"):
        command(adapt, *asked[:-1], 1_000_000, "--passage-words", 10_000)
    assert not (tmp_path / "adapter").exists()


def test_a_document_of_a_table_that_is_too_long_is_named_too(toy, tmp_path):
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
    for arguments, said in [
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
        assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "adapter").exists()


def test_a_lora_of_rank_patterns_is_taken_apart_as_it_was_joined():
    lora = LoraConfig(r=8, lora_alpha=32, rank_pattern={"q_proj": 4}, alpha_pattern={"q_proj": 6})
    own = own_part(lora, 2)
    assert (own.r, own.lora_alpha, own.rank_pattern, own.alpha_pattern) == (4, 16, {"q_proj": 2}, {"q_proj": 3})
