"""Many adapters at once with ``torch.func.vmap`` over a functional PEFT model, in lock-step.

All adapters of a wave take their k-th step together, padded to the longest sequence; finished adapters idle. The comparison
with the student shows the value of its scheduler.
"""

from __future__ import annotations

import torch
from peft import LoraConfig
from torch import Tensor
from torch.func import functional_call, grad, vmap
from transformers import PreTrainedModel

from benchmarks.measurements.reference import PeftLoop
from seal_env.update import TokenExample, Update


class VmapLoop(PeftLoop):
    """AdamW without weight decay over stacked adapters, for updates with a ``batch_size`` of 1."""

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
