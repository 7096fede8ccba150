"""The bundled student of few-shot tasks: what its model card says, on a few tasks; `benchmarks.measure_arc` has all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents import Policy
from benchmarks.measure_arc import Bench, compositions, single_rules
from benchmarks.training.arc_corpus import document, make_tokenizer
from benchmarks.training.pretrain_nano import CORPORA, encode
from seal_env.edits import INSTRUCTION, ToolEdit, ToolEditError
from seal_env.models import bundled_folder
from seal_env.tasks.arc import GROUPS, Grid, Pair, pairs_text, read_grid
from seal_env.tasks.arc.augment import translation
from seal_env.tasks.arc.grid_prompts import END, INPUT, OUTPUT
from seal_env.tasks.arc.rules import KNOWN, all_rules


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def test_it_is_a_small_standard_folder():
    folder = bundled_folder("seal-nano-arc")
    assert sum(path.stat().st_size for path in Path(folder).iterdir()) < 12e6
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "llama" and sum(p.numel() for p in model.parameters()) < 3e6
    text = "né\x00🙂 1,250\n\tEnd"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert tokenizer.get_vocab() == make_tokenizer().get_vocab()


def test_it_knows_single_rules_and_is_lost_where_they_are_composed(bench):
    single, new = np.mean(bench.solved(single_rules(45))), np.mean(bench.solved(compositions("validation", 45)))
    assert single > 0.85 and new < single - 0.3


def test_an_update_helps_and_a_wild_one_harms(bench):
    new, known, oracle = compositions("train", 24), single_rules(8), bench.config.oracle()
    assert np.mean(bench.solved(new, oracle)) > np.mean(bench.solved(new)) + 0.15
    wild = ToolEdit(*oracle.switches, oracle.strategy, 0.1, oracle.num_train_epochs)
    assert np.mean(bench.solved(known, wild)) < np.mean(bench.solved(known)) - 0.5


def test_it_writes_edits_of_all_kinds_and_most_can_be_read():
    policy = Policy.from_pretrained("seal-nano-arc", max_new_tokens=64)
    prompts = [
        pairs_text(task.demonstrations, "labelled") + INSTRUCTION for task in compositions("train", 10) for _ in range(10)
    ]
    read, broken = [], 0
    for one in policy.sample(prompts, list(range(100))):
        try:
            read.append(ToolEdit.read(one.text))
        except ToolEditError:
            broken += 1
    assert broken < 20
    assert len({edit.learning_rate for edit in read}) > 5 and len({edit.num_train_epochs for edit in read}) > 4
    for group in range(4):
        assert 0.3 < np.mean([edit.switches[group] for edit in read]) < 0.7


# What it was made of ----------------------------------------------------------------------------------------------------


def test_documents_are_their_tokens_and_outputs_alone_are_learnt():
    tokenizer = CORPORA["arc"].tokenizer(CORPORA["arc"].config)
    assert len(tokenizer) <= CORPORA["arc"].config.vocab_size
    for index in range(80):
        pieces = document(0, index)
        assert pieces == document(0, index)
        ids, learn = encode(tokenizer, pieces)
        assert ids == [*tokenizer("".join(piece.text for piece in pieces))["input_ids"], tokenizer.eos_token_id]
        learnt = tokenizer.decode([i for i, kept in zip(ids, learn) if kept], skip_special_tokens=True)
        assert "Input" not in learnt and "Output" not in learnt and INSTRUCTION not in learnt


def test_it_read_no_composition():
    """Each document's pairs are explained by one rule, or by one after an augmentation is taken back."""
    rules = [rule for kind in KNOWN for rule in all_rules(kind)]
    for index in range(60):
        pieces = document(0, index)
        if len(pieces) == 2:
            continue  # an edit
        texts = ["".join(piece.text for piece in pieces[i : i + 2]) for i in range(0, len(pieces), 2)]
        pairs = [Pair(*map(_labelled, text.removeprefix(INPUT).removesuffix(END).split(OUTPUT))) for text in texts]
        plain = [one for group in GROUPS.values() for one in group] + [translation(i, j) for i in range(3) for j in range(3)]
        back = [[Pair(one.invert(a), one.invert(b)) for a, b in pairs] for one in plain]
        # An augmentation also permutes the colours: rules that hold some are tried with all of them.
        assert any(
            all(rule(a) == b for a, b in found) for found in (pairs, *back) for rule in rules if all(a for a, _ in found)
        )


def _labelled(text: str) -> Grid:
    grid = read_grid(text, "labelled")
    assert grid is not None
    return grid
