"""Messages of an encrypted round: a number in the place of bytes, or an array of another kind, is a refusal and nothing worse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from model.refusal import Refusal
from privacy.encryption_records import (
    VECTOR,
    EncryptedUpdate,
    OpenedSum,
    OpenOrder,
    decode_encrypted,
    decode_open_order,
    decode_opened,
    encode_encrypted,
    encode_open_order,
    encode_opened,
)
from privacy.masking import Agreement, MaskedInput
from privacy.masking_records import RECORD, decode_agreement, decode_masked, encode_agreement, encode_masked
from privacy.roster import MaskingRound

ROUND = MaskingRound("run", 4, 3)


def with_key(records: RecordDict, key: str, value: object) -> RecordDict:
    return RecordDict({**records, RECORD: ConfigRecord({**records[RECORD], key: value})})  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [10**15, 3, "text", 0.5, [b"one"]])
@pytest.mark.parametrize(
    ("records", "key", "decode"),
    [
        (encode_encrypted(EncryptedUpdate(ROUND, 1, b"sealed")), "ciphertext", decode_encrypted),
        (encode_open_order(OpenOrder(b"sum", 3)), "total", decode_open_order),
        (encode_agreement(Agreement(ROUND, 1, b"signed")), "signature", decode_agreement),
    ],
)
def test_what_is_not_bytes_is_refused_and_not_made_into_so_many_zeros(
    records: RecordDict, key: str, decode: Callable[[RecordDict], object], value: object
) -> None:
    """``bytes(10**15)`` would ask for a petabyte."""
    decode(records)
    with pytest.raises(Refusal, match="lacks or misshapes a field"):
        decode(with_key(records, key, value))


def test_a_vector_travels_as_four_bytes_a_value_to_the_ends_of_its_range() -> None:
    opened = np.array([-(2**31), -1, 0, 2**31 - 1])
    records = encode_opened(OpenedSum(ROUND, 1, opened))
    assert records[VECTOR][VECTOR].data == b"".join(int(value).to_bytes(4, "little", signed=True) for value in opened)
    assert decode_opened(records).values.dtype == np.int64
    assert decode_opened(records).values.tolist() == opened.tolist()
    masked = MaskedInput(ROUND, 1, np.array([0, 1, 2**32 - 1], dtype=np.uint32))
    assert decode_masked(encode_masked(masked)).values.dtype == np.uint32
    assert decode_masked(encode_masked(masked)).values.tolist() == [0, 1, 2**32 - 1]


@pytest.mark.parametrize(
    "array",
    [
        Array("uint32", (2,), "raw", bytes(8)),
        Array("int64", (1,), "raw", bytes(8)),
        Array("int32", (2,), "numpy.ndarray", bytes(8)),
        Array("int32", (2, 1), "raw", bytes(8)),
        Array("int32", (2,), "raw", bytes(7)),
    ],
)
def test_an_array_of_another_kind_or_form_is_refused(array: Array) -> None:
    records = encode_opened(OpenedSum(ROUND, 1, np.array([1, 2])))
    with pytest.raises(Refusal, match="lacks or misshapes a field"):
        decode_opened(RecordDict({**records, VECTOR: ArrayRecord({VECTOR: array})}))
