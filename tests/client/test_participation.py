"""Taking part in rounds is the person's choice, and survives a restart."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from client.home import DevicePolicy, Home
from client.participation import Participation, takes_part, tells_scores
from model.checkpoint import locked
from model.refusal import Damaged, Refusal


def test_every_round_by_default(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", DevicePolicy())
    assert home.participation == Participation(paused=False, skip_next=False)
    assert takes_part(home.root, run="run", round=1)
    assert not (home.root / "participation.json").exists()


def test_a_choice_is_on_disk(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", DevicePolicy())
    home.change_participation(paused=True, skip_next=True)
    assert Home(home.root).participation == Participation(paused=True, skip_next=True)


def test_a_skipped_round_is_one_round_of_one_run(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", DevicePolicy())
    home.change_participation(paused=False, skip_next=True)
    asked = [("a", 4), ("a", 4), ("a", 5), ("b", 4)]
    assert [takes_part(home.root, run=run, round=round) for run, round in asked] == [False, False, True, True]
    assert [tells_scores(home.root, round=round) for round in (4, 5)] == [False, True]


def test_a_pause_does_not_use_the_skipped_round_up(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", DevicePolicy())
    home.change_participation(paused=True, skip_next=True)
    assert not takes_part(home.root, run="a", round=1)
    home.change_participation(paused=False, skip_next=home.participation.skip_next)
    assert [takes_part(home.root, run="a", round=round) for round in (2, 3)] == [False, True]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"paused": 1, "skip_next": false, "skipped": ["", 0]}'])
def test_a_damaged_choice_is_no_consent(tmp_path: Path, content: str) -> None:
    home = Home.create(tmp_path / "home", DevicePolicy())
    (home.root / "participation.json").write_text(content)
    with pytest.raises(Refusal, match="damaged"):
        takes_part(home.root, run="a", round=1)
    home.change_participation(paused=False, skip_next=False)
    assert takes_part(home.root, run="a", round=1)


def test_a_change_of_one_half_keeps_the_other_as_a_round_has_left_it(tmp_path: Path) -> None:
    """The round that was to be skipped begins before the pause is written: the skip is used up and does not come back."""
    home = Home.create(tmp_path / "home", DevicePolicy())
    home.change_participation(paused=False, skip_next=True)
    begun = threading.Event()

    def pause() -> None:
        begun.set()
        home.change_participation(paused=False, skip_next=None)

    with locked(home.root / "participation.lock"):
        changing = threading.Thread(target=pause)
        changing.start()
        assert begun.wait(20)
        path = home.root / "participation.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"skip_next": False, "skipped": ["a", 4]}))  # as takes_part does
    changing.join(20)
    assert home.participation == Participation()
    assert not takes_part(home.root, run="a", round=4)


def test_half_a_choice_does_not_mend_a_damaged_one(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", DevicePolicy())
    (home.root / "participation.json").write_text("{")
    with pytest.raises(Damaged, match="say both"):
        home.change_participation(paused=False, skip_next=None)
    assert home.change_participation(paused=True, skip_next=False) == home.participation == Participation(paused=True)
