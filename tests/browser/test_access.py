"""Everyone can use it: axe-core on every page in light and dark and on a phone, the keyboard alone, and no sideways scrolling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `dev` brings playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra `dev` brings axe-playwright-python")
expect = sync_api.expect
ROOMS = {"today": "/", "diary": "/diary", "insights": "/insights", "music": "/music", "privacy": "/privacy"}
OPTIONS = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def serious(page: Any) -> list[str]:
    """What axe finds serious or critical, with the first place of each."""
    found = axe.Axe().run(page, options=OPTIONS).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found if one["impact"] in ("serious", "critical")]


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")])
def test_axe_finds_nothing_serious_and_nothing_scrolls_sideways(
    width: int, scheme: str, opened: Callable[..., Any], shot: Callable[..., None]
) -> None:
    page = opened("/", width=width, scheme=scheme).page
    if not page.locator("#reading article").count():
        page.get_by_label("일기", exact=True).fill("내일 발표가 자꾸 머릿속을 맴돈다.\n그래도 친구가 보낸 사진을 보고 조금 웃었다.")
        page.get_by_role("button", name="마음 읽기").click()
        expect(page.locator("#playlist .song").first).to_be_visible()
    for room, path in ROOMS.items():
        page.goto(path)
        page.wait_for_load_state("networkidle")
        for fold in page.locator("main summary").all()[:3]:
            fold.click()
        assert serious(page) == [], room
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, room
        shot(page, f"{room}-{width}-{scheme}")


def test_the_whole_way_by_keyboard_alone(served: Any, opened: Callable[..., Any]) -> None:
    page = opened("/").page
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("열쇠를 잃어버려 문 앞에서 한참 떨었다.")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#reading .when")).to_be_focused()
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.key") == "correct-anxiety":
            break
    page.keyboard.press("Space")
    chip = page.locator("#reading [data-key=correct-anxiety]")
    expect(chip).to_have_attribute("aria-pressed", "true")
    expect(chip).to_be_focused()
    number = int(page.locator("#reading article").get_attribute("data-number"))
    assert served.home.diary.entry(number).emotion.en == "anxiety"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # undo
    expect(chip).to_have_attribute("aria-pressed", "false")


def test_whatever_has_the_focus_shows_it(opened: Callable[..., Any]) -> None:
    page = opened("/privacy", width=360).page
    seen = set()
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate("(e => (s => `${e.tagName} ${s.outlineStyle} ${s.outlineWidth}`)(getComputedStyle(e)))(document.activeElement)")
        )
    assert {line for line in seen if not line.startswith("BODY")} <= {
        f"{tag} solid 3px" for tag in ("A", "BUTTON", "INPUT", "DIV", "SELECT", "SUMMARY")
    }


def test_motion_stands_still_where_it_is_not_wanted(opened: Callable[..., Any]) -> None:
    page = opened("/privacy").page
    moving = "[...document.querySelectorAll('*')].filter(e => parseFloat(getComputedStyle(e).transitionDuration) > 0).length"
    assert page.evaluate(moving) == 0
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moving) > 0
