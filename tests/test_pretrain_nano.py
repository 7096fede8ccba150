"""Pretraining of the bundled student: packed documents do not attend to each other, and runs resume exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.training.nano_corpus import document, make_tokenizer
from benchmarks.training.pretrain_nano import IGNORED, PretrainConfig, Pretraining, batches, encode

TINY = PretrainConfig(steps=6, rows=3, vocab_size=512, hidden_size=32, intermediate_size=64, layers=1, heads=1, warmup=2)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(TINY.vocab_size, seed=0, documents=200)


def train(training: Pretraining, tokenizer, until: int) -> Pretraining:
    for batch in batches(training.config, tokenizer, training.next_document):
        if training.step == until:
            return training
        training.train_step(batch)
    raise AssertionError("batches never end")


def test_a_resumed_run_ends_as_an_unbroken_one(tokenizer, tmp_path):
    unbroken = train(Pretraining(TINY, tokenizer), tokenizer, 6)
    train(Pretraining(TINY, tokenizer), tokenizer, 3).save(tmp_path)
    resumed = Pretraining(TINY, tokenizer)
    assert resumed.resume(tmp_path) and resumed.step == 3
    train(resumed, tokenizer, 6)
    for ours, theirs in zip(resumed.model.parameters(), unbroken.model.parameters()):
        assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="layers=1"):
        Pretraining(replace(TINY, layers=2), tokenizer).resume(tmp_path)
    resumed.export(tmp_path / "model", tokenizer)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").config.hidden_size == 32


def test_a_packed_document_has_the_logits_of_the_document_alone(tokenizer):
    batch = next(batches(TINY, tokenizer, 0))
    model = Pretraining(TINY, tokenizer).model.eval()
    with torch.no_grad():
        packed = model(input_ids=batch.tokens, attention_mask=batch.mask(), position_ids=batch.positions).logits
        encoded = [encode(tokenizer, document(TINY.seed, index)) for index in range(batch.next_document)]
        fitting = [(ids, learn) for ids, learn in encoded if len(ids) <= TINY.row_tokens]
        assert len(fitting) >= 3
        for ids, learn in fitting:
            row, start = next(
                (r, s)
                for r in range(TINY.rows)
                for s in range(TINY.row_tokens)
                if batch.tokens[r, s : s + len(ids)].tolist() == ids
            )
            part = slice(start, start + len(ids))
            torch.testing.assert_close(packed[row, part], model(torch.tensor([ids])).logits[0], rtol=0, atol=1e-5)
            assert [label != IGNORED for label in batch.labels[row, part].tolist()] == [bool(flag) for flag in learn[1:]] + [
                False
            ]


def test_any_text_survives_the_tokenizer(tokenizer):
    text = "né\x00🙂 1,250\n\tEnd"
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
