"""Water in real Sentinel-1 chips (Sen1Floods11), west of a chip taught and east of it tested."""

import numpy as np
import pytest
import rasterio
import torch

from sarmae.evaluate.labelled_images import LabelledScenes
from sarmae.evaluate.segment import segment
from support.eval_pieces import HeldImages, HeldMasks, TinyBackbone, inputs, task_config
from support.paths import SHARED

CHIPS = SHARED / "data/flood_chips"
TILE_PX = 64


def tiles(path):
    """(64, bands, 64, 64) of a chip of 512 px, row by row."""
    with rasterio.open(path) as raster:
        bands = raster.read()
    parts = bands.reshape(len(bands), 8, TILE_PX, 8, TILE_PX).transpose(1, 3, 0, 2, 4)
    return torch.from_numpy(np.ascontiguousarray(parts.reshape(64, len(bands), TILE_PX, TILE_PX)))


@pytest.mark.skipif(not CHIPS.is_dir(), reason="no shared/data/flood_chips beside the checkout; made-up scenes serve")
def test_water_is_found_in_a_real_chip():
    label = sorted((CHIPS / "label").glob("India_*.tif"))[0]
    name = label.name.replace("LabelHand", "S1Hand")
    scenes = LabelledScenes(
        name="India",
        inputs=inputs(("VV", "VH"), side_px=TILE_PX),
        images=HeldImages(tiles(CHIPS / "s1" / name).float()),
        masks=HeldMasks(tiles(label)[:, 0].long()),
        classes=("land", "water"),
        splits=np.where(np.arange(64) % 8 < 4, "train", "test"),
        groups=np.arange(64, dtype=np.int64),
    )
    fit = {"epochs": 6, "batch": 8, "lr": 5e-3}
    scores = segment(TinyBackbone(channels=2), scenes, task_config("segmentation", fit=fit), 0, torch.device("cpu"))
    first = {score.metric: score for score in scores if score.protocol == "pyramid"}
    assert first["IoU: water"].value > 0.4
    assert first["mIoU"].low < first["mIoU"].value < first["mIoU"].high
