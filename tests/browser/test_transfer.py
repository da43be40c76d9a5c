"""A life goes out of the page and into it: looked at first, kept then, taken back as one; an archive opens with its passphrase alone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.diary.archive import open_archive
from client.vault import Passphrase

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `dev` brings playwright")
expect = sync_api.expect if sync_api else None

WORDS = "보관함의 열쇠 말"
TABLE = "제목,내용,날짜,감정,날씨\n첫날,짐을 풀었다,2024-05-01,행복,맑음\n,둘째 글,2024년 5월 2일,기쁨,\n,셋째 글,,,\n,넷째,언젠가,,\n"


@pytest.mark.parametrize("width", [390, 1280])
def test_a_table_is_looked_at_taken_in_and_taken_back(served: Any, opened: Callable[..., Any], tmp_path: Path, width: int) -> None:
    before = served.home.diary.count()
    (tmp_path / "일기.csv").write_text(TABLE, encoding="cp949")
    page = opened("/privacy", width=width).page
    page.set_input_files("#in-file", str(tmp_path / "일기.csv"))
    page.get_by_role("button", name="먼저 살펴보기").click()
    found = page.locator("#in-found")
    expect(found).to_contain_text("글 3개가 있어요")
    for said in ("담을 수 없는 줄 1개", "날짜가 없어 오늘로 담기는 글 1개", "감정 없이 담기는 글 1개", "담기지 않는 것 1가지"):
        expect(found).to_contain_text(said)
    assert served.home.diary.count() == before
    page.get_by_role("button", name="담기", exact=True).click()
    expect(page.locator("#status")).to_contain_text("글 3개를 담았고 0개는 이미 있었어요")
    assert served.home.diary.count() == before + 3
    page.get_by_role("button", name="마지막 가져오기 되돌리기").click()
    page.locator("dialog button[value=back]").click()
    expect(page.locator("#status")).to_contain_text("글 3개를 지웠어요")
    assert served.home.diary.count() == before


def test_an_archive_is_taken_out_under_two_equal_passphrases_only(served: Any, opened: Callable[..., Any], tmp_path: Path) -> None:
    page = opened("/privacy").page
    page.fill("#out-words", WORDS)
    page.fill("#out-again", f"{WORDS}?")
    page.get_by_role("button", name="내보내기").click()
    expect(page.locator("#status")).to_contain_text("두 암호가 서로 달라요")
    page.fill("#out-again", WORDS)
    with page.expect_download() as download:
        page.get_by_role("button", name="내보내기").click()
    download.value.save_as(tmp_path / "diary.archive")
    content = json.loads(open_archive(io.BytesIO((tmp_path / "diary.archive").read_bytes()), Passphrase(WORDS)))
    assert len(content["entries"]) == served.home.diary.count()
    assert page.input_value("#out-words") == ""
