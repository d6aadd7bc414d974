"""Memory for batches: lent as tensors, and used again when the last reference to a tensor is gone."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import torch


class BufferPool:
    """Host memory of batches. A buffer returns to the pool when no tensor or view of it is left, never before.

    Fresh memory of this size comes from the system page by page, zeroed; keeping a few buffers saves that. At most
    `keep` free buffers are held. Thread-safe.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._free: list[np.ndarray] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        """An uninitialised tensor of numpy dtype `dtype`."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        storage = self._pop(nbytes)
        # the finaliser hangs on this array, which the tensor holds: the storage itself outlives it in the closure
        lent = np.frombuffer(storage, dtype=np.uint8, count=nbytes)
        weakref.finalize(lent, self._give_back, storage).atexit = False
        return torch.from_numpy(lent).view(torch_dtype(dtype)).view(shape)

    def _pop(self, nbytes: int) -> np.ndarray:
        with self._lock:
            for position, storage in enumerate(self._free):
                if nbytes <= storage.nbytes <= 2 * nbytes:
                    return self._free.pop(position)
        return np.empty(nbytes, dtype=np.uint8)

    def _give_back(self, storage: np.ndarray) -> None:
        with self._lock:
            self._free.append(storage)
            del self._free[: -self._keep]


def pinned(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    """An uninitialised page-locked tensor, from torch's own caching host allocator."""
    return torch.empty(shape, dtype=torch_dtype(dtype), pin_memory=True)


def torch_dtype(dtype: str) -> torch.dtype:
    """torch's name of a store's dtype."""
    return {"uint8": torch.uint8, "uint16": torch.uint16}[dtype]
