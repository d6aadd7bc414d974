"""The published SAR-1M read as it is: the same face as the reader of our own stores, over folders of pictures.

    published = index_published(Path("SAR-1M"), published_px=256)
    for out in published.left_out: ...      # what cannot be used, by name and cause
    reader = PublishedReader(published)

What comes out are digital numbers 1..255 of display brightness, unknown in unit and transfer curve. Speckle models in
linear intensity have no meaning on them; the published method's `lognormal` acts on brightness and has.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sar1m.store.errors import StoreError
from sarmae.errors import ChunkError
from sarmae.stream.band_statistics import SarStatistics
from sarmae.stream.published.decode import read_centre
from sarmae.stream.published.index import PublishedIndex

# The authors' training normalises brightness in [0, 1] by mean 0.5 and standard deviation 0.5; here in digital
# numbers, the unit of these pictures, in place of decibels.
DISPLAY_STATISTICS: Final = SarStatistics(
    polarisations=("display",), mean_db=(127.5,), std_db=(127.5,), basis="published", samples=0
)


class PublishedReader:
    """Reads samples of an indexed folder. Safe for threads; holds no file open between calls."""

    def __init__(self, published: PublishedIndex) -> None:
        self.index = published.split
        self._published = published

    def read_into(
        self, samples: np.ndarray, rows: np.ndarray, sar: np.ndarray, optical: np.ndarray | None
    ) -> list[ChunkError]:
        """Fills rows of a batch with digital numbers: sample samples[i] goes to row rows[i].

        samples, rows: (n,) integers; sar: (B, 1, H, W), optical: (B, 3, H, W) or None, both uint8. An unpaired sample's
        optical row becomes 0. Returns a fault, which names the file, for every sample with a missing, damaged or
        changed picture: its rows are 0 throughout and must not be used.
        """
        faults = []
        for sample, row in zip(samples.tolist(), rows.tolist(), strict=True):
            slots = [sar[row]] if optical is None else [sar[row], optical[row]]
            try:
                self._read(sample, slots)
            except StoreError as error:
                for slot in slots:
                    slot[...] = 0
                faults.append(ChunkError(str(error), sample=sample))
        return faults

    def _read(self, sample: int, slots: list[np.ndarray]) -> None:
        listed = self._published.listed[sample]
        folder, size_px = self._published.folder, self.index.sar.sample_shape[-1]
        slots[0][...] = read_centre(folder / listed.sar, size_px, "L")
        for optical in slots[1:]:
            optical[...] = 0 if listed.optical is None else read_centre(folder / listed.optical, size_px, "RGB")
