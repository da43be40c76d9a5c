"""Music: the songs that come with this program, a person's own, and playlists that other players read.

Playlists leave as JSPF (https://xspf.org/jspf), XSPF 1.0 (https://xspf.org/spec) and extended M3U in UTF-8. A song without
a file of its own is named by title and artist, with a search address where a player may look for it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.music.catalogue import bundled_songs, read_catalogue
from client.music.song import Song, Tempo, cleaned

__all__ = ["Playlist", "Song", "Tempo", "bundled_songs", "read_songs"]

_XSPF = "http://xspf.org/ns/0/"


def read_songs(path: Path) -> tuple[Song, ...]:
    """A person's own songs: CSV, JSPF, XSPF, M3U8, or a folder of audio files; :class:`Refusal` if none can be read.

    :func:`client.music.catalogue.read_catalogue` gives the same with an account of the rows that could not be read.
    """
    return read_catalogue(path).songs


@dataclass(frozen=True)
class Playlist:
    """Songs in an order, under a title."""

    title: str
    songs: tuple[Song, ...]

    def as_jspf(self) -> dict[str, Any]:
        """The playlist as a JSPF document."""
        return {"playlist": {"title": cleaned(self.title), "track": [_track(song) for song in self.songs]}}

    def as_xspf(self) -> str:
        """The playlist as an XSPF 1.0 document."""
        ElementTree.register_namespace("", _XSPF)
        root = ElementTree.Element(f"{{{_XSPF}}}playlist", version="1")
        _child(root, "title", cleaned(self.title))
        tracks = ElementTree.SubElement(root, f"{{{_XSPF}}}trackList")
        for song in self.songs:
            track = ElementTree.SubElement(tracks, f"{{{_XSPF}}}track")
            for name, value in _track(song).items():
                for text in [value] if isinstance(value, str) else value:
                    _child(track, name, text)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"

    def as_m3u8(self) -> str:
        """The playlist as extended M3U; a song without a file or page gets its search address."""
        lines = ["#EXTM3U", f"#PLAYLIST:{cleaned(self.title)}"]
        for song in self.songs:
            lines += [f"#EXTINF:-1,{song.artist} - {song.title}", song.url or song.links()["youtube_music"]]
        return "\n".join(lines) + "\n"


def _track(song: Song) -> dict[str, str | Sequence[str]]:
    """A track's elements in the order of the specification; a file is a location, any other page is information."""
    track: dict[str, str | Sequence[str]] = {}
    if song.url.startswith("file:"):
        track["location"] = [song.url]
    identifiers = [f"urn:{kind}:{id}" for kind, id in song.ids.items() if kind in ("isrc", "uuid")]
    if identifiers:
        track["identifier"] = identifiers
    track |= {"title": song.title, "creator": song.artist}
    if song.attribution:
        track["annotation"] = song.attribution
    track["info"] = song.url if song.url.startswith("http") else song.links()["youtube_music"]
    return track


def _child(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, f"{{{_XSPF}}}{name}").text = text
