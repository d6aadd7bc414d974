"""Whatever a power failure drops that was not synced, a store that says it is complete is."""

import json

from sar1m.store.schema import MARKER_FILE
from support.crash_runner import PowerLoss, run_build


def test_a_power_loss_never_leaves_a_build_complete_without_its_bytes(tmp_path, monkeypatch):
    """Folders above the files included: a shard lies four new folders deep."""
    losses = PowerLoss(tmp_path, monkeypatch)
    run_build(tmp_path / "builds/small")
    marker = json.loads((tmp_path / "builds/small" / MARKER_FILE).read_text())
    complete = [state for state in losses.states if f"builds/small/{MARKER_FILE}" in state]
    assert complete
    for state in complete:
        lost = [name for name, size in marker["files"].items() if len(state.get(f"builds/small/{name}", b"")) != size]
        assert lost == []
