"""Compiled kernels for the CPU: ``kernels.c``, built once with the machine's C compiler and kept in the user's cache.

Without a compiler or a vector maths library, and with ``SEAL_ENV_NATIVE=0``, PyTorch's operations compute the same more slowly;
one line in the log says so.
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
from collections.abc import Callable
from ctypes import CDLL
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from seal_env.files import cache_folder
from seal_env.student.groups import Groups, Sequences
from seal_env.student.memory import available_bytes
from seal_env.student.ops import Attention, Rotary, TorchOps

_log = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_name("kernels.c")
_FLAGS = ["-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
# For AMD's processors GCC rounds products before it sums them in some loops only; a row must not depend on its loop.
_X86_FLAGS = ["-mprefer-vector-width=512", "--param=avoid-fma-max-bits=0"]
# Longer sequences take PyTorch's attention: each thread holds one head's probabilities, which grow with the square.
_ATTENTION_LENGTH = 4096


def best_ops(model: PreTrainedModel, bfloat16: bool = False) -> TorchOps:
    """The fastest operations for the model's device and precision; if these are not the compiled ones, the log says why,
    once.

    Args:
        model: to compute with.
        bfloat16: whether the caller computes in float32 with bfloat16 weights, as the kernels do. Otherwise such a model runs
            on PyTorch's operations.
    """
    if _forked:
        _warn_once(
            "this process was forked and computes with one thread, since OpenMP's threads do not survive a fork; processes that"
            " are spawned use several"
        )
    if model.device.type != "cpu":
        if model.device.type == "cuda" and model.dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(False):
            _warn_once("this GPU has no bfloat16 units: it emulates them, and float32 may be faster")
        return TorchOps()
    if model.dtype == torch.bfloat16 and bfloat16:
        return _bfloat16_ops(model)
    if model.dtype != torch.float32:
        _warn_once(
            f"{str(model.dtype).removeprefix('torch.')} on the CPU runs on PyTorch's operations: no kernels are compiled for it"
        )
        return TorchOps()
    ops = _native_ops(model)
    if ops is not None and not ops.pack_weights:
        _warn_once(
            f"too little memory for two more copies of the base weights ({2 * _size(model) >> 20} MiB): base products are"
            " PyTorch's, whose rounding depends on the batch"
        )
    return ops or TorchOps()


def _bfloat16_ops(model: PreTrainedModel) -> TorchOps:
    ops = _native_ops(model)
    if ops is None or not ops.pack_weights:
        reason = "there are no compiled kernels" if ops is None else "too little memory for two more copies of the weights"
        _warn_once(f"bfloat16 on the CPU runs on PyTorch's operations, slowly: {reason}")
        return TorchOps()
    if not ops.library.bf16_units():
        _warn_once("this processor has no bfloat16 units: products with bfloat16 weights are computed in float32, no faster")
    return ops


def _native_ops(model: PreTrainedModel) -> NativeOps | None:
    """Compiled operations, shared by all students of ``model``; None, with a line in the log, where there are none."""
    if os.environ.get("SEAL_ENV_NATIVE", "1") == "0":
        _warn_once("SEAL_ENV_NATIVE=0: PyTorch's operations in place of compiled kernels, which are faster")
        return None
    library = compile_library(_SOURCE)
    if library is None:
        return None
    ops = _ops_of_models.get(model)
    if ops is None or ops.library is not library:
        ops = NativeOps(library, pack_weights=2 * _size(model) < available_bytes(model.device) // 4)
        _ops_of_models[model] = ops
    return ops


def _size(model: PreTrainedModel) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


@functools.cache
def _warn_once(message: str) -> None:
    """Log a warning, once in a process."""
    _log.warning(message)


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True
    torch.set_num_threads(1)
    if compile_library.cache_info().currsize and (library := compile_library(_SOURCE)) is not None:
        library.omp_set_num_threads(1)


# A forked process has OpenMP's locks but not its threads, and would wait for them forever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# Students of one model share its packed weights, which are twice as large as the model.
_ops_of_models: WeakKeyDictionary[PreTrainedModel, NativeOps] = WeakKeyDictionary()


class NativeOps(TorchOps):
    """:class:`TorchOps` on contiguous float32 CPU tensors, with weights in float32 or bfloat16. The caller is responsible for
    shapes: nothing is checked here.

    Products with bfloat16 weights use the processor's bfloat16 units, which round the other factor to bfloat16; without such
    units it stays float32. Sums are float32 in both cases.

    Args:
        library: the compiled kernels.
        pack_weights: keep each base weight in two more copies, laid out for the forward and the backward product. A row of
            these products has the same bits whatever other rows there are. Otherwise they are PyTorch's.
    """

    library: CDLL
    dtype = torch.float32

    def __init__(self, library: CDLL, pack_weights: bool) -> None:
        self.library = library
        self.pack_weights = pack_weights
        self._lanes, self._panel = library.lanes(), library.panel_width()
        self._packed: dict[tuple[int, bool], tuple[int, Tensor, Tensor]] = {}  # version, weight (kept alive), panels

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self.pack_weights,)

    @property
    def description(self) -> str:
        return f"{Path(self.library._name).stem}, {'packed' if self.pack_weights else 'not packed'}"

    def gather_(self, out: Tensor, state: Tensor, slots: Tensor) -> None:
        call(self.library.gather, len(slots), state.shape[1], slots, state, out)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
        if not self.pack_weights:
            return super().product(x, weight, bias, residual)
        out = x.new_empty(len(x), weight.shape[0])
        self._product(x, weight, False, None if bias is None else bias.float(), residual, out)
        return out

    def product_backward(self, dy: Tensor, weight: Tensor, onto: Tensor | None = None) -> Tensor:
        if not self.pack_weights:
            return super().product_backward(dy, weight, onto)
        out = dy.new_empty(len(dy), weight.shape[1]) if onto is None else onto
        self._product(dy, weight, True, None, onto, out)
        return out

    def _product(
        self, x: Tensor, weight: Tensor, backward: bool, bias: Tensor | None, plus: Tensor | None, out: Tensor
    ) -> None:
        half = weight.dtype == torch.bfloat16
        if half and x.shape[1] % 2:  # bfloat16 terms are multiplied in pairs
            x = F.pad(x, (0, 1))
        kernel = self.library.product16 if half else self.library.product
        sizes = (len(x), out.shape[1], x.shape[1])
        call(kernel, *sizes, x, self._panels(weight, backward), bias, plus, out, torch.get_num_threads())

    def _panels(self, weight: Tensor, backward: bool) -> Tensor:
        """``weight`` in the layout of the product's kernel; packed again after the weight was changed in place."""
        key, version = (weight.data_ptr(), backward), weight._version
        packed_version, _, panels = self._packed.get(key, (-1, weight, weight))
        if packed_version != version:
            half = weight.dtype == torch.bfloat16
            original = weight
            if half and weight.shape[not backward] % 2:
                weight = F.pad(weight, (0, 0, 0, 1) if backward else (0, 1))
            rows, columns = weight.shape
            depth, width, strides = (rows, columns, (columns, 1)) if backward else (columns, rows, (1, columns))
            panels = weight.new_empty(-(-width // self._panel) * self._panel * depth)
            call(self.library.pack16 if half else self.library.pack, depth, width, weight, *strides, panels)
            self._packed[key] = (version, original, panels)
        return panels

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        normed, rstd = torch.empty_like(x), x.new_empty(*x.shape[:-1], 1)
        call(self.library.rms_norm, rstd.numel(), x.shape[-1], x, weight.float(), float(eps), normed, rstd)
        return normed, rstd

    def rms_norm_backward_(self, dx: Tensor, d_normed: Tensor, x: Tensor, rstd: Tensor, weight: Tensor) -> None:
        call(self.library.rms_norm_backward, *x.shape, d_normed, x, weight.float(), rstd, dx)

    def ragged(self, head_dim: int) -> int:
        return _ATTENTION_LENGTH if self.pack_weights and head_dim % self._lanes == 0 else 0

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, sequences: Sequences, head_dim: int, rotary: Rotary
    ) -> tuple[Tensor, Attention]:
        if sequences.longest > _ATTENTION_LENGTH or head_dim % self._lanes:
            return super().attention(q, k, v, sequences, head_dim, rotary)
        attention = _NativeAttention(self.library, q, k, v, sequences, head_dim, rotary)
        return attention.output, attention

    def shares_prefixes(self, head_dim: int) -> int:
        return 0 if head_dim % self._lanes else _ATTENTION_LENGTH

    def fill_cache_(self, keys: Tensor, values: Tensor, k: Tensor, v: Tensor, entries: Tensor, rotary: Rotary) -> None:
        _, kv_heads, capacity, head_dim = keys.shape
        call(self.library.fill_cache, len(entries), entries, kv_heads, head_dim, capacity, k, v, *rotary, keys, values)

    def attention_class(self, length: int) -> int:
        return (length > _ATTENTION_LENGTH) + super().attention_class(length)

    def attend_cached(
        self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, longest: int, rotary: Rotary
    ) -> Tensor:
        rows, kv_heads, capacity, head_dim = keys.shape
        if head_dim % self._lanes:
            return super().attend_cached(q, k, v, keys, values, lengths, longest, rotary)
        out = torch.empty_like(q)
        sizes = (rows, q.shape[1] // head_dim, kv_heads, head_dim, capacity)
        call(self.library.attend_cached, *sizes, q, k, v, *rotary, lengths, head_dim**-0.5, keys, values, out)
        return out

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        out = torch.empty_like(gate)
        call(self.library.swiglu, gate.numel() // gate.shape[-1], gate.shape[-1], gate, up, out)
        return out

    def swiglu_backward(self, d_out: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        call(self.library.swiglu_backward, *gate.shape, d_out, gate, up)
        return gate, up

    def cross_entropy_(self, logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        nll = torch.empty_like(weights)
        call(self.library.cross_entropy, *logits.shape, logits, labels, weights, nll)
        return nll, logits

    def lora_down(self, groups: Groups, x: Tensor, w: Tensor, scale: float = 1.0) -> Tensor:
        h = x.new_empty(len(x), w.shape[1])
        call(self.library.lora_down, *_rows(groups), *_sizes(w), x, w, w.stride(0), scale, h, h.stride(0))
        return h

    def lora_up_(self, groups: Groups, y: Tensor, h: Tensor, w: Tensor, scale: float = 1.0) -> None:
        call(self.library.lora_up, *_rows(groups), *_sizes(w), h, h.stride(0), w, w.stride(0), scale, y)

    def lora_outer_(self, groups: Groups, out: Tensor, h: Tensor, x: Tensor, scale: float = 1.0) -> None:
        sizes = (groups.adapters, groups.starts, *_sizes(out))
        call(self.library.lora_outer, *sizes, h, h.stride(0), x, scale, out, out.stride(0))

    def grad_norms(self, grads: Tensor) -> Tensor:
        norms = torch.empty(len(grads), dtype=torch.float64)
        call(self.library.grad_norms, *grads.shape, grads, norms)
        return norms


def _unpickle(pack_weights: bool) -> TorchOps:
    """:class:`NativeOps` with the library of this machine, if it has one."""
    library = compile_library(_SOURCE)
    return TorchOps() if library is None else NativeOps(library, pack_weights)


class _NativeAttention:
    def __init__(
        self, library: CDLL, q: Tensor, k: Tensor, v: Tensor, sequences: Sequences, head_dim: int, rotary: Rotary
    ) -> None:
        sizes = (sequences.longest, q.shape[1] // head_dim, k.shape[1] // head_dim, head_dim)
        self.library, self.inputs = library, (q, k, v)
        counts = (sequences.count, sequences.starts)
        rest = (*sizes, q, k, v, *rotary, head_dim**-0.5)
        self.arguments = (*counts, *rest)  # of the backward pass, in which no sequence has a prefix
        self.output = torch.empty_like(q)
        call(library.attention, *counts, sequences.prefixes, *rest, self.output)

    def backward(self, d_output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dq, dk, dv = map(torch.empty_like, self.inputs)
        call(self.library.attention_backward, *self.arguments, self.output, d_output, dq, dk, dv)
        return dq, dk, dv


def call(kernel: Callable[..., object], *arguments: Tensor | int | float | None) -> None:
    """Call a kernel with tensors as pointers (None as a null pointer), integers as ``long`` and floats as ``float``."""
    kernel(*map(_c_argument, arguments))


def _c_argument(value: Tensor | int | float | None) -> ctypes.c_void_p | ctypes.c_long | ctypes.c_float:
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    return ctypes.c_void_p(None if value is None else value.data_ptr())


def _rows(groups: Groups) -> tuple[int, int, Tensor]:
    """The number of adapters, the most rows of one adapter, and the first row of each."""
    return groups.adapters, groups.most, groups.starts


def _sizes(w: Tensor) -> tuple[int, int]:
    """Width and rank of an adapter's matrix."""
    return w.shape[2], w.shape[1]


@functools.cache
def compile_library(source: Path) -> CDLL | None:
    """Compile a C file for this processor, or load it from the cache; None, with a line in the log, if that is not possible."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if platform.system() != "Linux" or ctypes.sizeof(ctypes.c_long) != 8:
        return _without_library(f"they are for 64-bit Linux, and this is {platform.system()} on {platform.machine()}")
    if compiler is None:
        return _without_library("there is no C compiler (cc, gcc or clang)")
    flags = [*_FLAGS, *_X86_FLAGS] if platform.machine() == "x86_64" else _FLAGS
    identity = "\n".join([source.read_text(), compiler, *flags, _processor()])
    folder = cache_folder()
    target = folder / f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
    try:
        if not target.is_file():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                built = Path(temporary) / target.name
                command = [compiler, *flags, "-o", str(built), str(source), "-lm"]
                subprocess.run(command, check=True, capture_output=True, timeout=120)
                os.replace(built, target)
        return CDLL(str(target))
    except subprocess.CalledProcessError as error:
        message = " ".join(error.stderr.decode(errors="replace").split())
        return _without_library(f"{compiler} ended with {error.returncode}: {message[:200]}")
    except (OSError, subprocess.SubprocessError) as error:
        return _without_library(str(error))


def _without_library(reason: str) -> CDLL | None:
    _warn_once(f"no compiled kernels, PyTorch's operations do the same more slowly: {reason}")
    return None


def _processor() -> str:
    """Identifies the processor for ``-march=native``."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
