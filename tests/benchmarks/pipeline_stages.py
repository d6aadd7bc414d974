"""The stages of a build one by one, on blocks that are already read and on what a build has staged.

The pieces are those that `prepare_block` and `build` put together, private ones included: a copy of them here would
measure something else as soon as the pipeline changes.
"""

from __future__ import annotations

from measure import Clock

from sar1m.config import BuildConfig
from sar1m.page.build_page import render_report
from sar1m.records import BlockPixels, Candidate
from sar1m.sources.simulated import SimulatedSource
from sar1m.stages import columns, prepare
from sar1m.stages.choose import choose
from sar1m.stages.install import install, seal
from sar1m.stages.pack import plan_packing, shard_tasks, write_checksums, write_shard, write_tables
from sar1m.stages.plan import Plan, read_plan
from sar1m.stages.staged import write_staged
from sar1m.stages.staged_table import StagedTable
from sar1m.store.durable import FileDigest
from sar1m.store.outputs.output import Output
from sar1m.store.schema import REPORT_FILE

PAIRS_PER_BLOCK = 16
SOURCE = "source (simulation)"
WHOLE_PHASE_1 = "all of phase 1, in one"


def measure_phase_1(config: BuildConfig, staging: Output, blocks: int, rounds: int) -> Clock:
    """CPU seconds of all blocks by stage, one entry a round. Blocks without an optical partner are left out: they
    would flatter."""
    source, clock = SimulatedSource(2 * blocks), Clock()
    candidates = [one for one in source.candidates(config) if one.optical is not None][:blocks]
    prepare.prepare_block(candidates[0], source.read(candidates[0], config), config)  # fills caches of tapers, tables
    with clock.time(SOURCE):
        read = [(candidate, source.read(candidate, config)) for candidate in candidates]
    for _ in range(rounds):
        one_round = Clock()
        for candidate, pixels in read:
            _time_pieces(one_round, candidate, pixels, config)
            with one_round.time(WHOLE_PHASE_1):
                record, chunks = prepare.prepare_block(candidate, pixels, config)
                write_staged(staging, f"{1:032x}", record, chunks)
            with one_round.time("staging write"):
                write_staged(staging, f"{2:032x}", record, chunks)
        for name, seconds in one_round.seconds.items():
            clock.seconds.setdefault(name, []).append(sum(seconds))
    return clock


def _time_pieces(clock: Clock, candidate: Candidate, pixels: BlockPixels, config: BuildConfig) -> None:
    with clock.time("registration"):
        registration = prepare._register(candidate, pixels, config)
    side = config.grid.patch_px
    with clock.time("self-test of the registration"):
        prepare._self_test(candidate, pixels, registration, config)
    with clock.time("second estimator"):
        prepare._second_shifts(candidate, pixels, registration, config)
    with clock.time("cut and metrics"):
        columns.identity(candidate, side)
        patches = []
        for number, place in enumerate(candidate.patches):
            applied = prepare.applied_shift(registration, number, candidate.halo_px, config)
            patches.append(prepare.cut_patch(candidate, pixels, place, applied, side))
            columns.pair(registration, number, applied)
            columns.quality(pixels, patches[-1], None if candidate.optical is None else candidate.optical.quantity)
    with clock.time("encode and channel statistics"):
        for patch in patches:
            prepare._encode(candidate, patch, config)


def measure_phase_2(config: BuildConfig, out: Output, rounds: int) -> Clock:
    """CPU seconds by stage of what follows phase 1, over everything staged in a finished build."""
    clock = Clock()
    plan = read_plan(out.below("staging"))
    for _ in range(rounds + 1):
        _time_phase_2(clock, plan, out, config)
    for repeats in clock.seconds.values():
        del repeats[0]  # imports on first use
    return clock


def _time_phase_2(clock: Clock, plan: Plan, out: Output, config: BuildConfig) -> None:
    with clock.time("read records"):
        failed = {item.item_id for item in plan.failed}
        keys = [item.key for item in plan.items if item.item_id not in failed]
        StagedTable(out.below("staging").below(plan.blocks), keys)
    with clock.time("choose"):
        choice = choose(out.below("staging"), plan, config)
        packing = plan_packing(out, choice, plan.kind, config)
    known = dict[str, FileDigest]()
    with clock.time("tables and statistics"):
        known |= write_tables(packing, plan, config)
    with clock.time("pack"):
        shards = {task.name: write_shard(task) for task in shard_tasks(packing)}
        known |= {name: shard.digest for name, shard in shards.items()} | write_checksums(packing, shards)
    with clock.time("report"):
        page = render_report(out.work / packing.name)
        known[REPORT_FILE] = packing.packed.write(REPORT_FILE, [page.encode()])
    with clock.time("seal and install"):
        seal(out, packing.name, known, choice.facts)
        install(out, packing.name)
    chosen, read = clock.seconds.pop("choose"), clock.seconds["read records"]
    clock.seconds.setdefault("select and count", []).append(chosen[-1] - read[-1])
