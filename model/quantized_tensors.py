"""Weights stored in eight bits: what lets a body of 18 million parameters lie in the repository.

A matrix of float32 becomes whole numbers from -127 to 127 and one float32 scale a row, ``name.int8`` and ``name.scale``: w = scale x q.
The largest error of a number is half its row's scale. Vectors stay as they are, in float16. Reading gives float32
back, the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from model.refusal import Refusal

WHOLE, SCALE = ".int8", ".scale"
LARGEST = 127


def quantize_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices in eight bits, everything else in float16; a matrix's rows are its first dimension."""
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dim() < 2:
            stored[name] = tensor.to(torch.float16)
            continue
        scale = tensor.float().abs().amax(dim=1) / LARGEST
        safe = torch.where(scale > 0, scale, torch.ones_like(scale))
        stored[name + WHOLE] = (tensor / safe[:, None]).round().clamp(-LARGEST, LARGEST).to(torch.int8).contiguous()
        stored[name + SCALE] = scale
    return stored


def dequantize_tensors(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`quantize_tensors` stored, matrices in float32; a file that has no eight-bit matrices is given back as it is.

    Raises :class:`Refusal` where a matrix lacks its scales, or has more or fewer than rows.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) + WHOLE in stored:
            continue
        if not name.endswith(WHOLE):
            tensors[name] = tensor
            continue
        matrix = name.removesuffix(WHOLE)
        scale = stored.get(matrix + SCALE)
        if scale is None or tensor.dim() != 2 or scale.shape != tensor.shape[:1]:
            raise Refusal(f"the eight-bit matrix '{matrix}' lacks its {len(tensor)} scales; take the model's file again, it was changed")
        tensors[matrix] = tensor.float() * scale[:, None]
    return tensors
