"""What this machine's processor can do by itself, where Linux tells."""

from __future__ import annotations

from pathlib import Path

CPU = Path("/proc/cpuinfo")


def has_any(*flags: str, cpu: Path = CPU) -> bool:
    """Whether the processor names at least one of these flags in ``cpu``; False where that file cannot be read."""
    try:
        named = cpu.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not set(flags).isdisjoint(named)
