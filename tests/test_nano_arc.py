"""The bundled few-shot student does what its card says, on a few tasks; `benchmarks.measure_arc` measures all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents import Policy
from benchmarks.measure_arc import ArcBenchmark, compositions, single_rules
from benchmarks.training.arc_corpus import document, make_tokenizer
from benchmarks.training.pretrain_nano import CORPORA, encode
from seal_env.edits import INSTRUCTION, ToolEdit, ToolEditError
from seal_env.models import bundled_folder
from seal_env.tasks.arc import GROUPS, Grid, Pair, pairs_text, read_grid
from seal_env.tasks.arc.augment import translation
from seal_env.tasks.arc.grid_prompts import END, INPUT, OUTPUT
from seal_env.tasks.arc.rules import KNOWN, all_rules


@pytest.fixture(scope="module")
def benchmark() -> ArcBenchmark:
    return ArcBenchmark()


def test_it_is_a_small_standard_folder():
    folder = bundled_folder("seal-nano-arc")
    assert sum(path.stat().st_size for path in Path(folder).iterdir()) < 12e6
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "llama" and sum(p.numel() for p in model.parameters()) < 3e6
    text = "né\x00🙂 1,250\n\tEnd"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert tokenizer.get_vocab() == make_tokenizer().get_vocab()


def test_it_knows_single_rules_and_is_lost_where_they_are_composed(benchmark):
    single, new = np.mean(benchmark.solved(single_rules(45))), np.mean(benchmark.solved(compositions("validation", 45)))
    assert single > 0.85 and new < single - 0.3


def test_an_update_helps_and_a_wild_one_harms(benchmark):
    new, known, oracle = compositions("train", 14), single_rules(8), benchmark.config.oracle()
    assert np.mean(benchmark.solved(new, oracle)) > np.mean(benchmark.solved(new)) + 0.15
    wild = ToolEdit(*oracle.switches, oracle.strategy, 0.1, oracle.num_train_epochs)
    assert np.mean(benchmark.solved(known, wild)) < np.mean(benchmark.solved(known)) - 0.5


def test_it_writes_edits_of_all_kinds_and_most_are_well_formed():
    policy = Policy.from_pretrained("seal-nano-arc", max_new_tokens=64)
    prompts = [
        pairs_text(task.demonstrations, "labelled") + INSTRUCTION for task in compositions("train", 10) for _ in range(10)
    ]
    edits, malformed = [], 0
    for completion in policy.sample(prompts, list(range(100))):
        try:
            edits.append(ToolEdit.read(completion.text))
        except ToolEditError:
            malformed += 1
    assert malformed < 20
    assert len({edit.learning_rate for edit in edits}) > 5 and len({edit.num_train_epochs for edit in edits}) > 4
    for group in range(4):
        assert 0.3 < np.mean([edit.switches[group] for edit in edits]) < 0.7


# Its corpus -------------------------------------------------------------------------------------------------------------


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


def test_its_corpus_has_no_composition():
    """Each document's pairs follow one rule, or one rule after an augmentation is inverted."""
    rules = [rule for kind in KNOWN for rule in all_rules(kind)]
    for index in range(60):
        pieces = document(0, index)
        if len(pieces) == 2:
            continue  # an edit
        texts = ["".join(piece.text for piece in pieces[i : i + 2]) for i in range(0, len(pieces), 2)]
        pairs = [Pair(*map(_labelled, text.removeprefix(INPUT).removesuffix(END).split(OUTPUT))) for text in texts]
        transforms = [transform for group in GROUPS.values() for transform in group]
        transforms += [translation(i, j) for i in range(3) for j in range(3)]
        inverted = [[Pair(transform.invert(a), transform.invert(b)) for a, b in pairs] for transform in transforms]
        # An augmentation also permutes colours; all_rules has each rule in all colours.
        assert any(
            all(rule(a) == b for a, b in candidate)
            for candidate in (pairs, *inverted)
            for rule in rules
            if all(a for a, _ in candidate)
        )


def _labelled(text: str) -> Grid:
    grid = read_grid(text, "labelled")
    assert grid is not None
    return grid
