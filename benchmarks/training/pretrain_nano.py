"""Pretrain a bundled student: ``python -m benchmarks.training.pretrain_nano --corpus almanac --out FOLDER``.

A Llama of a few million parameters is trained on a corpus: ``almanac`` (``nano_corpus``) gives `seal-nano`, ``arc``
(``arc_corpus``) `seal-nano-arc`. Documents are packed into rows, and tokens attend to their own document only. Matrices are
trained with Muon, the other parameters with AdamW; the learning rate is constant and decays to zero at the end. A run saves a
checkpoint every few minutes, and resumes from it when it is started again with the same arguments.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agents.base import load_optimizer_state, optimizer_state
from benchmarks.measurements.shapes import model_config
from benchmarks.training import arc_corpus, nano_corpus
from benchmarks.training.nano_corpus import Document
from seal_env.files import atomic_write
from seal_env.student import keep_freed_memory

IGNORED = -100


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that the result depends on, besides the code.

    Attributes:
        corpus: one of :data:`CORPORA`.
        seed: of the corpus and the initial weights.
        steps: optimizer steps.
        row_tokens: tokens per row.
        rows: rows per step.
        vocab_size: of the tokenizer.
        hidden_size: of the model; ``intermediate_size``, ``layers`` and ``heads`` are its other shapes.
        learning_rate: peak learning rate of both optimizers (Muon's is scaled to match AdamW's).
        warmup: steps of linear warm-up.
        decay: final share of the steps, over which the learning rate decays linearly to zero.
        weight_decay: decoupled weight decay on matrices.
        bfloat16: compute in bfloat16; weights and optimizers stay in float32.
    """

    corpus: str = "almanac"
    seed: int = 0
    steps: int = 4500
    row_tokens: int = 384
    rows: int = 11
    vocab_size: int = 2560
    hidden_size: int = 192
    intermediate_size: int = 512
    layers: int = 4
    heads: int = 3
    learning_rate: float = 6e-3
    warmup: int = 100
    decay: float = 0.4
    weight_decay: float = 0.05
    bfloat16: bool = False

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step ``step``, from 0."""
        rising = (step + 1) / self.warmup
        falling = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, rising, falling)


@dataclass(frozen=True)
class Corpus:
    """A pretraining corpus.

    Attributes:
        document: document ``index`` of the corpus with a seed.
        tokenizer: returns the tokenizer for a configuration.
        config: the defaults of its student.
    """

    document: Callable[[int, int], Document]
    tokenizer: Callable[[PretrainConfig], PreTrainedTokenizerFast]
    config: PretrainConfig


CORPORA = {
    "almanac": Corpus(nano_corpus.document, lambda c: nano_corpus.make_tokenizer(c.vocab_size, c.seed), PretrainConfig()),
    "arc": Corpus(
        arc_corpus.document,
        lambda _: arc_corpus.make_tokenizer(),
        PretrainConfig(
            "arc",
            steps=2700,
            row_tokens=256,
            rows=24,
            vocab_size=304,
            hidden_size=128,
            intermediate_size=384,
            layers=6,
            heads=4,
            bfloat16=True,
        ),
    ),
}


@dataclass(frozen=True)
class Batch:
    """Documents packed into rows.

    Attributes:
        tokens: ``(rows, time)`` ids.
        labels: ``(rows, time)`` the next token where it has a loss, ``IGNORED`` elsewhere.
        positions: ``(rows, time)`` position within the document.
        documents: ``(rows, time)`` number of the document, from 1; 0 for padding.
        next_document: index of the first document after the batch.
    """

    tokens: Tensor
    labels: Tensor
    positions: Tensor
    documents: Tensor
    next_document: int

    def mask(self) -> Tensor:
        """Boolean attention mask, ``(rows, 1, time, time)``: causal, within each document."""
        same = self.documents[:, :, None] == self.documents[:, None, :]
        return (same & torch.ones(same.shape[1:], dtype=torch.bool).tril())[:, None]


def encode(tokenizer: PreTrainedTokenizerFast, pieces: Document) -> tuple[list[int], list[int]]:
    """Ids of a document from ``<s>`` to ``</s>``, and for each whether it has a loss (1 or 0); that of ``</s>`` has."""
    ids, learn = [tokenizer.bos_token_id], [0]
    for piece in pieces:
        part = tokenizer.encode(piece.text, add_special_tokens=False)
        ids += part
        learn += [int(piece.learn)] * len(part)
    return [*ids, tokenizer.eos_token_id], [*learn, 1]


def batches(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast, start: int) -> Iterator[Batch]:
    """Infinite batches from document ``start`` on; a document goes into the first row with room for it."""
    shape = (config.rows, config.row_tokens)
    index = start
    while True:
        tokens, positions, documents = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
        labels = torch.full(shape, IGNORED)
        used, count = [0] * config.rows, 0
        while True:
            ids, learn = encode(tokenizer, CORPORA[config.corpus].document(config.seed, index))
            if len(ids) > config.row_tokens:
                index += 1
                continue
            row = next((r for r in range(config.rows) if used[r] + len(ids) <= config.row_tokens), None)
            if row is None:
                break
            count += 1
            span = slice(used[row], used[row] + len(ids))
            tokens[row, span] = torch.tensor(ids)
            positions[row, span] = torch.arange(len(ids))
            documents[row, span] = count
            labels[row, span] = torch.tensor([i if keep else IGNORED for i, keep in zip(ids[1:], learn[1:])] + [IGNORED])
            used[row] = span.stop
            index += 1
        yield Batch(tokens, labels, positions, documents, index)


class Pretraining:
    """The model, its optimizers and their progress."""

    def __init__(self, config: PretrainConfig, tokenizer: PreTrainedTokenizerFast) -> None:
        self.config, self.step, self.next_document, self.seconds = config, 0, 0, 0.0
        torch.manual_seed(config.seed)
        sizes = (config.vocab_size, config.hidden_size, config.intermediate_size, config.layers, config.heads, config.heads)
        special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        self.model = LlamaForCausalLM(model_config(LlamaConfig, *sizes, max_position_embeddings=2048, **special))
        matrices = [p for name, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in name]
        rest = [p for name, p in self.model.named_parameters() if p.ndim != 2 or "embed" in name]
        rate, decay = config.learning_rate, config.weight_decay
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
        ]

    def train_step(self, batch: Batch) -> float:
        """One optimizer step; returns the mean loss in nats per token."""
        rate = self.config.learning_rate_at(self.step)
        labelled = batch.labels != IGNORED
        with torch.autocast("cpu", torch.bfloat16) if self.config.bfloat16 else nullcontext():
            hidden = self.model.model(input_ids=batch.tokens, attention_mask=batch.mask(), position_ids=batch.positions)[0]
            logits = self.model.lm_head(hidden[labelled])
        loss = F.cross_entropy(logits.float(), batch.labels[labelled])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        self.step, self.next_document = self.step + 1, batch.next_document
        return loss.item()

    def save(self, folder: Path) -> None:
        """Write a checkpoint atomically."""
        tensors = {f"model.{name}": p.detach() for name, p in self.model.named_parameters()}
        for i, optimizer in enumerate(self.optimizers):
            tensors |= optimizer_state(optimizer, f"optimizer.{i}")
        about = {"config": asdict(self.config), "step": self.step, "next_document": self.next_document, "seconds": self.seconds}
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "checkpoint.safetensors") as partial:
            save_file({name: t.contiguous() for name, t in tensors.items()}, partial, metadata={"about": json.dumps(about)})

    def resume(self, folder: Path) -> bool:
        """Load the checkpoint in ``folder``; returns whether there is one.

        Raises:
            ValueError: it has other settings; the first difference is named.
        """
        path = folder / "checkpoint.safetensors"
        if not path.is_file():
            return False
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["about"])
        for name, value in asdict(self.config).items():
            if about["config"][name] != value:
                raise ValueError(f"{path} has {name}={about['config'][name]}, not {value}; choose another folder")
        tensors = load_file(path)
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(tensors[f"model.{name}"])
        for i, optimizer in enumerate(self.optimizers):
            load_optimizer_state(optimizer, tensors, f"optimizer.{i}")
        self.step, self.next_document, self.seconds = about["step"], about["next_document"], about["seconds"]
        return True

    def export(self, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
        """Write the model (bfloat16) and its tokenizer as a Hugging Face folder."""
        model = LlamaForCausalLM(self.model.config)
        model.load_state_dict(self.model.state_dict())
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def run(config: PretrainConfig, folder: Path, save_seconds: float = 120.0) -> Pretraining:
    """Train to the end, from the checkpoint in ``folder`` if there is one; write checkpoints, ``log.jsonl`` and the model."""
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "tokenizer.json").is_file():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    else:
        tokenizer = CORPORA[config.corpus].tokenizer(config)
        tokenizer.save_pretrained(folder)
    training = Pretraining(config, tokenizer)
    training.resume(folder)
    if (log := folder / "log.jsonl").is_file():  # the steps after the checkpoint are run again
        lines = [
            line for line in log.read_text().splitlines() if line.endswith("}") and json.loads(line)["step"] <= training.step
        ]
        with atomic_write(log) as partial:
            partial.write_text("".join(f"{line}\n" for line in lines))
    saved = started = time.monotonic()
    before, mean = training.seconds, math.nan
    with tqdm(total=config.steps, initial=training.step, unit="step", mininterval=5) as bar:
        for batch in batches(config, tokenizer, training.next_document):
            if training.step >= config.steps:
                break
            loss = training.train_step(batch)
            mean = loss if math.isnan(mean) else 0.98 * mean + 0.02 * loss
            training.seconds = before + time.monotonic() - started
            bar.update()
            bar.set_postfix(loss=f"{mean:.3f}")
            if training.step % 50 == 0:
                line = {"step": training.step, "loss": round(mean, 4), "seconds": round(training.seconds)}
                with log.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            if time.monotonic() - saved > save_seconds or training.step == config.steps:
                training.save(folder)
                saved = time.monotonic()
    training.export(folder, tokenizer)
    return training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints, log and model")
    parser.add_argument("--corpus", choices=CORPORA, default="almanac", help="the other defaults depend on it")
    defaults = asdict(CORPORA[parser.parse_known_args()[0].corpus].config)
    for name, value in defaults.items():
        if name != "corpus":
            kind = argparse.BooleanOptionalAction if isinstance(value, bool) else None
            options: dict[str, Any] = {"action": kind} if kind else {"type": type(value)}
            parser.add_argument(f"--{name.replace('_', '-')}", default=value, **options)
    arguments = vars(parser.parse_args())
    folder = arguments.pop("out")
    run(PretrainConfig(**arguments), folder)


if __name__ == "__main__":
    main()
