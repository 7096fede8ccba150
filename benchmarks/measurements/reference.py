"""Reference implementations of the inner loop, to compare the student with.

- :class:`PeftLoop`: ``peft`` and ``torch.optim.AdamW`` in a plain loop.
- :class:`Float64Loop`: the same in float64. It defines the exact result: over ten epochs float32 loops differ by
  rounding alone.
- :class:`TrainerLoop`: ``peft`` and ``transformers.Trainer``, as in SEAL's published code.
- :class:`TunedLoop`: the fastest sequential loop; see its docstring.
- :class:`VmapLoop`: ``torch.func.vmap`` over many adapters.

All fit the same :class:`~seal_env.update.Update` from the same initial weights, with the same order of examples, and
answer with the ``generate`` of Transformers.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from seal_env.student.layout import AdapterLayout, adapter_layout
from seal_env.update import Example, TokenExample, Update, UpdateConfig


class PeftLoop:
    """PEFT and AdamW in a plain loop, one adapter after the other.

    Attributes:
        fused_optimizer: of ``torch.optim.AdamW``; None is PyTorch's own choice.
    """

    fused_optimizer: bool | None = None

    def __init__(self, model: PreTrainedModel, lora: LoraConfig, dtype: torch.dtype = torch.float32) -> None:
        self.layout: AdapterLayout = adapter_layout(model, lora)
        self.peft: PeftModel = get_peft_model(model, self.layout.lora)
        self._targets = [(target, self.peft.get_base_model().get_submodule(target.name)) for target in self.layout.targets]
        self.parameters = [p for p in self.peft.parameters() if p.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.to(dtype)

    def load(self, adapter: Tensor) -> None:
        """Set A and B from a flat adapter ``(numel,)``."""
        flat = adapter[None].to(self.peft.device)
        for target, module in self._targets:
            module.lora_A["default"].weight.data.copy_(target.a(flat)[0])
            module.lora_B["default"].weight.data.copy_(target.b(flat)[0])

    def flat(self) -> Tensor:
        """A and B as a flat adapter ``(numel,)``."""
        return self._flatten(lambda weight: weight.detach())

    def gradient(self) -> Tensor:
        """The gradients of A and B as a flat adapter ``(numel,)``; they are cleared."""
        flat = self._flatten(lambda weight: weight.grad)
        for parameter in self.parameters:
            parameter.grad = None
        return flat

    def _flatten(self, part: Callable[[Any], Tensor]) -> Tensor:
        """``part`` of every A and B, ``(numel,)``."""
        flat = torch.empty(1, self.layout.numel, dtype=self.parameters[0].dtype)
        for target, module in self._targets:
            target.a(flat)[0].copy_(part(module.lora_A["default"].weight))
            target.b(flat)[0].copy_(part(module.lora_B["default"].weight))
        return flat[0]

    def make_optimizer(self, config: UpdateConfig) -> torch.optim.Optimizer:
        """A fresh optimizer; its learning rate is set before each step."""
        return torch.optim.AdamW(self.parameters, weight_decay=config.weight_decay, fused=self.fused_optimizer)

    def fit(self, update: Update, start: Tensor) -> Tensor:
        """Train one adapter from ``start: (numel,)`` on an update of :class:`TokenExample`."""
        self.load(start)
        self.peft.train()
        optimizer = self.make_optimizer(update.config)
        batches = [self._inputs([update.examples[i] for i in step]) for step in update.steps(len(update.examples))]
        for step, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = update.config.learning_rate_at(step, len(batches))
            self._loss(batch).backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, update.config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        return self.flat()

    def fit_all(self, updates: Sequence[Update], start: Tensor) -> Tensor:
        """Train one adapter after the other from ``start: (updates, numel)``; returns them in this shape."""
        return torch.stack([self.fit(update, row) for update, row in zip(updates, start)])

    def answer_all(self, adapters: Tensor, prompts: list[list[list[int]]], max_new_tokens: int) -> list[list[list[int]]]:
        """:meth:`answer` with each of ``adapters: (updates, numel)``."""
        answers = []
        for adapter, group in zip(adapters, prompts):
            self.load(adapter)
            answers.append(self.answer(group, max_new_tokens))
        return answers

    @torch.no_grad()
    def answer(self, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
        """Greedy continuations of ``prompts`` (token ids), in one padded batch."""
        self.peft.eval()
        longest = max(len(prompt) for prompt in prompts)
        tokens = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=self.peft.device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=self.peft.device)
        out = self.peft.generate(
            input_ids=tokens, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0
        )
        return out[:, longest:].tolist()

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        return self.peft(**batch).loss

    def _inputs(self, examples: Sequence[Example | TokenExample]) -> dict[str, Tensor]:
        """Padded token ids, mask and labels of one step."""
        rows = [example for example in examples if isinstance(example, TokenExample)]
        if len(rows) < len(examples):
            raise TypeError("the reference loops take TokenExample only: tokenize first")
        longest = max(len(example.ids) for example in rows)
        tokens = torch.zeros(len(examples), longest, dtype=torch.long)
        labels = torch.full_like(tokens, -100)
        mask = torch.zeros_like(tokens)
        for row, example in enumerate(rows):
            n = len(example.ids)
            tokens[row, :n] = torch.tensor(example.ids)
            labels[row, example.loss_from : n] = tokens[row, example.loss_from : n]
            mask[row, :n] = 1
        batch = {"input_ids": tokens, "labels": labels}
        if len(examples) > 1:
            batch["attention_mask"] = mask
        return {name: tensor.to(self.peft.device) for name, tensor in batch.items()}


class Float64Loop(PeftLoop):
    """:class:`PeftLoop` in float64, the reference for errors of float32 loops.

    Transformers computes norms and losses in float32 for every dtype, so that both are replaced here.

    Args:
        model: a model with norms as Llama's; it is changed.

    Raises:
        ValueError: the model has other norms.
    """

    def __init__(self, model: PreTrainedModel, lora: LoraConfig) -> None:
        super().__init__(model.double(), lora, torch.float64)
        for module in self.peft.modules():
            if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):  # as in Llama
                module.forward = functools.partial(_rms_norm, module)
            elif "Norm" in type(module).__name__:
                raise ValueError(f"Float64Loop is for models with Llama's norm, and this one has a {type(module).__name__}")

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        labels = batch.pop("labels")
        logits = self.peft(**batch).logits[:, :-1]
        return nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


def _rms_norm(module: Any, x: Tensor) -> Tensor:
    return module.weight * x * (x.square().mean(-1, keepdim=True) + module.variance_epsilon).rsqrt()


def relative_errors(adapters: Tensor, exact: Tensor) -> Tensor:
    """Distance of each of ``adapters: (updates, numel)`` to ``exact``, relative to the L2 norm of ``exact``, ``(updates,)``."""
    exact = exact.double()
    return (adapters.double() - exact).norm(dim=1) / exact.norm(dim=1)


class TunedLoop(PeftLoop):
    """The fastest loop that trains one adapter at a time.

    In addition to :class:`PeftLoop`: fused AdamW, logits of the learnt tokens only, and optionally ``torch.compile`` of the
    decoder or bfloat16 autocast.
    """

    fused_optimizer = True

    def __init__(self, model: PreTrainedModel, lora: LoraConfig, compiled: bool = False, autocast: bool = False) -> None:
        super().__init__(model, lora)
        self._autocast = autocast
        if compiled:
            decoder = self.peft.get_base_model().model
            decoder.forward = torch.compile(decoder.forward, dynamic=True)

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        context = torch.autocast(self.peft.device.type, dtype=torch.bfloat16) if self._autocast else contextlib.nullcontext()
        base = self.peft.get_base_model()
        labels = batch["labels"][:, 1:]
        with context:
            hidden = base.model(batch["input_ids"], attention_mask=batch.get("attention_mask"), use_cache=False)[0]
            learnt = labels != -100
            logits = base.lm_head(hidden[:, :-1][learnt])
        return nn.functional.cross_entropy(logits.float(), labels[learnt])


class TrainerLoop(PeftLoop):
    """PEFT and ``transformers.Trainer`` with the settings of SEAL's code (without its padding to 2,048 tokens)."""

    def fit(self, update: Update, start: Tensor) -> Tensor:
        self.load(start)
        steps = update.steps(len(update.examples))
        flat_order = [i for step in steps for i in step]
        rows = [{k: v[0] for k, v in self._inputs([example]).items()} for example in update.examples]
        same = ("learning_rate", "warmup_steps", "weight_decay", "max_grad_norm")
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=update.config.batch_size,
                num_train_epochs=1,
                lr_scheduler_type=update.config.schedule,
                **{name: getattr(update.config, name) for name in same},
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
                remove_unused_columns=False,
                use_cpu=self.peft.device.type == "cpu",
                train_sampling_strategy="sequential",
            )
            trainer = Trainer(
                model=self.peft,
                args=arguments,
                train_dataset=[rows[i] for i in flat_order],
                data_collator=lambda batch: {k: torch.stack([row[k] for row in batch]) for k in batch[0]},
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return self.flat()


class VmapLoop(PeftLoop):
    """Many adapters at once with ``torch.func.vmap`` over a functional PEFT model, in lock-step.

    AdamW without weight decay, for updates with a ``batch_size`` of 1. All adapters of a wave take their k-th step together,
    padded to the longest sequence; finished adapters idle. The comparison with the student shows the value of its scheduler.
    """

    def __init__(self, model: PreTrainedModel, lora: LoraConfig, slots: int = 16) -> None:
        model.set_attn_implementation("eager")  # the others cannot be vmapped
        super().__init__(model, lora)
        self.slots = slots
        self.names = {
            name: view
            for target, module in self._targets
            for name, view in (
                (f"base_model.model.{target.name}.lora_A.default.weight", target.a),
                (f"base_model.model.{target.name}.lora_B.default.weight", target.b),
            )
        }
        self.peft.eval()

        def loss(flat: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
            adapters = {name: view(flat[None])[0] for name, view in self.names.items()}
            positions = torch.arange(len(tokens), device=tokens.device)
            mask = torch.zeros(len(tokens), len(tokens), device=tokens.device)
            mask = mask.masked_fill(positions[None] > positions[:, None], float("-inf")).to(model.dtype)[None, None]
            inputs = {"input_ids": tokens[None], "attention_mask": mask, "use_cache": False}
            logits = functional_call(self.peft, adapters, (), inputs).logits[0, :-1]
            log_probs = torch.log_softmax(logits.float(), -1).gather(1, tokens[1:, None]).squeeze(1)
            return -(log_probs * weights).sum()

        self._grad = vmap(grad(loss))

    def fit_wave(self, updates: list[Update], start: Tensor) -> tuple[Tensor, int]:
        """Adapters ``(updates, numel)``, and the number of padded tokens."""
        device = self.peft.device
        flat = start.to(device).clone()
        mean, square = torch.zeros_like(flat), torch.zeros_like(flat)
        orders = [update.steps(len(update.examples)) for update in updates]
        padded = 0
        for step in range(max(len(order) for order in orders)):
            rows = [self._ids(update, order[step][0]) if step < len(order) else () for update, order in zip(updates, orders)]
            longest = max(len(row) for row in rows)
            padded += longest * len(rows)
            tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
            counts = torch.tensor([len(row) - 1 for row in rows], device=device)
            weights = (torch.arange(longest - 1, device=device) < counts[:, None]) / counts.clamp(min=1)[:, None]
            grads = self._grad(flat, tokens, weights)
            limits = torch.tensor([update.config.max_grad_norm for update in updates], device=device)
            grads *= (limits / (grads.norm(dim=1) + 1e-6)).clamp(max=1.0)[:, None]
            rates = [u.config.learning_rate_at(step, len(o)) if step < len(o) else 0.0 for u, o in zip(updates, orders)]
            mean.lerp_(grads, 0.1)
            square.mul_(0.999).addcmul_(grads, grads, value=0.001)
            scale = torch.tensor(rates, device=device)[:, None] / (1 - 0.9 ** (step + 1))
            flat -= scale * mean / ((square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        return flat.cpu(), padded

    def fit(self, updates: list[Update], start: Tensor) -> tuple[Tensor, float]:  # type: ignore[override]
        """Adapters of all updates, wave after wave, and the share of tokens that are not padding."""
        adapters, padded = [], 0
        for first in range(0, len(updates), self.slots):
            wave = slice(first, min(first + self.slots, len(updates)))
            trained, computed = self.fit_wave(updates[wave], start[wave])
            adapters.append(trained)
            padded += computed
        useful = sum(u.config.epochs * sum(len(self._ids(u, i)) for i in range(len(u.examples))) for u in updates)
        return torch.cat(adapters), useful / padded

    @staticmethod
    def _ids(update: Update, index: int) -> tuple[int, ...]:
        example = update.examples[index]
        assert isinstance(example, TokenExample)
        return example.ids
