"""A device finds its files through Home, and its policy is its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from client.home import DevicePolicy, Home, virtual_home
from model.refusal import Refusal
from model.settings import RunSettings

Small = Callable[..., RunSettings]


def test_a_home_keeps_the_policy_it_was_made_with(tmp_path: Path) -> None:
    Home.create(tmp_path / "home", DevicePolicy(epsilon_limit=2.0, delta=1e-5))
    again = Home.create(tmp_path / "home", DevicePolicy(epsilon_limit=100.0, allow_unprotected=True))
    assert again.policy == DevicePolicy(epsilon_limit=2.0, delta=1e-5)


def test_node_config_comes_before_virtual_people_and_those_before_the_environment(
    tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small()
    for folder in (tmp_path / "named", virtual_home(Path(settings.people), 1), tmp_path / "usual"):
        Home.create(folder, DevicePolicy())
    monkeypatch.setenv("HEALING_HOME", str(tmp_path / "usual"))
    assert Home.find({"home": str(tmp_path / "named"), "partition-id": 1}, settings).root == tmp_path / "named"
    assert Home.find({"partition-id": 1}, settings).root == virtual_home(Path(settings.people), 1)
    assert Home.find({}, settings).root == tmp_path / "usual"
    assert Home.find({}, settings).models == tmp_path / "usual/models"
    assert Home.find({"partition-id": 1}, settings).models is None  # virtual people do not each keep a copy of the model
    monkeypatch.delenv("HEALING_HOME")
    with pytest.raises(Refusal, match="no Home"):
        Home.find({}, settings)


def test_a_folder_that_is_no_home_is_refused(tmp_path: Path, small: Small) -> None:
    with pytest.raises(Refusal, match=r"not a Home"):
        Home.find({"home": str(tmp_path)}, small())


def test_a_home_is_for_its_owner_only(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", DevicePolicy())
    assert home.root.stat().st_mode & 0o077 == 0
    assert (home.root / "device.json").stat().st_mode & 0o077 == 0


def test_a_home_whose_making_was_killed_is_finished_with_the_diary_it_has(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", DevicePolicy())
    home.diary.add("첫 글")
    (home.root / "device.json").unlink()  # it is written last
    with pytest.raises(Refusal, match="not a Home"):
        Home.at(home.root)
    assert Home.create(home.root, DevicePolicy()).diary.count() == 1
    (home.root / "device.json").unlink()
    (home.root / "diary.sqlite3").unlink()
    assert Home.create(home.root, DevicePolicy()).diary.count() == 0
