"""Memory of processes as proportional set size: what several share counts for each by its part."""

from __future__ import annotations

from pathlib import Path


def proportional_sizes(pid: int) -> dict[str, int]:
    """Bytes by Linux's names (Pss, Pss_Anon, Pss_Shmem, ...); empty where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def own_bytes(sizes: dict[str, int]) -> int:
    """Anonymous and shared memory: what the system cannot take back without swapping."""
    return sizes.get("Pss_Anon", 0) + sizes.get("Pss_Shmem", 0)
