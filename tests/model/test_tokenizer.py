"""Tokenizers: ids equal to those of the model's own tokenizer, damaged files refused, a digest that names every rule."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from transformers import BertTokenizerFast

from model.hub import find_model
from model.normalization import normalized
from model.refusal import Refusal
from model.tokenizer import Tokenizer, load_tokenizer

COMPACT = find_model("compact")
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]

Rules = dict[str, Any]

SKT_IDS: dict[str, list[int]] = {
    # decomposed, and letters typed one by one
    unicodedata.normalize("NFD", "늦잠을 자서 버스를 놓쳤다"): [2, 517, 5767, 7175, 7088, 3886, 6553, 2305, 6116, 1522, 7445, 3],
    "ㅇㅗㄴㅡㄹ 참 좋다": [2, 3417, 5757, 0, 4427, 4206, 3],
    "\u110b\u1169\u1102\u1173\u11af도": [2, 3419, 5859, 3],
    "ㄱㅏ나ㄷㅏ": [2, 517, 5330, 5655, 5782, 3],
    "ㅋㅋㅋ ㅎㅎ ㄱㅅ": [2, 517, 492, 492, 492, 517, 493, 493, 517, 490, 0, 3],
    "\u119e\u1112\u11ab": [2, 517, 495, 493, 0, 3],
    # emoji, with what colours and joins them
    "정말 좋다😀": [2, 4102, 4206, 0, 3],
    "😭😭 슬프다 😭": [2, 517, 0, 2948, 7753, 5782, 517, 0, 3],
    "사랑해❤\ufe0f": [2, 2590, 7848, 0, 3],
    "가\ufe0f나": [2, 517, 5330, 0, 5655, 3],
    "1\ufe0f\u20e3번": [2, 529, 0, 6328, 3],
    "가족 👨\u200d👩\u200d👧 모임": [2, 765, 517, 0, 2044, 7136, 3],
    "🇰🇷 만세": [2, 517, 0, 1931, 6579, 3],
    "👍🏽최고": [2, 517, 0, 7459, 3],
    # accents, signs that stand for others, other scripts, characters without width
    "카페 Café naïve Å": [2, 4641, 638, 367, 398, 389, 517, 425, 367, 405, 453, 389, 635, 3],
    "①번 ㈜회사 ㎏ ½ ５０％ ﬁ": [2, 529, 6328, 522, 7276, 40, 7957, 517, 417, 517, 117, 613, 517, 398, 405, 3],
    "그가 ``안녕''이라 했다": [2, 1186, 518, 6812, 5724, 8, 7101, 5019, 3],
    "“괜찮아” ‘정말?’ …": [2, 714, 5484, 7396, 6797, 502, 712, 7227, 6160, 258, 498, 517, 55, 3],
    "1,000원, 2,50": [2, 517, 97, 7020, 46, 553, 46, 176, 3],
    "漢字와 ひらがな와 Ёлка": [2, 517, 0, 6983, 517, 0, 6983, 517, 0, 3],
    "가\u200b나\ufeff다\u00ad라": [2, 517, 5330, 1370, 1562, 473, 6003, 3],
    "ガ カ\u3099 か\u309a": [2, 517, 0, 517, 0, 517, 0, 3],
    "方\u302e점": [2, 517, 0, 7220, 3],
    "": [2, 3],
    " \n ": [2, 3],
}
"""Made-up texts and their ids by SKT's KoBERTTokenizer (a slow XLNetTokenizer) on transformers 4.57.6 and sentencepiece 0.2.3."""

WHITE_SPACE = [chr(code) for code in range(0x110000) if chr(code).isspace()]


@pytest.fixture
def kobert(shared_data: Path) -> Path:
    if not (shared_data / "kobert/spiece.model").is_file():
        pytest.skip(f"{shared_data}/kobert/spiece.model is missing (KoBERT's SentencePiece file, huggingface.co/skt/kobert-base-v1)")
    return shared_data / "kobert"


@pytest.fixture(scope="module")
def compact() -> Tokenizer:
    return load_tokenizer(COMPACT, pad_id=1)


# KoBERT


def reference_rows(kobert: Path) -> list[tuple[str, list[int]]]:
    reference = kobert / "reference_ids.jsonl"
    if not reference.is_file():
        pytest.skip(f"{reference} is missing (texts and the ids that SKT's own tokenizer gives)")
    with reference.open(encoding="utf-8") as lines:
        return [(row["text"], row["ids"]) for row in map(json.loads, lines)]


@lru_cache
def kobert_tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder, pad_id=1)


def test_kobert_ids_equal_those_of_its_own_tokenizer_on_every_reference_row(kobert: Path) -> None:
    rows = reference_rows(kobert)
    given_ids = kobert_tokenizer(kobert).encode([text for text, _ in rows], max_tokens=1024)
    assert len(rows) == 495
    assert [number for number, ((_, wanted), ids) in enumerate(zip(rows, given_ids, strict=True)) if wanted != ids] == []


@pytest.mark.parametrize("form", ["NFD", "NFKD"])
def test_kobert_ids_are_the_same_for_a_decomposed_text(kobert: Path, form: Literal["NFD", "NFKD"]) -> None:
    rows = reference_rows(kobert)
    decomposed = [unicodedata.normalize(form, text) for text, _ in rows]
    assert sum(text != row[0] for text, row in zip(decomposed, rows, strict=True)) > 450
    assert kobert_tokenizer(kobert).encode(decomposed, max_tokens=1024) == [ids for _, ids in rows]


def test_kobert_ids_are_the_same_whatever_the_kind_of_white_space(kobert: Path) -> None:
    assert len(WHITE_SPACE) >= 13
    tokenizer = kobert_tokenizer(kobert)
    rows = [(text, ids) for text, ids in reference_rows(kobert) if text.count(" ") > 2][:40]
    assert len(rows) == 40
    for space in WHITE_SPACE:
        swapped = [f"{space}{text.replace(' ', space + ' ' + space)}{space}" for text, _ in rows]
        assert tokenizer.encode(swapped, max_tokens=1024) == [ids for _, ids in rows], f"U+{ord(space):04X}"


@pytest.mark.parametrize("text", SKT_IDS, ids=ascii)
def test_kobert_ids_equal_those_of_its_own_tokenizer_on_odd_texts(kobert: Path, text: str) -> None:
    assert kobert_tokenizer(kobert).encode([text], max_tokens=64) == [SKT_IDS[text]]


@pytest.mark.parametrize("typed", SPECIAL)
def test_a_special_token_typed_to_kobert_is_text(kobert: Path, typed: str) -> None:
    # Its own tokenizer would take it for the token; a diary's words are never that.
    tokenizer = kobert_tokenizer(kobert)
    for text in (typed, f"오늘 {typed} 끝", f"가{typed}{typed}나", typed.replace("[", "［")):
        inner = tokenizer.encode([text], max_tokens=64)[0][1:-1]
        assert inner
        assert not set(inner) & {0, 1, 2, 3, 4}


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60), most=st.integers(3, 64))
def test_every_text_given_to_kobert_is_framed_once_and_fits(kobert: Path, text: str, most: int) -> None:
    ids = kobert_tokenizer(kobert).encode([text], max_tokens=most)[0]
    assert (ids[0], ids[-1]) == (2, 3)
    assert len(ids) <= most
    assert not set(ids[1:-1]) & {1, 2, 3, 4}


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
    assert not any(
        0 in ids for ids in compact.encode([normalized(text) for text in ("ㅋㅋㅋㅋ", "ㅠㅠ", "ㅎㅎ 좋다", "ㅜㅜ")], max_tokens=64)
    )


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


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "오늘", "[", "]", "SEP", "CLS", "PAD", "MASK", "UNK", "Good"]


@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json"])
@pytest.mark.parametrize("typed", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
def test_a_special_token_typed_to_a_wordpiece_model_is_text(tmp_path: Path, file: str, typed: str) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    if file == "tokenizer.json":
        BertTokenizerFast.from_pretrained(str(tmp_path), do_lower_case=False).save_pretrained(str(tmp_path))
        (tmp_path / "vocab.txt").unlink(missing_ok=True)
        assert (tmp_path / "tokenizer.json").is_file()
    ids = load_tokenizer(tmp_path, pad_id=0).encode([f"오늘 {typed}"], max_tokens=64)[0]
    assert ids == [2, 5, 6, WORDS.index(typed[1:-1]), 7, 3]


def test_a_cased_vocab_txt_without_a_config_is_not_read_as_an_uncased_one(tmp_path: Path) -> None:
    # transformers lowers by default, and then tears Hangul apart: every Korean word would be [UNK], without an error.
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    assert load_tokenizer(tmp_path, pad_id=0).encode(["오늘 Good"], max_tokens=64) == [[2, 5, 13, 3]]
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS[:5], "good"]), encoding="utf-8")
    assert load_tokenizer(tmp_path, pad_id=0).encode(["Good"], max_tokens=64) == [[2, 5, 3]]


def test_sentencepiece_s_pieces_in_a_vocab_txt_are_refused(tmp_path: Path) -> None:
    # KoBERT's vocabulary was also spread so, and read as words two of three tokens are [UNK].
    (tmp_path / "vocab.txt").write_text("\n".join(["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "▁오늘", "은"]), encoding="utf-8")
    with pytest.raises(Refusal, match=r"spiece\.model"):
        load_tokenizer(tmp_path, pad_id=1)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\nb"])
def test_a_damaged_vocab_txt_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    (tmp_path / "tokenizer_config.json").write_text("{" if content == b"a\nb" else "{}")
    with pytest.raises(Refusal, match=r"vocab\.txt"):
        load_tokenizer(tmp_path, pad_id=1)


def test_a_tokenizer_json_that_frames_no_text_is_refused(tmp_path: Path) -> None:
    rules = json.loads((COMPACT / "tokenizer.json").read_text(encoding="utf-8")) | {"post_processor": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
    with pytest.raises(Refusal, match=r"\[CLS\]"):
        load_tokenizer(tmp_path, pad_id=1)


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
