"""Inner-loop optimizers: what a class has to define, and how one is found by name.

A minimal example, in any module::

    class SGD(Optimizer):
        def step(self, weights, grads, state, settings):
            weights -= settings.learning_rates.float()[:, None] * grads

It is used with ``UpdateConfig(optimizer="package.module:SGD")`` or ``gym.make(..., inner_loop={"optimizer":
"package.module:SGD"})``. Nothing here needs torch.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from seal_env.registry import Registry

if TYPE_CHECKING:
    from ctypes import CDLL

    from torch import Tensor


class StepSettings(NamedTuple):
    """The settings of one optimizer step of several adapters, each a tensor ``(adapters,)`` on the device of the gradients.

    Attributes:
        slots: row of each adapter in the weights and in the state tensors of all slots.
        numbers: number of each adapter's step, from 1.
        clips: factor from 0 to 1 that clips each gradient, in float64.
        learning_rates: after the schedule, in float64.
        weight_decays: in float64.
    """

    slots: Tensor
    numbers: Tensor
    clips: Tensor
    learning_rates: Tensor
    weight_decays: Tensor


class Optimizer(ABC):
    """An optimizer of many adapters at once. Keyword arguments of the constructor are its options.

    All adapters of a batch take one step together, and each must get the step that it would get alone: operations are
    elementwise, or within a row. Learning-rate schedules and gradient clipping are applied by the caller.

    Attributes:
        tensors: names of the state tensors with one float32 for each weight, such as ``("momentum",)``.
        scalars: names of the state tensors with one float64 for each adapter.
    """

    tensors: ClassVar[tuple[str, ...]] = ()
    scalars: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def step(self, weights: Tensor, grads: Tensor, state: Mapping[str, Tensor], settings: StepSettings) -> None:
        """Take one step, in place, with PyTorch on any device.

        Args:
            weights: ``(adapters, numel)`` in float32.
            grads: clipped gradients, ``(adapters, numel)`` in float32; they may be overwritten.
            state: of these adapters: ``tensors`` as ``(adapters, numel)`` and ``scalars`` as ``(adapters,)``. All are zero
                before the first step of an update.
            settings: of the step.
        """

    def compiled_step(
        self, library: CDLL, weights: Tensor, grads: Tensor, state: Mapping[str, Tensor], settings: StepSettings
    ) -> bool:
        """Take the same step with a compiled kernel, where the student runs on those of ``library``.

        Args:
            library: ``seal_env/student/kernels.c``, compiled.
            weights: of all slots, ``(slots, numel)``; the rows ``settings.slots`` are to be changed.
            grads: ``(adapters, numel)``, not clipped yet.
            state: of all slots, ``(slots, numel)`` and ``(slots,)``.
            settings: of the step.

        Returns:
            False if there is no such kernel, which is the default: :meth:`step` is called then.
        """
        return False


def _check(target: object) -> str:
    if isinstance(target, type) and issubclass(target, Optimizer) and not inspect.isabstract(target):
        return ""
    return f"is not a subclass of seal_env.optimizers.Optimizer that defines step, but {target!r}"


OPTIMIZERS: Registry[type[Optimizer]] = Registry("optimizer", group="seal_env.optimizers", check=_check)
OPTIMIZERS.register("adamw", "seal_env.student.adamw:AdamW", "AdamW with betas (0.9, 0.999) and eps 1e-8, the default")


def make_optimizer(optimizer: str | type[Optimizer], options: Mapping[str, Any]) -> Optimizer:
    """Instantiate an optimizer.

    Args:
        optimizer: a registered name, ``package.module:object``, or the class.
        options: keyword arguments of its constructor.

    Raises:
        ValueError: there is no such optimizer, it is not an :class:`Optimizer`, or an option is unknown, missing or out of
            range.
    """
    return OPTIMIZERS.create(optimizer, options)
