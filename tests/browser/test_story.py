"""The whole story in a real browser: write, wrong reading, correct, songs, like, reload, a newer model, read again, forget."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from client.music.gentle_songs import GENTLE
from client.music.playlist import bundled_songs
from client.sent import note_sent
from model.weights import Weights
from privacy.plan import PrivacyPlan

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `dev` brings playwright")
expect = sync_api.expect if sync_api else None
KOREAN = {"joy": "기쁨", "sadness": "슬픔", "anger": "분노", "anxiety": "불안"}


def publish_another(home: Any) -> int:
    """A newer global model arrives in this device's store, as the server's evaluate message leaves it there."""
    now = home.checkpoints.latest()
    weights = home.checkpoints.load(now)
    rng = np.random.default_rng(7)
    shaken = Weights({name: (array + 0.02 * rng.normal(size=array.shape)).astype(array.dtype) for name, array in weights.arrays.items()})
    return home.checkpoints.publish(  # type: ignore[no-any-return]
        shaken, model=now.model, tuning=now.tuning, base_digest=now.base_digest, tokenizer_digest=now.tokenizer_digest, round=now.round + 1
    ).version  # fmt: skip


def shown(value: float, digits: int) -> str:
    """A number as the page writes it."""
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def test_a_day_with_the_diary(served: Any, opened: Callable[..., Any], shot: Callable[..., None]) -> None:
    text = "면접에서 떨어졌다는 연락을 받았다. 눈물이 자꾸 나서 이불 속에만 있었다."
    page = opened("/", width=360).page
    page.get_by_label("일기", exact=True).fill(text)
    shot(page, "story-1-written")
    page.get_by_role("button", name="마음 읽기").click()
    card = page.locator("#reading article")
    expect(card.locator(".text")).to_have_text(text)
    shares = [int(share.removesuffix("%")) for share in card.locator(".bars .share").all_inner_texts()]
    assert 98 <= sum(shares) <= 102
    number = int(card.get_attribute("data-number"))
    read = served.home.diary.entry(number)
    assert read.text == text
    assert shares == [pytest.approx(100 * share, abs=0.51) for share in read.reading.probabilities]
    assert (read.emotion, read.reading.version) == (None, 1)

    wrong = next(name for name in KOREAN if name != read.reading.emotion.en)  # the model is right or not; the person's word is another
    card.get_by_role("button", name=KOREAN[wrong], exact=True).first.click()
    expect(card.get_by_role("button", name=KOREAN[wrong], exact=True).first).to_have_attribute("aria-pressed", "true")
    assert served.home.diary.entry(number).emotion.en == wrong
    card.get_by_role("button", name="되돌리기").click()
    expect(card.get_by_role("button", name="되돌리기")).to_have_count(0)
    assert served.home.diary.entry(number).emotion is None
    card.get_by_role("button", name=KOREAN[wrong], exact=True).first.click()
    expect(card.get_by_role("button", name="되돌리기")).to_be_visible()

    songs = page.locator("#playlist .song")
    expect(songs).to_have_count(8)
    taste = served.home.diary.kept("taste")
    songs.first.get_by_role("button", name=re.compile("^좋아요")).click()
    expect(songs.first.get_by_role("button", name=re.compile("^좋아요"))).to_have_attribute("aria-pressed", "true")
    assert served.home.diary.kept("taste") != taste
    second = songs.nth(1).locator("strong").inner_text()
    songs.nth(1).get_by_role("button", name=re.compile("^넘기기")).click()
    expect(songs).to_have_count(7)
    expect(page.locator("#playlist")).not_to_contain_text(second)
    shot(page, "story-2-corrected")

    page.reload()
    expect(card.locator(".text")).to_have_text(text)
    expect(card.get_by_role("button", name=KOREAN[wrong], exact=True).first).to_have_attribute("aria-pressed", "true")
    expect(card.locator(".model")).to_contain_text("모델 1판")

    newer = publish_another(served.home)
    for _ in range(20):  # the model before goes on reading until the newer one is built
        page.get_by_role("button", name="다시 읽기").click()
        page.wait_for_timeout(250)
        if f"모델 {newer}판" in card.locator(".model").inner_text():
            break
    expect(card.locator(".model")).to_contain_text(f"모델 {newer}판")
    assert served.home.diary.entry(number).reading.version == newer
    shot(page, "story-3-newer-model")

    card.get_by_text("더 보기").click()
    card.get_by_role("button", name="지우기").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("이미 끝난 학습 라운드는 되돌릴 수 없습니다")
    shot(page, "story-4-forget")
    dialog.get_by_role("button", name="그만두기").click()
    assert served.home.diary.entry(number).text == text
    card.get_by_role("button", name="지우기").click()
    dialog.get_by_role("button", name="영영 지우기").click()
    expect(card).to_have_count(0)
    assert number not in [entry.number for entry in served.home.diary.entries().entries]


def test_going_back_to_the_model_before(served: Any, opened: Callable[..., Any]) -> None:
    newest = publish_another(served.home)
    page = opened("/privacy").page
    for _ in range(20):  # whoever reads next sees to it that the newer one is built
        page.request.post("/v1/predict", data={"text": "오늘"})
        if page.request.get("/v1/model").json()["version"] == newest:
            break
        page.wait_for_timeout(250)
    page.reload()
    model = page.locator("#model")
    expect(model).to_contain_text(f"{newest}판")
    expect(model).to_contain_text(f"글 {len(served.home.diary.labelled())}개")
    model.get_by_role("button", name="이전 판으로").click()
    page.get_by_role("dialog").get_by_role("button", name="이전 판으로").click()
    expect(model.locator(".sentence")).not_to_contain_text(f"{newest}판")


def test_the_first_model_came_with_the_program_and_a_newer_ones_day_is_this_devices(opened: Callable[..., Any]) -> None:
    page = opened("/privacy", zone="Asia/Seoul").page
    told = page.request.get("/v1/model").json() | {"created": "2026-03-01T15:30:00+00:00"}
    page.route("**/v1/model", lambda route: route.fulfill(content_type="application/json", body=json.dumps(told)))
    for version, said in ((1, "1판 · 프로그램과 함께 왔어요"), (2, "2판 · 3월 2일 월요일에 도착")):
        told["version"] = version
        page.reload()
        expect(page.locator("#model .sentence")).to_have_text(said)


def test_pausing_is_on_disk_at_once_and_shows_after_a_reload(served: Any, opened: Callable[..., Any]) -> None:
    page = opened("/privacy").page
    page.get_by_label("학습 쉬기").check()
    expect(page.locator("#status")).to_contain_text("학습을 쉽니다")
    assert served.home.participation.paused
    page.reload()
    expect(page.get_by_label("학습 쉬기")).to_be_checked()
    page.get_by_label("학습 쉬기").uncheck()
    expect(page.locator("#status")).to_contain_text("다시 참여합니다")
    assert not served.home.participation.paused


def test_what_left_is_listed_with_its_bytes_its_protection_and_its_cost(served: Any, opened: Callable[..., Any]) -> None:
    plan = PrivacyPlan(noise_multiplier=2.0, sampling_rate=0.25, steps_per_round=4, clip_norm=1.0, delta=1e-4)
    served.home.ledger.charge(plan, run="r1", round=3)
    note_sent(served.home.root, run="r1", round=3, what="update", bytes=12_840, privacy="example", aggregation="masked")
    spent = served.home.ledger.spent()
    page = opened("/privacy").page
    row = page.locator("#rounds tbody tr")
    expect(row).to_have_count(1)
    assert row.locator("td").all_inner_texts()[1:] == ["3", "모델이 바뀐 만큼", "12.8 kB", "글마다 흐림, 가려서 합만", shown(spent, 3)]
    expect(page.locator("#budget .sentence")).to_have_text(f"ε 8 가운데 {shown(spent, 2)} 썼고 {shown(8 - spent, 2)} 남았어요.")
    width = page.locator("#budget .fill").evaluate(
        "bar => bar.getBoundingClientRect().width / bar.parentElement.getBoundingClientRect().width"
    )
    assert width == pytest.approx(spent / 8, abs=0.01)


def test_what_the_page_says_leaves_follows_the_devices_own_policy(served: Any, opened: Callable[..., Any]) -> None:
    page = opened("/privacy").page
    leaves, budget = page.locator("#sent .leaves"), page.locator("#budget")
    expect(leaves).to_contain_text("글 하나가 드러나지 않게 이 기기에서 흐린 뒤")
    expect(leaves).to_contain_text("열쇠와 열쇠 조각")
    expect(leaves).not_to_contain_text("보호 없는")
    expect(budget).to_contain_text("다 쓰면 이 기기는 더 이상 학습에 참여하지 않고")
    policy = served.home.root / "device.json"
    before = policy.read_text()
    policy.write_text(json.dumps(json.loads(before) | {"allow_unprotected": True}))
    page.reload()
    expect(leaves).to_contain_text("흐리지 않은 채로 나가요")
    expect(leaves).to_contain_text("몇 번 맞고 틀렸는지 센 숫자")
    expect(leaves).not_to_contain_text("드러나지 않게")
    expect(budget).to_contain_text("보호 없는 라운드는 여기에 들지 않아요")
    expect(budget).not_to_contain_text("더 이상 학습에 참여하지 않고")
    policy.write_text(before)


def test_mixed_feelings_and_never_training_reach_the_diary(served: Any, opened: Callable[..., Any]) -> None:
    page = opened("/diary").page
    page.locator("#entries summary").first.click()
    card = page.locator("#entries article").first
    number = int(card.get_attribute("data-number"))
    card.get_by_text("더 보기").click()
    mixed = card.get_by_role("group", name="함께 있던 마음")
    mixed.get_by_role("button", name="불안").click()
    expect(mixed.get_by_role("button", name="불안")).to_have_attribute("aria-pressed", "true")
    card.get_by_label("이 글로는 학습하지 않기").check()
    expect(page.locator("#status")).to_contain_text("학습하지 않을게요")
    entry = served.home.diary.entry(number)
    assert ([feeling.en for feeling in entry.feelings], entry.teaches) == (["anxiety"], False)


def test_a_month_leads_to_its_days_and_words_to_their_entries(served: Any, opened: Callable[..., Any]) -> None:
    page = opened("/diary").page
    page.get_by_role("button", name="지난달").click()
    felt = page.locator("#calendar .felt")
    expect(felt.first).to_be_visible()
    assert set(felt.locator(".feeling").all_inner_texts()) <= set(KOREAN.values())
    day = felt.first.get_attribute("data-key")
    felt.first.click()
    expect(page.locator("#entries .fold")).to_have_count(1)
    number = int(page.locator("#entries article").first.get_attribute("data-number"))
    assert served.home.diary.entry(number).day.isoformat() == day

    page.get_by_role("button", name="모두 보기").click()
    page.get_by_label("찾을 말").fill("고양이")
    page.get_by_role("button", name="찾기").click()
    expect(page.locator("#found")).to_contain_text("글")
    expect(page.locator("#entries .fold-text").first).to_contain_text("고양이")
    assert all("고양이" in line for line in page.locator("#entries .fold-text").all_inner_texts())


def test_a_point_on_the_map_leads_to_its_entry(served: Any, opened: Callable[..., Any]) -> None:
    page = opened("/insights").page
    point = page.locator("#map a").first
    number = int(point.get_attribute("href").rpartition("-")[2])
    point.focus()
    page.keyboard.press("Enter")
    entry = served.home.diary.entry(number)
    expect(page.locator(f"#entries article[data-number='{number}'] .text")).to_have_text(entry.text)
    expect(page.locator("#found")).to_contain_text(f"{entry.day.month}월 {entry.day.day}일")


def test_an_edited_text_is_read_anew(served: Any, opened: Callable[..., Any]) -> None:
    page = opened("/diary").page
    page.locator("#entries summary").nth(2).click()
    card = page.locator("#entries article").first
    number = int(card.get_attribute("data-number"))
    card.get_by_text("더 보기").click()
    card.get_by_role("button", name="고치기").click()
    page.get_by_role("dialog").get_by_label("일기").fill("합격했다! 가족들과 얼싸안고 뛰었다. 세상이 다 내 것 같다.")
    page.get_by_role("dialog").get_by_role("button", name="저장").click()
    expect(card.locator(".text")).to_contain_text("합격했다!")
    entry = served.home.diary.entry(number)
    assert (entry.text[:5], entry.edited is not None, entry.reading.emotion.en) == ("합격했다!", True, "joy")


def test_care_comes_before_songs_and_songs_only_when_asked_for(opened: Callable[..., Any], shot: Callable[..., None]) -> None:
    page = opened("/", width=360).page
    page.get_by_label("일기", exact=True).fill("이제 다 그만두고 죽고 싶다는 생각만 든다.")
    page.get_by_role("button", name="마음 읽기").click()
    care = page.locator(".care")
    expect(care.get_by_role("link")).to_have_count(2)
    for place, number in enumerate(("109", "15770199")):
        expect(care.get_by_role("link").nth(place)).to_have_attribute("href", f"tel:{number}")
    for verdict in (".bars", ".sentence", ".badge[data-emotion]"):
        expect(page.locator(f"#reading {verdict}")).to_have_count(0)
    expect(page.locator("body")).to_have_attribute("data-emotion", "")
    expect(page.locator("#playlist .song:visible")).to_have_count(0)
    above, card = care.bounding_box(), page.locator("#reading article").bounding_box()
    assert above["y"] < card["y"]
    shot(page, "care")
    care.get_by_role("button", name="그래도 노래를 들을래요").click()
    expect(page.locator("#playlist .song").first).to_be_visible()
    titles = page.locator("#playlist .song-title strong").all_inner_texts()
    assert titles == [title for title, _ in GENTLE[: len(titles)]]
    expect(page.locator("#playlist input[name=mode]")).to_have_count(0)


CARING = "이제 다 그만두고 죽고 싶다는 생각만 든다."


def test_care_is_shown_wherever_such_an_entry_is_opened_or_comes_to_be(served: Any, opened: Callable[..., Any]) -> None:
    number = served.home.diary.add(CARING, day=date.today() - timedelta(70))
    harmless = served.home.diary.add("비가 와서 우산을 샀다.", day=date.today() - timedelta(71))
    page = opened(f"/diary?day={date.today() - timedelta(70)}").page
    expect(page.locator(f"#entries article[data-number='{number}']")).to_be_visible()
    care = page.locator("#entries .care")
    expect(care.get_by_role("link").first).to_have_attribute("href", "tel:109")
    expect(care.get_by_role("button")).to_have_count(0)  # there are no songs here
    page.get_by_role("button", name="English").click()
    expect(care).to_contain_text("This sounds very hard")
    page.get_by_role("button", name="한국어").click()

    page.goto(f"/diary?day={date.today() - timedelta(71)}")
    card = page.locator(f"#entries article[data-number='{harmless}']")
    expect(card).to_be_visible()
    expect(care).to_have_count(0)
    for text, count in ((CARING, 1), ("자고 나니 조금 나아졌다.", 0)):
        if not card.get_by_role("button", name="고치기").is_visible():
            card.get_by_text("더 보기").click()
        card.get_by_role("button", name="고치기").click()
        page.get_by_role("dialog").get_by_label("일기").fill(text)
        page.get_by_role("dialog").get_by_role("button", name="저장").click()
        expect(card.locator(".text")).to_have_text(text)
        expect(care).to_have_count(count)
        if count:
            expect(care).to_be_focused()
    served.home.diary.forget(number)
    served.home.diary.forget(harmless)


def test_care_stays_with_todays_entry_once_another_is_written(served: Any, opened: Callable[..., Any]) -> None:
    page, caring = opened("/").page, f"{CARING} 오늘도."  # an entry of these words alone may stand there already
    for text in (caring, "창밖에 눈이 온다."):
        page.get_by_label("일기", exact=True).fill(text)
        page.get_by_role("button", name="마음 읽기").click()
        expect(page.locator("#reading .text")).to_have_text(text)
    page.locator("#earlier-entries summary", has_text=caring).first.click()
    expect(page.locator("#earlier-entries .care").get_by_role("link").first).to_have_attribute("href", "tel:109")


def test_a_tab_left_open_past_midnight_keeps_entries_under_the_new_day(served: Any, opened: Callable[..., Any]) -> None:
    now, text = datetime.now(), "자정을 넘겨 쓴 글"
    page = opened("/").page
    page.clock.set_fixed_time(now - timedelta(1))
    page.reload()
    heading, day = page.locator("#date"), page.locator("#day")
    expect(day).to_have_value(f"{now.date() - timedelta(1)}")
    page.get_by_label("일기", exact=True).fill(text)
    page.clock.set_fixed_time(now)
    page.get_by_role("button", name="마음 읽기").click()
    expect(page.locator("#reading .text")).to_have_text(text)
    number = int(page.locator("#reading article").get_attribute("data-number"))
    assert served.home.diary.entry(number).day == now.date()
    expect(heading).to_contain_text(f"{now.month}월 {now.day}일")

    tomorrow, chosen = now + timedelta(1), now.date() - timedelta(3)
    page.clock.set_fixed_time(tomorrow)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(heading).to_contain_text(f"{tomorrow.month}월 {tomorrow.day}일")
    expect(day).to_have_value(f"{tomorrow.date()}")
    page.get_by_text("날짜와 학습").click()
    day.fill(f"{chosen}")
    page.clock.set_fixed_time(now + timedelta(2))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(heading).to_contain_text(f"{(now + timedelta(2)).day}일")
    expect(day).to_have_value(f"{chosen}")
    page.get_by_label("일기", exact=True).fill("지난 날의 글")
    page.get_by_role("button", name="마음 읽기").click()
    expect(page.locator("#reading .text")).to_have_text("지난 날의 글")
    number = int(page.locator("#reading article").get_attribute("data-number"))
    assert served.home.diary.entry(number).day == chosen


def test_english_changes_in_place_keeps_the_draft_and_is_remembered(opened: Callable[..., Any]) -> None:
    page = opened("/").page
    page.get_by_label("일기", exact=True).fill("쓰다 만 글")
    page.get_by_role("button", name="English").click()
    expect(page.locator("h1")).to_have_text("How did today feel?")
    assert page.locator("html").get_attribute("lang") == "en"
    expect(page.get_by_label("Diary entry")).to_have_value("쓰다 만 글")
    page.get_by_label("Diary entry").fill("")
    page.goto("/privacy")
    expect(page.get_by_role("heading", name="Privacy budget")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en"


def test_two_quick_clicks_keep_one_entry(served: Any, opened: Callable[..., Any]) -> None:
    page = opened("/").page
    before = served.home.diary.count()
    page.get_by_label("일기", exact=True).fill("두 번 눌러도 한 번만 남아야 한다.")
    page.get_by_role("button", name="마음 읽기").dblclick()
    expect(page.locator("#reading .text")).to_contain_text("두 번 눌러도")
    time.sleep(0.3)
    assert served.home.diary.count() == before + 1


def test_a_playlist_and_a_listening_history_pass_through_the_page(opened: Callable[..., Any], tmp_path: Any) -> None:
    page = opened("/music").page
    expect(page.locator("#playlist .song").first).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("link", name="XSPF").click()
    content = saved.value.path().read_text(encoding="utf-8")
    assert page.locator("#playlist .song strong").first.inner_text() in content
    assert "<playlist" in content

    song, listens = bundled_songs()[0], tmp_path / "listens.jsonl"
    heard = {"listened_at": int(time.time()) - 86400, "track_metadata": {"artist_name": song.artist, "track_name": song.title}}
    listens.write_text(json.dumps(heard) + "\n", encoding="utf-8")
    page.get_by_label("들은 기록").set_input_files(listens)
    page.get_by_role("button", name="기록 가져오기").click()
    expect(page.locator("#status")).to_contain_text("기록 1개")
