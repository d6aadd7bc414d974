"""Small models and inputs that the tests of the model share."""

import torch

from sarmae.model.sarmae import build_model
from sarmae.model.spec import ModelSpec
from sarmae.stream.band_statistics import SarStatistics


def tiny_spec(**changed):
    """Two polarisations, 16 patches, of which 4 are seen."""
    shape = {
        "image_px": 32,
        "patch_px": 8,
        "width": 32,
        "depth": 2,
        "heads": 4,
        "decoder_width": 16,
        "decoder_depth": 1,
        "decoder_heads": 2,
    }
    return ModelSpec(**{**shape, **changed})


def tiny_model(spec=None, *, seed=3, mean_db=-12.0, std_db=4.0):
    spec = spec or tiny_spec()
    count = len(spec.polarisations)
    statistics = SarStatistics(
        polarisations=spec.polarisations,
        mean_db=tuple(mean_db - 6.0 * i for i in range(count)),
        std_db=tuple(std_db + 0.5 * i for i in range(count)),
        basis="train",
        samples=10,
    )
    return build_model(spec, statistics, seed=seed)


def batch_db(spec, samples=3, seed=5):
    """Two images in dB, as input and target, and masking noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, len(spec.polarisations), spec.image_px, spec.image_px)
    seen = -12.0 + 4.0 * torch.randn(shape, generator=generator)
    wanted = seen + torch.randn(shape, generator=generator)
    return seen, wanted, torch.rand(samples, spec.patches, generator=generator)
