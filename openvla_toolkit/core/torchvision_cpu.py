"""Make torchvision importable beside a CPU build of torch.

Where only torchvision's CUDA wheel can be had, its compiled operators do not load beside CPU torch, and
``import torchvision`` fails with "operator torchvision::nms does not exist", which takes timm and
transformers with it. Declaring the two operators it asks for is enough: image transforms work, ``ops.nms``
itself does not.
Modules that import timm or transformers models import this one first; where torchvision works it does
nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

__all__ = ["make_torchvision_importable"]

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[Any] = []


def make_torchvision_importable() -> None:
    """Import torchvision, declaring the operators that its extension failed to bring."""
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or torch.version.cuda is not None:
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            library.define(operator + _SCHEMA)
        _libraries.append(library)  # the declarations live as long as this object
        importlib.import_module("torchvision")


make_torchvision_importable()
