"""When things go wrong or are meant to: hostile texts, an ended login, a lost address, a failing or absent server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `dev` brings playwright")
expect = sync_api.expect
HOSTILE = (
    "<img src=x onerror=\"window.taken='img'\">",
    "<script>window.taken='script'</script>",
    "</p><svg onload=window.taken='svg'><a href=javascript:window.taken='link'>누르면</a>",
    "{{ 7*7 }} ${7*7} &lt;b&gt;굵게&lt;/b&gt;",
)


def write(page: Any, text: str) -> None:
    page.get_by_label("일기", exact=True).fill(text)
    page.get_by_role("button", name="마음 읽기").click()


def test_hostile_texts_are_shown_as_they_were_written_and_run_nowhere(opened: Callable[..., Any]) -> None:
    page = opened("/").page
    for text in HOSTILE:
        write(page, text)
        expect(page.locator("#reading .text")).to_have_text(text)
    for path in ("/", "/diary", "/insights"):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        for fold in page.locator("details.fold > summary").all()[:5]:
            fold.click()
        assert page.evaluate("window.taken") is None, path
        assert page.locator("main img, main script, main [onerror], main [onload], main a[href^=javascript]").count() == 0, path


def test_a_hostile_catalogue_brings_no_link_that_runs(opened: Callable[..., Any], tmp_path: Path) -> None:
    song = {"title": HOSTILE[0], "creator": HOSTILE[1], "location": ["javascript:window.taken='song'"], "annotation": HOSTILE[2]}
    catalogue = tmp_path / "own.jspf"
    catalogue.write_text(json.dumps({"playlist": {"title": "x", "track": [song]}}), encoding="utf-8")
    page = opened("/music").page
    page.get_by_label("내 노래 목록").set_input_files(catalogue)
    page.get_by_role("button", name="노래 가져오기").click()
    expect(page.locator("#status")).to_contain_text("노래 1곡")
    page.get_by_label("제목이나 가수").fill("onerror")
    page.get_by_role("button", name="찾기").click()
    expect(page.locator("#found-songs li")).to_have_count(1)
    expect(page.locator("#found-songs strong")).to_have_text(HOSTILE[0])
    assert page.locator("main img, main script, a[href^='javascript' i]").count() == 0
    assert page.evaluate("window.taken") is None


def test_an_ended_login_is_said_with_the_next_move_and_the_draft_stays(
    served: Any, opened: Callable[..., Any], shot: Callable[..., None]
) -> None:
    watched = opened("/", logged_in=False)  # a login of its own, to end it
    page = watched.page
    expect(page.locator("h1")).to_have_text("이 기기의 주인만 볼 수 있어요.")
    shot(page, "sorry-login")
    page.goto(served.login())
    assert "token" not in page.url
    page.get_by_label("일기", exact=True).fill("로그인이 끝나도 남아 있어야 할 글")
    page.context.clear_cookies(name="healing")
    page.get_by_role("button", name="마음 읽기").click()
    expect(page.get_by_role("alert")).to_contain_text("로그인이 끝났어요")
    expect(page.get_by_role("alert")).to_contain_text("healing client token --login")
    expect(page.get_by_label("일기", exact=True)).to_have_value("로그인이 끝나도 남아 있어야 할 글")
    shot(page, "trouble-login")
    assert all("401" in complaint for complaint in watched.complaints)
    watched.complaints.clear()


def test_an_invitation_works_once(served: Any, opened: Callable[..., Any]) -> None:
    address = served.login()
    first, second = opened(address, logged_in=False), opened(address, logged_in=False)
    expect(first.page.locator("#write")).to_be_visible()
    expect(second.page.locator("h1")).to_have_text("이 기기의 주인만 볼 수 있어요.")
    assert all("401" in complaint for complaint in second.complaints)
    second.complaints.clear()


def test_a_lost_address_leads_home(opened: Callable[..., Any], shot: Callable[..., None]) -> None:
    watched = opened("/nowhere")
    expect(watched.page.locator("h1")).to_have_text("여기에는 아무것도 없어요.")
    shot(watched.page, "sorry-missing")
    watched.page.get_by_role("link", name="오늘로 가기").click()
    expect(watched.page.locator("#write")).to_be_visible()
    assert all("404" in complaint for complaint in watched.complaints)
    watched.complaints.clear()


def test_a_failing_server_and_none_are_said_kindly_and_the_next_try_works(opened: Callable[..., Any]) -> None:
    watched = opened("/")
    page = watched.page
    problem = {"type": "/docs#failed", "title": "The device failed", "status": 500, "detail": "an unexpected OSError", "next": "try again"}
    page.route("**/v1/entries", lambda route: route.fulfill(status=500, content_type="application/problem+json", body=json.dumps(problem)))
    write(page, "서버가 아파도 사라지지 않는 글")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("이 기기가 잠시 말을 듣지 않아요")
    alert.get_by_text("자세히").click()
    expect(alert).to_contain_text("an unexpected OSError. try again")
    page.unroute("**/v1/entries")

    page.context.set_offline(True)
    page.get_by_role("button", name="마음 읽기").click()
    expect(alert).to_contain_text("이 기기의 서버에 닿지 않아요")
    expect(page.get_by_label("일기", exact=True)).to_have_value("서버가 아파도 사라지지 않는 글")
    page.context.set_offline(False)
    page.get_by_role("button", name="마음 읽기").click()
    expect(page.locator("#reading .text")).to_have_text("서버가 아파도 사라지지 않는 글")
    expect(alert).to_be_empty()
    assert all("500" in complaint or "ERR_INTERNET_DISCONNECTED" in complaint for complaint in watched.complaints)
    watched.complaints.clear()


def opened_rest(page: Any) -> Any:
    """The diary's first entry with everything that may be done to it."""
    page.locator("#entries summary").first.click()
    card = page.locator("#entries article").first
    card.get_by_text("더 보기").click()
    return card


def test_never_train_on_this_is_ticked_only_if_it_was_stored(served: Any, opened: Callable[..., Any]) -> None:
    watched = opened("/diary")
    page = watched.page
    card = opened_rest(page)
    number = int(card.get_attribute("data-number"))
    teaches = served.home.diary.entry(number).teaches
    box = card.get_by_label("이 글로는 학습하지 않기")
    expect(box).to_be_checked(checked=not teaches)
    page.route("**/v1/entries/*", lambda route: route.fulfill(status=503, content_type="application/problem+json", body="{}"))
    box.click()
    expect(page.locator("#status")).to_contain_text("이 글의 설정은 그대로예요")
    expect(page.get_by_role("alert")).to_contain_text("이 기기가 잠시 말을 듣지 않아요")
    expect(box).to_be_checked(checked=not teaches)
    expect(box).to_be_focused()
    page.unroute("**/v1/entries/*")
    assert served.home.diary.entry(number).teaches == teaches
    assert all("503" in complaint for complaint in watched.complaints)
    watched.complaints.clear()


def test_enter_in_the_date_keeps_an_edit_and_a_failed_one_is_there_for_the_next_try(served: Any, opened: Callable[..., Any]) -> None:
    watched = opened("/diary")
    page = watched.page
    card, dialog, text = opened_rest(page), page.get_by_role("dialog"), "엔터를 눌러도 사라지지 않는 글"
    number = int(card.get_attribute("data-number"))
    page.route("**/v1/entries/*", lambda route: route.fulfill(status=503, content_type="application/problem+json", body="{}"))
    card.get_by_role("button", name="고치기").click()
    dialog.get_by_label("일기").fill(text)
    dialog.get_by_label("날짜").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("이 기기가 잠시 말을 듣지 않아요")
    page.unroute("**/v1/entries/*")
    card.get_by_role("button", name="고치기").click()
    expect(dialog.get_by_label("일기")).to_have_value(text)
    dialog.get_by_label("날짜").press("Enter")
    expect(card.locator(".text")).to_have_text(text)
    assert served.home.diary.entry(number).text == text

    card.get_by_role("button", name="고치기").click()
    dialog.get_by_label("일기").fill("마음이 바뀌었다")
    expect(dialog.get_by_role("button", name="저장")).to_have_css("font-size", "16px")
    dialog.get_by_role("button", name="그만두기").click()
    expect(dialog).to_have_count(0)
    assert served.home.diary.entry(number).text == text
    assert all("503" in complaint for complaint in watched.complaints)
    watched.complaints.clear()


def delay(page: Any, address: str, word: str) -> None:
    """What is asked at ``address`` with ``word`` in the query is answered late."""
    page.add_init_script(
        f"""const asked = window.fetch;
        window.fetch = async (path, ...rest) => {{
          const answer = await asked(path, ...rest);
          const late = path.startsWith("{address}") && decodeURIComponent(path).includes("{word}");
          if (late) await new Promise((go) => setTimeout(go, 2000));
          if (late) document.documentElement.dataset.late = `${{1 + Number(document.documentElement.dataset.late ?? 0)}}`;
          return answer;
        }};"""
    )


def wait_for_late(page: Any, count: str = "1") -> None:
    """Until the answer that was held back is here, and whatever follows from it is done."""
    expect(page.locator("html")).to_have_attribute("data-late", count)
    page.wait_for_timeout(300)


def test_a_late_answer_does_not_overwrite_what_was_asked_after_it(opened: Callable[..., Any]) -> None:
    page = opened("/diary").page
    delay(page, "/v1/entries", "text=고양이")
    page.reload()
    page.wait_for_load_state("networkidle")
    for word in ("고양이", "버스"):
        page.get_by_label("찾을 말").fill(word)
        page.get_by_role("button", name="찾기").click()
    wait_for_late(page)
    assert all("버스" in line for line in page.locator("#entries .fold-text").all_inner_texts())

    page = opened("/music").page
    delay(page, "/v1/recommendations", "mode=shift")
    page.reload()
    expect(page.locator("#playlist .song").first).to_be_visible()
    page.get_by_label("나아가기").check()
    page.get_by_label("가라앉히기").check()
    expect(page.locator("#playlist")).to_contain_text("차분한 쪽으로 가는")
    wait_for_late(page)
    expect(page.locator("#playlist .why").first).to_contain_text("차분한 쪽으로 가는 12걸음 가운데 첫 번째고")

    page = opened("/insights").page
    delay(page, "/v1/insights", str(date.today().year))  # any that has a beginning
    page.reload()
    page.wait_for_load_state("networkidle")
    wait_for_late(page)
    page.get_by_role("button", name="한 달").click()
    page.get_by_role("button", name="전부").click()
    weeks = page.locator("#trend tbody tr")
    expect(weeks).not_to_have_count(0)
    expect(page.locator("#panels")).not_to_have_attribute("aria-busy", "true")
    all_weeks = weeks.count()
    wait_for_late(page, "2")
    assert all_weeks > 6
    expect(weeks).to_have_count(all_weeks)


def forms(text: str) -> tuple[bytes, ...]:
    """How a browser may write a text down."""
    return text.encode(), text.encode("utf-16-le"), json.dumps(text)[1:-1].encode()


def test_neither_a_draft_nor_an_entry_lies_in_the_browsers_folder(served: Any, browser: Any, tmp_path: Path) -> None:
    kept, draft, control = "브라우저에남으면안되는글", "저장하지않은초안비밀", "대조를위해일부러남긴글"
    context = browser.browser_type.launch_persistent_context(tmp_path, executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = context.new_page()
    page.goto(served.login())
    write(page, kept)
    expect(page.locator("#reading .text")).to_have_text(kept)
    page.get_by_label("일기", exact=True).fill(draft)
    page.evaluate("text => localStorage.setItem('control', text)", control)
    page.goto(f"{served.address}/static/words.json")
    context.close()
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    found = {text for text in (kept, draft, control) for content in files.values() if any(form in content for form in forms(text))}
    assert found == {control}
