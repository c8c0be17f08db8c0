"""The ATen operations that a program may use: functions of tensors that touch no file, no device and no state."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from models_zoo.formats.sizes import equal


def _batch_norm(  # noqa: PLR0917 - the order is ATen's
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn: bool = False,
) -> tuple[Any, ...]:
    return x, mean, variance, weight, bias, training, momentum, eps


def _dropout(x: Tensor, *_: Any) -> tuple[Any, ...]:
    return x, 0.0, False


def _pooling(x: Tensor, kernel: Any, stride: Any = (), *others: Any) -> tuple[Any, ...]:
    return x, kernel, stride or None, *others  # ATen's empty stride is the kernel's size


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "conv1d.default": functional.conv1d,
    "conv2d.default": functional.conv2d,
    "conv2d.padding": functional.conv2d,
    "conv_transpose2d.input": functional.conv_transpose2d,
    "linear.default": functional.linear,
    "batch_norm.default": functional.batch_norm,
    "relu.default": functional.relu,
    "softplus.default": functional.softplus,
    "max_pool2d.default": functional.max_pool2d,
    "avg_pool2d.default": functional.avg_pool2d,
    "adaptive_avg_pool2d.default": functional.adaptive_avg_pool2d,
    "dropout.default": functional.dropout,
    "flatten.using_ints": torch.flatten,
    "view.default": torch.reshape,
    "reshape.default": torch.reshape,
    "add.Tensor": operator.add,
    "sub.Tensor": operator.sub,
    "subtract.Tensor": operator.sub,
    "mul.Tensor": operator.mul,
    "multiply.Tensor": operator.mul,
    "div.Tensor": operator.truediv,
    "divide.Tensor": operator.truediv,
    "true_divide.Tensor": operator.truediv,
    "mean.dim": torch.mean,
    "sym_size.int": Tensor.size,
}
"""ATen operations that have a Python function: modules that trace others know these by name."""

REORDERED: Final = {
    "batch_norm.default": _batch_norm,
    "dropout.default": _dropout,
    "max_pool2d.default": _pooling,
    "avg_pool2d.default": _pooling,
}
"""Where the Python function takes other arguments, or in another order."""

ATEN: Final = frozenset(
    """
    _softmax.default _to_copy.default _unsafe_view.default abs.default acos.default adaptive_avg_pool1d.default
    adaptive_avg_pool3d.default adaptive_max_pool2d.default add.Scalar addcdiv.default addcmul.default
    addmm.default alias.default all.default all.dim amax.default amin.default any.default any.dim arange.default
    arange.start arange.start_step argmax.default argmin.default asin.default atan.default avg_pool1d.default
    avg_pool3d.default baddbmm.default bitwise_and.Tensor bitwise_not.default bitwise_or.Tensor bmm.default
    broadcast_to.default cat.default ceil.default celu.default chunk.default clamp.Tensor clamp.default
    clamp_max.Tensor clamp_max.default clamp_min.Tensor clamp_min.default clip.default clone.default
    concat.default concatenate.default constant_pad_nd.default contiguous.default conv1d.padding conv3d.default
    conv_transpose1d.default convolution.default copy.default cos.default cosh.default cumsum.default
    detach.default div.Scalar div.Tensor_mode dot.default einsum.default elu.default embedding.default eq.Scalar
    eq.Tensor erf.default erfc.default exp.default exp2.default expand.default expand_as.default expm1.default
    eye.default eye.m fill.Scalar fill.Tensor flip.default floor.default floor_divide.default fmod.Scalar
    fmod.Tensor full.default full_like.default gather.default ge.Scalar ge.Tensor gelu.default glu.default
    group_norm.default gt.Scalar gt.Tensor hardshrink.default hardsigmoid.default hardswish.default
    hardtanh.default im2col.default index.Tensor index_put.default index_select.default instance_norm.default
    isnan.default layer_norm.default le.Scalar le.Tensor leaky_relu.default lerp.Scalar lerp.Tensor
    lift_fresh_copy.default linalg_vector_norm.default log.default log10.default log1p.default log2.default
    log_sigmoid.default log_softmax.int logical_and.default logical_not.default logical_or.default
    logical_xor.default logsumexp.default lt.Scalar lt.Tensor masked_fill.Scalar masked_fill.Tensor matmul.default
    max.default max.dim max.other max_pool1d.default max_pool3d.default maximum.default mean.default
    meshgrid.indexing min.default min.dim min.other minimum.default mish.default mm.default movedim.int
    movedim.intlist mul.Scalar mv.default narrow.default native_layer_norm.default ne.Scalar ne.Tensor neg.default
    new_full.default new_ones.default new_zeros.default norm.ScalarOpt_dim norm.ScalarOpt_dim_dtype ones.default
    ones_like.default outer.default pad.default permute.default pixel_shuffle.default pixel_unshuffle.default
    pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor prelu.default prod.default prod.dim_int reciprocal.default
    relu6.default remainder.Scalar remainder.Tensor repeat.default repeat_interleave.self_int reshape_as.default
    rms_norm.default roll.default round.default rsqrt.default rsub.Scalar rsub.Tensor scalar_tensor.default
    scaled_dot_product_attention.default scatter.src scatter.value select.int select_scatter.default selu.default
    sigmoid.default sign.default silu.default sin.default sinh.default slice.Tensor slice_scatter.default
    softmax.int softshrink.default split.Tensor split_with_sizes.default sqrt.default square.default
    squeeze.default squeeze.dim squeeze.dims stack.default std.correction std.default std.dim sub.Scalar
    sum.default sum.dim_IntList swapaxes.default t.default tan.default tanh.default threshold.default tile.default
    to.device to.dtype to.dtype_layout transpose.int tril.default triu.default type_as.default unbind.int
    unflatten.int unfold.default unsqueeze.default upsample_bicubic2d.vec upsample_bilinear2d.default
    upsample_bilinear2d.vec upsample_nearest2d.default upsample_nearest2d.vec var.correction var.default var.dim
    view_as.default where.Scalar where.ScalarOther where.ScalarSelf where.self zero.default zeros.default
    zeros_like.default
    """.split()  # noqa: SIM905 - two hundred names read better as prose
)
"""Further ATen operations."""

CREATORS: Final = frozenset({"arange", "eye", "full", "ones", "scalar_tensor", "zeros"})
"""Operations that make a tensor from numbers; it is to lie where the images are, not where it was exported."""

PIECES: Final = frozenset({"unbind.int", "split.Tensor", "chunk.default", "split_with_sizes.default"})
"""Operations that give as many tensors as they are asked for."""

MOST_PIECES: Final = 4096

SCALAR_FUNCTIONS: Final = {
    f"_operator.{name}": getattr(operator, name)
    for name in (
        "add",
        "sub",
        "mul",
        "floordiv",
        "truediv",
        "mod",
        "neg",
        "ge",
        "gt",
        "le",
        "lt",
        "getitem",
    )
} | {"_operator.eq": equal, "_operator.ne": lambda a, b: not equal(a, b)}
"""Arithmetic of sizes."""

SCALAR_MODULES: Final = ("_operator.", "math.", "torch.sym_")
"""Whose functions, where they are not among those, may at most feed a check."""

CHECKS: Final = frozenset(
    f"torch.ops.aten.{name}"
    for name in (
        "_assert_scalar.default",
        "_assert_tensor_metadata.default",
        "sym_constrain_range.default",
        "sym_constrain_range_for_size.default",
    )
)
"""Operations that only check; they are left out."""

IGNORED: Final = frozenset({"memory_format", "layout", "device", "pin_memory", "non_blocking"})
"""Arguments that do not change the values."""

WORDS: Final = frozenset(
    "none tanh mean sum zeros floor trunc constant reflect replicate same valid circular ij xy".split()  # noqa: SIM905
)
"""Texts that an operation may be given."""


def operation_of(target: str) -> tuple[str, bool]:
    """The name of an ATen operation that changes nothing in place, and whether the one asked for does."""
    name, dot, overload = target.removeprefix("torch.ops.aten.").partition(".")
    in_place = name.endswith("_") and not name.endswith("__")
    return (name[:-1] if in_place else name) + dot + overload, in_place
