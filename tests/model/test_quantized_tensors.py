"""Eight-bit weights: never further from the number than half a step of its row, vectors exact in float16, and refused when changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from model.hub import read_tensors
from model.quantized_tensors import dequantize_tensors, quantize_tensors
from model.refusal import Refusal


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 17), size=st.sampled_from([1e-4, 1.0, 300.0]), seed=st.integers(0, 99))
def test_a_number_is_at_most_half_a_step_of_its_row_away(rows: int, columns: int, size: float, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * size
    found = dequantize_tensors(quantize_tensors({"a": matrix}))["a"]
    step = matrix.abs().amax(dim=1) / 127
    assert bool(((found - matrix).abs() <= step[:, None] * 0.5001).all())


def test_a_row_of_zeros_and_a_vector_come_back_as_they_were() -> None:
    tensors = {"a": torch.tensor([[0.0, 0.0], [1.0, -2.0]]), "b": torch.tensor([0.5, -3.0])}
    found = dequantize_tensors(quantize_tensors(tensors))
    assert found["a"][0].tolist() == [0.0, 0.0]
    assert found["b"].tolist() == [0.5, -3.0]


def test_a_file_of_both_kinds_is_read_by_the_hub_s_reader(tmp_path: Path) -> None:
    save_file(quantize_tensors({"a": torch.eye(3), "b": torch.ones(2)}), str(tmp_path / "model.safetensors"))
    found = read_tensors(tmp_path / "model.safetensors")
    assert set(found) == {"a", "b"}
    assert torch.allclose(found["a"], torch.eye(3), atol=1e-3)


def test_a_file_without_eight_bit_matrices_is_given_back_as_it_is() -> None:
    tensors = {"a.scale": torch.ones(2), "b": torch.ones(2, 2)}
    assert dequantize_tensors(tensors) == tensors


@pytest.mark.parametrize("scale", [None, torch.ones(2), torch.ones(3, 1)])
def test_a_matrix_without_a_scale_for_each_row_is_refused(scale: torch.Tensor | None) -> None:
    stored = {"a.int8": torch.zeros(3, 4, dtype=torch.int8)} | ({} if scale is None else {"a.scale": scale})
    with pytest.raises(Refusal, match=r"'a' lacks its 3 scales"):
        dequantize_tensors(stored)
