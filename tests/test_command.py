"""The command line: bad input is one helpful sentence, exit code 2, no traceback, and nothing on disk."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from model.settings import RunSettings

ROOT = Path(__file__).resolve().parents[1]


def healing(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(Path(sys.executable).parent / "healing"), *words], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "headeronly.csv").write_text("text,emotion\n")
    (tmp_path / "cp949.csv").write_bytes("text,emotion\n오늘은 좋았다,기쁨\n".encode("cp949") + b"\xff\n")
    (tmp_path / "unknown.csv").write_text("text,emotion\n오늘은 좋았다,무덤덤\n", encoding="utf-8")
    (tmp_path / "columns.csv").write_text("a,b\n오늘은 좋았다,기쁨\n", encoding="utf-8")
    (tmp_path / "few.csv").write_text("text,emotion\n좋다,기쁨\n슬프다,슬픔\n싫다,분노\n떨린다,불안\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data", "nowhere.tsv"], "there is no file 'nowhere.tsv'"),
        (["--data", "empty.csv"], "'empty.csv' is empty"),
        (["--data", "headeronly.csv"], "no labelled entry could be read"),
        (["--data", "cp949.csv"], "not UTF-8"),
        (["--data", "unknown.csv"], "'무덤덤' is none of the four emotions"),
        (["--data", "columns.csv"], "has no column for the text among 'a', 'b'"),
        (["--data", "few.csv", "--test-data", "samples", "--clients", "5"], "5 clients cannot share 4 entries"),
        (["--epsilon", "0"], "epsilon is 0; it must be above 0"),
        (["--delta", "2"], "delta is 2"),
        (["--tuning", "everything"], "tuning is 'everything'; choose one of"),
        (["--privacy", "maybe"], "privacy is 'maybe'; choose one of"),
        (["--engine", "steam"], "engine is 'steam'; choose one of"),
        (["--model", "no/such-model"], "the hub did not give it"),
        (["--model", "lstm", "--tuning", "lora"], "an LSTM has not"),
        (["--rounds", "many"], "'many' is not a valid int"),
        (["--resume", "nowhere"], "not the folder of a run"),
        (["--resume", "nowhere", "--rounds", "3"], "keeps its own settings"),
    ],
    ids=lambda value: "" if isinstance(value, list) else value[:30],
)
def test_bad_input_is_one_sentence_exit_code_2_and_nothing_on_disk(files: Path, words: list[str], sentence: str) -> None:
    before = sorted(files.rglob("*"))
    told = healing("simulate", *words, cwd=files)
    assert told.returncode == 2
    assert sentence in told.stderr
    assert "Traceback" not in told.stderr
    assert sorted(files.rglob("*")) == before


def test_help_explains_every_setting() -> None:
    told = healing("simulate", "--help", cwd=ROOT).stdout
    plain = " ".join(told.split())
    for field in dataclasses.fields(RunSettings):
        if field.name not in ("people", "out"):
            assert f"--{field.name.replace('_', '-')} " in told
            assert field.metadata["help"].split(";")[0][:30] in plain


def test_bad_rows_are_counted_and_named_by_line_without_their_text(tmp_path: Path) -> None:
    rows = [f"문장 번호 {number},{emotion}" for number in range(5) for emotion in ("기쁨", "슬픔", "분노", "불안")]
    broken = ["비밀스러운 한 줄", ",기쁨", "또 다른 비밀,", "셋,넷,다섯"]
    (tmp_path / "data.csv").write_text("\n".join(["text,emotion", *rows, *broken]), encoding="utf-8")
    told = healing("simulate", "--data", "data.csv", "--clients", "2", "--rounds", "1", "--out", "run", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    plain = " ".join(told.stdout.split())
    assert "4 bad rows skipped (line 22: cannot be read as a row; line 23: no text; line 24: no label; ...)" in plain
    assert "비밀" not in told.stdout + told.stderr
