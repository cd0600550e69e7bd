"""Dense networks by name. A new one is a model file, a line here (or its dotted path in the
config) and a config: samples, loss, export, evaluation and serving stay the same.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from torch import nn

from platehide.errors import UsageError
from platehide.train.models.backbones import Backbone

NETWORKS: dict[str, str] = {
    "dense": "platehide.train.models.dense:DenseQuadNet",
    "box": "platehide.train.models.box:BoxNet",
    "rotated": "platehide.train.models.rotated:RotatedBoxNet",
    "matrix": "platehide.train.models.matrix:MatrixNet",
}


def build_network(name: str, backbone: Backbone) -> nn.Module:
    """A network by its name in ``NETWORKS`` or as ``module:Class``.

    It is called with the backbone and maps uint8 ``(B, H, W, 3)`` to logits ``(B, N)`` and quads
    ``(B, N, 4, 2)`` in input px over the cells of ``dense.cell_table``. A class attribute
    ``hull_only = True`` says that it cannot tell a quad from its upright hull: then it is taught
    the hull.

    Raises:
        UsageError: there is no such network.
    """
    path = NETWORKS.get(name, name)
    if name not in NETWORKS and "" not in sys.path:
        sys.path.insert(0, "")  # a module of the working directory, as `python -m` finds it
    module, sign, attribute = path.partition(":")
    try:
        if not sign:
            raise ValueError(f"there are {', '.join(NETWORKS)}; or give MODULE:CLASS")
        network: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"network {name!r}: {error}") from error
    built: nn.Module = network(backbone)
    return built
