"""Compiled kernels for the CPU: ``kernels.c``, built once with the machine's C compiler and kept in the user's cache.

Where there is no compiler, no vector maths library, or ``SEAL_ENV_NATIVE=0`` is set, PyTorch's operations do the same work
more slowly; one line in the log says so.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from seal_env.student.groups import Groups, Sequences
from seal_env.student.memory import available_bytes
from seal_env.student.ops import AdamWSteps, Attention, Rotary, TorchOps

_log = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_name("kernels.c")
_FLAGS = ["-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
_WIDE = "-mprefer-vector-width=512"
# Longer sequences are PyTorch's: each thread holds one head's probabilities, which grow with the square.
_ATTENTION_LENGTH = 4096


def best_ops(model: PreTrainedModel) -> TorchOps:
    """The fastest operations for the model's device and precision; the log says, once, where they are not the compiled ones."""
    if _forked:
        _say(
            "this process was forked and computes with one thread, since OpenMP's threads do not survive a fork; processes that"
            " are spawned use several"
        )
    if model.device.type != "cpu":
        if model.device.type == "cuda" and model.dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(False):
            _say("this GPU has no bfloat16 units: it emulates them, and float32 may be faster")
        return TorchOps()
    if model.dtype != torch.float32:
        _say(
            f"{str(model.dtype).removeprefix('torch.')} on the CPU runs on PyTorch's operations: no kernels are compiled for it"
        )
        return TorchOps()
    if os.environ.get("SEAL_ENV_NATIVE", "1") == "0":
        _say("SEAL_ENV_NATIVE=0: PyTorch's operations in place of compiled kernels, which are faster")
        return TorchOps()
    library = compile_library(_SOURCE)
    if library is None:
        return TorchOps()
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    packed = 2 * size < available_bytes(model.device) // 4
    if not packed:
        _say(
            f"too little memory for two more copies of the base weights ({2 * size >> 20} MiB): base products are PyTorch's,"
            " whose rounding depends on the batch"
        )
    return NativeOps(library, pack_weights=packed)


@functools.cache
def _say(message: str) -> None:
    """A warning, once a process."""
    _log.warning(message)


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True
    torch.set_num_threads(1)
    if compile_library.cache_info().currsize and (library := compile_library(_SOURCE)) is not None:
        library.omp_set_num_threads(1)


# A forked process has OpenMP's locks but not its threads: whatever waits for these waits for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class NativeOps(TorchOps):
    """:class:`TorchOps` on contiguous float32 CPU tensors; errors are the caller's: nothing is checked here.

    Args:
        library: the compiled kernels.
        pack_weights: keep each base weight in two more copies, laid out for the forward and the backward product; these
            products give a row the same bits whatever other rows there are. Otherwise they are PyTorch's.
    """

    def __init__(self, library: ctypes.CDLL, pack_weights: bool) -> None:
        self._lib = library
        self._pack_weights = pack_weights
        self._lanes, self._panel = library.lanes(), library.panel_width()
        self._packed: dict[tuple[int, bool], tuple[int, Tensor, Tensor]] = {}  # version, weight (kept alive), panels

    def __reduce__(self) -> tuple[Any, ...]:
        return _native_ops, (self._pack_weights,)

    def gather_(self, out: Tensor, state: Tensor, slots: Tensor) -> None:
        self._lib.gather(_n(len(slots)), _n(state.shape[1]), _p(slots), _p(state), _p(out))

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        if not self._pack_weights:
            return super().product(x, weight, bias, residual)
        out = x.new_empty(len(x), weight.shape[0])
        self._product(x, self._panels(weight, backward=False), bias, residual, out)
        return out

    def product_backward(self, dy: Tensor, weight: Tensor, onto: Tensor | None = None) -> Tensor:
        if not self._pack_weights:
            return super().product_backward(dy, weight, onto)
        out = dy.new_empty(len(dy), weight.shape[1]) if onto is None else onto
        self._product(dy, self._panels(weight, backward=True), None, onto, out)
        return out

    def _product(self, x: Tensor, panels: Tensor, bias: Tensor | None, plus: Tensor | None, out: Tensor) -> None:
        threads = torch.get_num_threads()
        sizes = (len(x), out.shape[1], x.shape[1])
        self._lib.product(*map(_n, sizes), _p(x), _p(panels), _p(bias), _p(plus), _p(out), _n(threads))

    def _panels(self, weight: Tensor, backward: bool) -> Tensor:
        """``weight`` as the product's kernel reads it; made anew after the weight was changed in place."""
        key, version = (weight.data_ptr(), backward), weight._version
        made, _, panels = self._packed.get(key, (-1, weight, weight))
        if made != version:
            rows, columns = weight.shape
            depth, width, strides = (rows, columns, (columns, 1)) if backward else (columns, rows, (1, columns))
            panels = weight.new_empty(-(-width // self._panel) * self._panel * depth)
            self._lib.pack(*map(_n, (depth, width)), _p(weight), *map(_n, strides), _p(panels))
            self._packed[key] = (version, weight, panels)
        return panels

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        size = x.shape[-1]
        normed, rstd = torch.empty_like(x), x.new_empty(*x.shape[:-1], 1)
        self._lib.rms_norm(_n(rstd.numel()), _n(size), _p(x), _p(weight), ctypes.c_float(eps), _p(normed), _p(rstd))
        return normed, rstd

    def rms_norm_backward_(self, dx: Tensor, d_normed: Tensor, x: Tensor, rstd: Tensor, weight: Tensor) -> None:
        self._lib.rms_norm_backward(_n(len(x)), _n(x.shape[1]), _p(d_normed), _p(x), _p(weight), _p(rstd), _p(dx))

    def ragged(self, head_dim: int) -> int:
        return _ATTENTION_LENGTH if self._pack_weights and head_dim % self._lanes == 0 else 0

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, sequences: Sequences, head_dim: int, rotary: Rotary
    ) -> tuple[Tensor, Attention]:
        if sequences.longest > _ATTENTION_LENGTH or head_dim % self._lanes:
            return super().attention(q, k, v, sequences, head_dim, rotary)
        attention = _NativeAttention(self._lib, q, k, v, sequences, head_dim, rotary)
        return attention.output, attention

    def attention_class(self, length: int) -> int:
        return (length > _ATTENTION_LENGTH) + super().attention_class(length)

    def attend_cached(
        self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, longest: int, rotary: Rotary
    ) -> Tensor:
        rows, kv_heads, room, head_dim = keys.shape
        if head_dim % self._lanes:
            return super().attend_cached(q, k, v, keys, values, lengths, longest, rotary)
        out = torch.empty_like(q)
        self._lib.attend_cached(
            *map(_n, (rows, q.shape[1] // head_dim, kv_heads, head_dim, room)), _p(q), _p(k), _p(v), *map(_p, rotary),
            _p(lengths), ctypes.c_float(head_dim**-0.5), _p(keys), _p(values), _p(out),
        )  # fmt: skip
        return out

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        out = torch.empty_like(gate)
        self._lib.swiglu(_n(gate.numel() // gate.shape[-1]), _n(gate.shape[-1]), _p(gate), _p(up), _p(out))
        return out

    def swiglu_backward(self, d_out: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        self._lib.swiglu_backward(_n(len(gate)), _n(gate.shape[1]), _p(d_out), _p(gate), _p(up))
        return gate, up

    def cross_entropy_(self, logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        nll = torch.empty_like(weights)
        self._lib.cross_entropy(*map(_n, logits.shape), _p(logits), _p(labels), _p(weights), _p(nll))
        return nll, logits

    def lora_down(self, groups: Groups, x: Tensor, w: Tensor, scale: float = 1.0) -> Tensor:
        h = x.new_empty(len(x), w.shape[1])
        self._lib.lora_down(
            *_rows(groups), *_sizes(w), _p(x), _p(w), _n(w.stride(0)), ctypes.c_float(scale), _p(h), _n(h.stride(0))
        )
        return h

    def lora_up_(self, groups: Groups, y: Tensor, h: Tensor, w: Tensor, scale: float = 1.0) -> None:
        self._lib.lora_up(
            *_rows(groups), *_sizes(w), _p(h), _n(h.stride(0)), _p(w), _n(w.stride(0)), ctypes.c_float(scale), _p(y)
        )

    def lora_outer_(self, groups: Groups, out: Tensor, h: Tensor, x: Tensor, scale: float = 1.0) -> None:
        adapters, _, starts = _rows(groups)
        self._lib.lora_outer(adapters, starts, *_sizes(out), *_strided(h), _p(x), ctypes.c_float(scale), *_strided(out))

    def grad_norms(self, grads: Tensor) -> Tensor:
        norms = torch.empty(len(grads), dtype=torch.float64)
        self._lib.grad_norms(*map(_n, grads.shape), _p(grads), _p(norms))
        return norms

    def adamw_(self, weights: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, grads: Tensor, steps: AdamWSteps) -> None:
        settings = map(_p, (steps.clips, steps.learning_rates, steps.weight_decays, steps.numbers))
        state = map(_p, (weights, exp_avg, exp_avg_sq))
        self._lib.adamw(*map(_n, grads.shape), _p(steps.slots), _p(grads), *settings, *state)


def _native_ops(pack_weights: bool) -> TorchOps:
    """:class:`NativeOps` where they come out of a pickle."""
    library = compile_library(_SOURCE)
    return TorchOps() if library is None else NativeOps(library, pack_weights)


class _NativeAttention:
    def __init__(
        self, library: ctypes.CDLL, q: Tensor, k: Tensor, v: Tensor, sequences: Sequences, head_dim: int, rotary: Rotary
    ) -> None:
        self._lib, self.inputs, self.sequences, self.rotary = library, (q, k, v), sequences, rotary
        sizes = (sequences.longest, q.shape[1] // head_dim, k.shape[1] // head_dim, head_dim)
        self.sizes = (_n(sequences.count), _p(sequences.starts), *map(_n, sizes))
        self.scale = ctypes.c_float(head_dim**-0.5)
        self.output = torch.empty_like(q)
        self._lib.attention(*self.sizes, *map(_p, (q, k, v, *rotary)), self.scale, _p(self.output))

    def backward(self, d_output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.inputs
        gradients = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        given = map(_p, (q, k, v, *self.rotary))
        self._lib.attention_backward(*self.sizes, *given, self.scale, *map(_p, (self.output, d_output, *gradients)))
        return gradients


_n = ctypes.c_long


def _p(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _strided(tensor: Tensor) -> tuple[ctypes.c_void_p, ctypes.c_long]:
    """A tensor whose rows, contiguous each, stand ``stride`` floats apart."""
    return _p(tensor), _n(tensor.stride(0))


def _rows(groups: Groups) -> tuple[ctypes.c_long, ctypes.c_long, ctypes.c_void_p]:
    """How many adapters, the most rows of one, and where the rows of each begin."""
    return _n(groups.adapters), _n(groups.most), _p(groups.starts)


def _sizes(w: Tensor) -> tuple[ctypes.c_long, ctypes.c_long]:
    """Width and rank of an adapter's matrix."""
    return _n(w.shape[2]), _n(w.shape[1])


@functools.cache
def compile_library(source: Path) -> ctypes.CDLL | None:
    """The C file as a library for this processor, built if it is not in the cache; None where that is not possible."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if platform.system() != "Linux" or ctypes.sizeof(ctypes.c_long) != 8:
        return _without_library(f"they are for 64-bit Linux, and this is {platform.system()} on {platform.machine()}")
    if compiler is None:
        return _without_library("there is no C compiler (cc, gcc or clang)")
    flags = [*_FLAGS, _WIDE] if platform.machine() == "x86_64" else _FLAGS
    identity = "\n".join([source.read_text(), compiler, *flags, _processor()])
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seal-env"
    target = folder / f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
    try:
        if not target.is_file():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                built = Path(temporary) / target.name
                command = [compiler, *flags, "-o", str(built), str(source), "-lm"]
                subprocess.run(command, check=True, capture_output=True, timeout=120)
                os.replace(built, target)
        return ctypes.CDLL(str(target))
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").split()
        return _without_library(f"{compiler} ended with {error.returncode}: {' '.join(words)[:200]}")
    except (OSError, subprocess.SubprocessError) as error:
        return _without_library(str(error))


def _without_library(reason: str) -> ctypes.CDLL | None:
    _say(f"no compiled kernels, PyTorch's operations do the same more slowly: {reason}")
    return None


def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
