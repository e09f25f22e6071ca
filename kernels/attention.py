"""Scaled dot-product attention through one door: one place picks the implementation."""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from kernels.backend import xformers_works

MANY_TOKENS = 128
"""From so many on, flash attention in float32 is worth it on the CPU where gradients are taken."""


def attention_reference(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, mask: Tensor | None = None
) -> Tensor:
    """softmax(q kᵀ / sqrt(D) + mask) v.

    q, k, v: (B, H, L, D) B sequences, H heads, L tokens, D channels per head, any float dtype.
    causal: a token attends to itself and to what is before it, else to all. mask: (B, H, L, L) of
    q.dtype, instead of causal, -inf where a token does not attend to another; one at least remains.
    Returns (B, H, L, D) in q.dtype; the softmax is taken in float32 (float64 for float64 input).
    Source: Vaswani et al. 2017, equation 1.
    """
    work = torch.float64 if q.dtype == torch.float64 else torch.float32
    scores = q.to(work) @ k.to(work).transpose(-2, -1) * q.shape[-1] ** -0.5
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if mask is not None:
        scores = scores + mask.to(work)
    return (torch.softmax(scores, dim=-1) @ v.to(work)).to(q.dtype)


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, mask: Tensor | None = None
) -> Tensor:
    """What `attention_reference` computes, by the fastest implementation at hand.

    Shapes and dtypes as in the reference. On CUDA xformers' memory-efficient attention where it
    works, the dtype is half or bfloat16 and there is no mask, PyTorch's own choice elsewhere and in
    torch.compile. On the CPU flash attention, but plain matrix products where gradients are
    recorded in half precision or over few tokens: there its backward pass is slow (twice as slow at
    64 x 4 x 65 x 32 in bfloat16). Over many tokens in float32 it is the faster one (0.6 times the
    products' time at 8 x 12 x 197 x 64, forward and backward).
    """
    half = q.dtype in (torch.float16, torch.bfloat16)
    eager = mask is None and not torch.compiler.is_compiling()
    if q.is_cuda and half and eager and xformers_works():
        from xformers.ops import LowerTriangularMask, memory_efficient_attention

        bias = LowerTriangularMask() if causal else None
        # xformers wants (B, L, H, D)
        heads_last = (x.transpose(1, 2) for x in (q, k, v))
        return memory_efficient_attention(*heads_last, attn_bias=bias).transpose(1, 2)
    hidden = None if mask is None else mask.to(q.dtype)
    few = q.shape[-2] < MANY_TOKENS
    if q.device.type == "cpu" and torch.is_grad_enabled() and (half or few):
        with sdpa_kernel(SDPBackend.MATH):
            return scaled_dot_product_attention(q, k, v, hidden, is_causal=causal)
    return scaled_dot_product_attention(q, k, v, hidden, is_causal=causal)
