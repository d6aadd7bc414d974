"""The largest memory a process of its own had in use."""

import re
from pathlib import Path


def peak_bytes() -> int:
    """Of this process since it was started. Not getrusage: that carries the parent's peak over fork and exec."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise RuntimeError("/proc/self/status tells no VmHWM")
    return int(found[1]) * 1024
