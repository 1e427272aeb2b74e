"""Keys and values of what a decoder has read, each row at its own length.

Shapes: B rows, T tokens, G key-value heads, S head size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class KeyValueCache:
    """Keys and values of all layers, each row at its own length."""

    def __init__(self, layers: int, lengths: Tensor, capacity: int) -> None:
        """Make an empty cache for rows that will be prefilled to `lengths` (B,)."""
        self.lengths = lengths
        self._capacity = capacity
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers

    def prefill(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Keep the prompt's (B, G, T, S); columns past a row's length are overwritten later."""
        room = (0, 0, 0, self._capacity - keys.shape[2])
        self._keys[layer], self._values[layer] = F.pad(keys, room), F.pad(values, room)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write one column (B, G, 1, S) at each row's length; return all up to the longest."""
        stored_keys, stored_values = self._keys[layer], self._values[layer]
        assert stored_keys is not None
        assert stored_values is not None
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        stored_keys[rows, :, self.lengths] = keys[:, :, 0]
        stored_values[rows, :, self.lengths] = values[:, :, 0]
        end = int(self.lengths.max()) + 1
        return stored_keys[:, :, :end], stored_values[:, :, :end]

    def visible(self) -> Tensor:
        """Return the (B, 1, 1, end) mask of columns that a new token of each row may read."""
        columns = torch.arange(int(self.lengths.max()) + 1, device=self.lengths.device)
        return (columns <= self.lengths[:, None])[:, None, None]

    def keep(self, rows: Tensor) -> None:
        """Drop every row but `rows`: finished ones leave the batch."""
        self.lengths = self.lengths[rows]
        self._keys = [None if x is None else x[rows] for x in self._keys]
        self._values = [None if x is None else x[rows] for x in self._values]
