"""The one place that imports timm: every module of ours takes it from here, so that torchvision is repaired before.

A test of the house forbids `import timm` anywhere else.
"""

from __future__ import annotations

from sarmae.torchvision_shim import repair_torchvision

repair_torchvision()

import timm  # noqa: E402 - timm imports torchvision, which may need the repair above

__all__ = ["timm"]
