"""Route of the insights: what the diary shows when one looks back."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter

from client.api import edge
from client.api.device import ThisDevice
from client.diary.diary import LARGEST_PAGE, Diary, Entry, Query
from client.reading.insights import insights

routes = APIRouter(prefix="/v1", tags=["insights"])


@routes.get("/insights", summary="Look back: calendar, trend, recovery, words, map")
def look_back(device: ThisDevice, since: edge.Day | None = None, until: edge.Day | None = None) -> edge.Insights:
    """Of all entries, or of those between two days that both belong to the range."""
    return edge.Insights.of(insights(_between(device.diary, Query(since=since, until=until, limit=LARGEST_PAGE))))


def _between(diary: Diary, query: Query) -> list[Entry]:
    found: list[Entry] = []
    while True:
        page = diary.entries(replace(query, offset=len(found)))
        found += page.entries
        if not page.entries or len(found) >= page.total:
            return found
