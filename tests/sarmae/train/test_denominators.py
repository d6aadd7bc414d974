"""A step's loss and gradient are those of the whole global batch, however it is cut and wherever pixels are missing.

The oracle is one process that sums over every measured value and every anchored token in float64, patch by patch.
"""

import copy
import math
import warnings

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from sarmae.train.objective import Objective, Projector
from sarmae.train.parallel import Ranks
from sarmae.train.schedule import Schedule
from sarmae.train.step import Stepper, StepSettings, Views
from support.small_runs import child
from support.tiny_models import batch_db, tiny_model, tiny_spec

SAMPLES, WIDTH, WEIGHT = 6, 12, 0.1
KINDS = ("nothing", "half a sample", "whole samples", "scattered", "everything")


def missing(kind, shape):
    """(B, P, H, W) bool: what was not measured."""
    gone = torch.zeros(shape, dtype=torch.bool)
    if kind == "half a sample":
        gone[0, :, :, : shape[3] // 2] = True
    elif kind == "whole samples":
        gone[:2] = True
        gone[3, 1] = True
    elif kind == "scattered":  # also patches of which a single value is left
        gone = (
            torch.rand(shape, generator=torch.Generator().manual_seed(8))
            < torch.linspace(0, 0.999, shape[0])[:, None, None, None]
        )
    elif kind == "everything":
        gone[:] = True
    return gone


def views_of(spec, kind):
    seen, wanted, noise = batch_db(spec, samples=SAMPLES)
    gone = missing(kind, seen.shape)
    anchors = torch.randn(SAMPLES, spec.patches, WIDTH, generator=torch.Generator().manual_seed(2))
    paired = torch.tensor([True, False, True, True, False, True])
    return Views(seen.masked_fill(gone, math.nan), wanted.masked_fill(gone, math.nan), noise, anchors, paired)


def objective_of(spec):
    return Objective(tiny_model(spec), Projector(spec.width, 8, WIDTH, seed=1))


def patch(images, sample, number, spec):
    """(P, p, p) of one patch."""
    row, col = (side * spec.patch_px for side in divmod(int(number), spec.grid))
    return images[sample, :, row : row + spec.patch_px, col : col + spec.patch_px]


def target_of(images, sample, number, model):
    """(V,) normalised values of a patch in MAE's order, and which were measured."""
    spec, norm = model.spec, model.normalise
    pixels = patch(images, sample, number, spec)
    measured = ~pixels.isnan()
    values = (pixels - norm.mean_db[:, None, None]) / norm.std_db[:, None, None]
    if spec.norm_pix and measured.any():
        known = values[measured]
        variance = known.var(correction=1) if len(known) > 1 else torch.tensor(0.0)
        values = (values - known.mean()) / (variance + 1e-6).sqrt()
    return values.permute(1, 2, 0).flatten(), measured.permute(1, 2, 0).flatten()


def in_float64(objective, views):
    """(mae, sarc, gradients by name) of the whole batch at once."""
    exact = copy.deepcopy(objective).double()
    views = Views(*(part.double() if part.is_floating_point() else part for part in views))
    model = exact.model
    out = model(views.input_db, views.target_db, views.noise)
    squares, distances = [], []
    for sample in range(len(views.paired)):
        for row, number in enumerate(out.ids_decode[sample]):
            values, measured = target_of(views.target_db, sample, number, model)
            squares.append((out.prediction[sample, row] - values)[measured].square())
        for row, number in enumerate(out.ids_keep[sample]):
            if views.paired[sample] and not patch(views.input_db, sample, number, model.spec).isnan().all():
                ours, theirs = exact.projector(out.visible[sample, row]), views.anchors[sample, number]
                distances.append(1 - ours @ theirs / (ours.norm() * theirs.norm()))
    flat = torch.cat(squares)
    mae = flat.mean() if len(flat) else 0.0 * out.prediction.sum()
    sarc = torch.stack(distances).mean() if distances else 0.0 * exact.projector(out.visible).sum()
    (mae + WEIGHT * sarc).backward()
    return mae.item(), sarc.item(), {name: part.grad for name, part in exact.named_parameters() if part.requires_grad}


def take_step(objective, views, passes, here):
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-9, fused=True)
    settings = StepSettings(passes=passes, weight=WEIGHT, clip=None, autocast=False)
    stepper = Stepper(objective, optimiser, Schedule(peak=1e-9, floor=0, warmup_steps=0, steps=9), settings, here)
    return stepper(0, views, None)


def check(result, gradients, expected):
    mae, sarc, exact = expected
    assert not result.bad
    assert (float(result.mae), float(result.sarc)) == pytest.approx((mae, sarc), rel=1e-5, abs=1e-7)
    assert gradients.keys() == exact.keys()
    scale = max(float(gradient.abs().max()) for gradient in exact.values())
    for name, gradient in gradients.items():
        assert (gradient - exact[name]).abs().max() <= 1e-5 * scale, name


@pytest.mark.parametrize("changed", [{}, {"norm_pix": False}, {"decode_share": 0.3}])
@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_have_the_gradient_of_the_whole_batch(kind, changed):
    spec = tiny_spec(**changed)
    views, objective = views_of(spec, kind), objective_of(spec)
    expected = in_float64(objective, views)
    assert (expected[0] == 0.0) == (kind == "everything")
    for passes in (1, 4, 6):
        cut = copy.deepcopy(objective)
        result = take_step(cut, views, passes, Ranks(rank=0, size=1, device=torch.device("cpu")))
        gradients = {name: part.grad for name, part in cut.named_parameters() if part.requires_grad}
        check(result, gradients, expected)


def rank_takes_a_step(rank, meeting, objective, shares, out):
    warnings.simplefilter("ignore", UserWarning)  # of DDP about strides of a (1, 1, D) gradient
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=len(shares))
    spread_out = DistributedDataParallel(objective)
    here = Ranks(rank=rank, size=len(shares), device=torch.device("cpu"))
    result = take_step(spread_out, shares[rank], passes=2, here=here)
    losses = here.sum(torch.stack([result.mae, result.sarc])) / here.size
    gradients = {name: part.grad for name, part in objective.named_parameters() if part.requires_grad}
    torch.save((result._replace(mae=losses[0], sarc=losses[1])._asdict(), gradients), out / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize(("kind", "first"), [("scattered", 3), ("whole samples", 2), ("everything", 3)])
def test_two_ranks_have_the_gradient_of_one_process(tmp_path, kind, first):
    """Also where one holds no data at all, and where damaged samples were left out of one: 2 samples beside 4."""
    spec = tiny_spec()
    views, objective = views_of(spec, kind), objective_of(spec)
    shares = [Views(*(part[rows] for part in views)) for rows in (slice(first), slice(first, SAMPLES))]
    processes = [child(rank_takes_a_step, rank, tmp_path / "meeting", objective, shares, tmp_path) for rank in (0, 1)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    expected = in_float64(objective, views)
    for rank in (0, 1):
        result, gradients = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        check(type("Result", (), result), gradients, expected)


def test_a_sample_without_data_moves_nothing():
    """Its neighbours' gradient is the one they have by themselves."""
    spec = tiny_spec()
    views, objective = views_of(spec, "nothing"), objective_of(spec)
    empty = torch.full_like(views.input_db[:1], math.nan)
    more = Views(
        torch.cat([views.input_db, empty]),
        torch.cat([views.target_db, empty]),
        *(torch.cat([part, part[:1]]) for part in views[2:]),
    )
    assert more.paired[-1]
    result = take_step(objective, more, 1, Ranks(rank=0, size=1, device=torch.device("cpu")))
    gradients = {name: part.grad for name, part in objective.named_parameters() if part.requires_grad}
    check(result, gradients, in_float64(objective_of(spec), views))
    assert result.per_sample[-1] == 0.0
