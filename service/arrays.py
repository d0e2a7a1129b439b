"""The array type that features, embeddings and scores share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
"""float32; each use says its shape."""
