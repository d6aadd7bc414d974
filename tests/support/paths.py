"""Where things lie: the checkout, and the real data that may stand beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
SUPPORT = ROOT / "tests/support"
