"""Tokenizers: ids equal to those of the model's own tokenizer, damaged files refused, a digest that names every rule."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from transformers import BertTokenizerFast

from model.refusal import Refusal
from model.tokenizer import Tokenizer, load_tokenizer

COMPACT = Path(__file__).parents[2] / "model/assets/compact"
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]

Rules = dict[str, Any]


@pytest.fixture
def kobert(shared_data: Path) -> Path:
    if not (shared_data / "kobert/spiece.model").is_file():
        pytest.skip(f"{shared_data}/kobert/spiece.model is missing (KoBERT's SentencePiece file, huggingface.co/skt/kobert-base-v1)")
    return shared_data / "kobert"


@pytest.fixture(scope="module")
def compact() -> Tokenizer:
    return load_tokenizer(COMPACT, pad_id=1)


# KoBERT


def test_kobert_ids_equal_those_of_its_own_tokenizer_on_every_reference_row(kobert: Path) -> None:
    reference = kobert / "reference_ids.jsonl"
    if not reference.is_file():
        pytest.skip(f"{reference} is missing (texts and the ids that SKT's own tokenizer gives)")
    with reference.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    given_ids = load_tokenizer(kobert, pad_id=1).encode([row["text"] for row in rows], max_tokens=1024)
    assert len(rows) == 495
    assert [number for number, (row, ids) in enumerate(zip(rows, given_ids, strict=True)) if row["ids"] != ids] == []


def test_kobert_has_8002_ids(kobert: Path) -> None:
    assert load_tokenizer(kobert, pad_id=1).vocabulary_size == 8002


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.3, 0.5, 0.9, 0.9999])
def test_a_truncated_spiece_model_is_refused(kobert: Path, tmp_path: Path, share: float) -> None:
    whole = (kobert / "spiece.model").read_bytes()
    (tmp_path / "spiece.model").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(Refusal, match=r"spiece\.model"):
        load_tokenizer(tmp_path, pad_id=1)


@pytest.mark.parametrize("pieces", [5, 100, 8002])
def test_a_spiece_model_cut_exactly_between_two_pieces_is_refused(kobert: Path, tmp_path: Path, pieces: int) -> None:
    whole = (kobert / "spiece.model").read_bytes()
    at = 0
    for _ in range(pieces):  # each piece is the byte 0x0A, its length in one byte, and the piece
        assert whole[at] == 0x0A
        assert whole[at + 1] < 0x80
        at += 2 + whole[at + 1]
    (tmp_path / "spiece.model").write_bytes(whole[:at])
    with pytest.raises(Refusal, match=r"spiece\.model"):
        load_tokenizer(tmp_path, pad_id=1)


@settings(deadline=None, max_examples=200)
@given(
    content=st.one_of(
        st.binary(max_size=60), st.binary(max_size=30).map(lambda tail: b"\x0a" + tail), st.just(b"\x08" + b"\xff" * 30 + b"\x01")
    )
)
def test_a_file_that_is_no_sentencepiece_model_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "garbage"
    folder.mkdir(exist_ok=True)
    (folder / "spiece.model").write_bytes(content)
    with pytest.raises(Refusal, match=r"spiece\.model"):
        load_tokenizer(folder, pad_id=1)


# the compact layout


def test_the_compact_layout_has_kobert_ids_for_the_special_tokens() -> None:
    vocabulary = FastTokenizer.from_file(str(COMPACT / "tokenizer.json")).get_vocab()
    assert [vocabulary[token] for token in SPECIAL] == [0, 1, 2, 3, 4]


def test_the_vocabulary_is_as_large_as_the_embedding_table_of_its_config(compact: Tokenizer) -> None:
    assert compact.vocabulary_size == json.loads((COMPACT / "config.json").read_text())["vocab_size"]


@pytest.mark.parametrize("typed", SPECIAL[1:])
def test_a_typed_special_token_is_text_and_not_a_special_id(compact: Tokenizer, typed: str) -> None:
    assert SPECIAL.index(typed) not in compact.encode([f"오늘 {typed} 끝"], max_tokens=64)[0][1:-1]


def test_letters_of_laughing_and_crying_are_known(compact: Tokenizer) -> None:
    # The commonest marks of mood in Korean; KoBERT's vocabulary lacks half of them.
    assert not any(0 in ids for ids in compact.encode(["ㅋㅋㅋㅋ", "ㅠㅠ", "ㅎㅎ 좋다", "ㅜㅜ"], max_tokens=64))


@settings(deadline=None, max_examples=100)
@given(text=st.text(max_size=200), most=st.integers(3, 64))
def test_every_text_begins_with_cls_ends_with_sep_and_fits(compact: Tokenizer, text: str, most: int) -> None:
    ids = compact.encode([text], max_tokens=most)[0]
    assert (ids[0], ids[-1]) == (2, 3)
    assert 2 <= len(ids) <= most


def test_a_long_text_is_cut_at_its_end(compact: Tokenizer) -> None:
    text = "비가 오는 저녁에 우산 없이 걸었다. 집에 오니 신발이 다 젖어 있었다."
    whole, cut = compact.encode([text], max_tokens=512)[0], compact.encode([text], max_tokens=8)[0]
    assert len(whole) > 8
    assert cut == [*whole[:7], 3]


def test_a_text_has_the_same_ids_alone_and_among_others(compact: Tokenizer) -> None:
    texts = ["짧다", "조금 더 긴 문장을 하나 적어 둔다", ""]
    assert compact.encode(texts, max_tokens=64) == [compact.encode([text], max_tokens=64)[0] for text in texts]


# other layouts


def test_a_vocab_txt_gives_the_ids_of_the_wordpiece_algorithm(tmp_path: Path) -> None:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "오", "##늘", "오늘", "##은", "맑", "##음", "good", "##ness"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')

    def greedy(word: str) -> list[int]:
        ids, at = [], 0
        while at < len(word):
            ends = [end for end in range(len(word), at, -1) if ("##" if at else "") + word[at:end] in vocabulary]
            if not ends:
                return [1]
            ids.append(vocabulary.index(("##" if at else "") + word[at : ends[0]]))
            at = ends[0]
        return ids

    text = "오늘은 맑음 goodness 밤 오"
    assert load_tokenizer(tmp_path, pad_id=0).encode([text], max_tokens=64) == [
        [2, *(id for word in text.split() for id in greedy(word)), 3]
    ]


def test_a_folder_without_a_tokenizer_is_refused_with_the_files_that_would_do(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"spiece\.model, tokenizer\.json or vocab\.txt"):
        load_tokenizer(tmp_path, pad_id=1)


@pytest.mark.parametrize("content", ["", "{", "{}", "[1, 2]", '{"version": "1.0", "model": {"type": "Unheard"}}'])
def test_a_damaged_tokenizer_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(Refusal, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path, pad_id=1)


# the digest


def changed(tmp_path: Path, change: Callable[[Rules], Any]) -> str:
    """The digest of the compact tokenizer after ``change`` to its file."""
    rules: Rules = json.loads((COMPACT / "tokenizer.json").read_text(encoding="utf-8"))
    change(rules)
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules, ensure_ascii=False), encoding="utf-8")
    return load_tokenizer(tmp_path, pad_id=1).digest


def swap_last_pieces(rules: Rules) -> None:
    vocabulary = rules["model"]["vocab"]
    vocabulary[-1], vocabulary[-2] = vocabulary[-2], vocabulary[-1]


def change_one_score(rules: Rules) -> None:
    rules["model"]["vocab"][-1][1] -= 1.0


def rename_one_piece(rules: Rules) -> None:
    rules["model"]["vocab"][-1][0] = "▁없던조각"


def drop_the_normalizer(rules: Rules) -> None:
    rules["normalizer"] = None


@pytest.mark.parametrize("change", [swap_last_pieces, change_one_score, rename_one_piece, drop_the_normalizer])
def test_the_digest_differs_if_the_vocabulary_or_a_rule_does(tmp_path: Path, compact: Tokenizer, change: Callable[[Rules], None]) -> None:
    assert changed(tmp_path, change) != compact.digest


def test_the_digest_does_not_depend_on_truncation_or_padding(tmp_path: Path, compact: Tokenizer) -> None:
    fast = FastTokenizer.from_file(str(COMPACT / "tokenizer.json"))
    fast.enable_truncation(17)
    fast.enable_padding(length=9)
    fast.save(str(tmp_path / "tokenizer.json"))
    assert json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["truncation"]["max_length"] == 17
    assert load_tokenizer(tmp_path, pad_id=1).digest == compact.digest


def test_the_digest_is_the_same_after_use_and_for_a_copy_of_the_folder(tmp_path: Path) -> None:
    used = load_tokenizer(COMPACT, pad_id=1)
    before = used.digest
    used.encode(["한 번 써 본다"], max_tokens=5)
    shutil.copy(COMPACT / "tokenizer.json", tmp_path)
    assert load_tokenizer(tmp_path, pad_id=1).digest == before == used.digest


def test_padding_in_the_file_does_not_reach_the_ids(tmp_path: Path, compact: Tokenizer) -> None:
    fast = FastTokenizer.from_file(str(COMPACT / "tokenizer.json"))
    fast.enable_padding(length=30)
    fast.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path, pad_id=1).encode(["짧다"], max_tokens=64) == compact.encode(["짧다"], max_tokens=64)


def test_a_vocab_txt_layout_has_a_digest_that_names_its_words(tmp_path: Path) -> None:
    digests = set()
    for word in ("오늘", "내일"):
        folder = tmp_path / word
        folder.mkdir()
        (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", word]), encoding="utf-8")
        assert BertTokenizerFast.from_pretrained(str(folder)).convert_tokens_to_ids(word) == 5
        digests.add(load_tokenizer(folder, pad_id=0).digest)
    assert len(digests) == 2
