"""AdamW (Loshchilov and Hutter, arXiv 1711.05101), the default optimizer of the inner loop."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import CDLL

import torch
from torch import Tensor

from seal_env.optimizers import Optimizer, StepSettings
from seal_env.student.native import call


class AdamW(Optimizer):
    """AdamW with betas (0.9, 0.999), eps 1e-8 and decoupled weight decay, as ``torch.optim.AdamW``."""

    tensors = ("exp_avg", "exp_avg_sq")

    def step(self, weights: Tensor, grads: Tensor, state: Mapping[str, Tensor], settings: StepSettings) -> None:
        numbers = settings.numbers.double()
        shrink = 1.0 - settings.learning_rates * settings.weight_decays
        rates = settings.learning_rates / (1.0 - 0.9**numbers)
        corrections = (1.0 - 0.999**numbers).sqrt()
        shrink, rates, corrections = torch.stack([shrink, rates, corrections]).to(grads.dtype)[..., None]
        mean = state["exp_avg"].lerp_(grads, 1.0 - 0.9)
        square = state["exp_avg_sq"].mul_(0.999).addcmul_(grads, grads, value=1.0 - 0.999)
        root = torch.sqrt(square, out=grads).div_(corrections).add_(1e-8).div_(rates)
        weights.mul_(shrink).addcdiv_(mean, root, value=-1.0)

    def compiled_step(
        self, library: CDLL, weights: Tensor, grads: Tensor, state: Mapping[str, Tensor], settings: StepSettings
    ) -> bool:
        numbers = (settings.clips, settings.learning_rates, settings.weight_decays, settings.numbers)
        call(library.adamw, *grads.shape, settings.slots, grads, *numbers, weights, state["exp_avg"], state["exp_avg_sq"])
        return True
