"""Makes torchvision importable where its compiled half does not fit the torch beside it.

timm imports torchvision at its first line. torchvision's wheel from the package registry is compiled against the
CUDA build of torch; beside a CPU-only torch (or a torch of another version) its library of operators cannot be
loaded. torchvision survives that by design, but one of its modules then attaches a shape function to operators which
that library would have declared, and `import torchvision` ends with `operator torchvision::nms does not exist`. We
use none of these operators. Declaring their schemas, without an implementation, is enough for the import.

What stays unusable after the repair is `torchvision.ops`: its functions go on raising an error when called.
"""

from __future__ import annotations

import importlib
from typing import Final

import torch

# Operators that torchvision describes to torch whether or not its library was loaded. Source: their public
# signatures, torchvision.ops.nms.
SCHEMAS: Final = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def repair_torchvision() -> bool:
    """Imports torchvision, declaring the operators it misses if, and only if, the import fails for want of one.

    True where something had to be declared; False where torchvision is sound, was imported before, or is not
    installed (timm's own error says so better). Any other failure of the import is raised as it is.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        return False
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    else:
        return False
    for name, schema in SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema)
    importlib.import_module("torchvision")
    return True
