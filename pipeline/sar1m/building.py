"""A build: from a region to a finished store, in an output folder of its own.

    plan -> phase 1: prepare every block, in parallel and in any order -> phase 2: choose, pack, page, install

`build` runs all of it, or a share of phase 1, or phase 2 once all shares have ended; `refilter` runs phase 2 alone,
under other thresholds. All do only what is still to be done, and the same command goes on after an interruption.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sar1m.config import PIXEL_SECTIONS, BuildConfig
from sar1m.flow import Workers, WorkersSettings
from sar1m.io.build_log import BuildLog
from sar1m.page.build_page import render_report
from sar1m.records import Candidate, FailedItem
from sar1m.sources.dispatch import INFLATED_DIR, open_source
from sar1m.sources.regions.region import Region, parse_region
from sar1m.sources.source import Source
from sar1m.stages.choose import choice_digest, choose
from sar1m.stages.deciding import Code, code_of, code_of_blocks, code_of_store, in_words, showing_proof
from sar1m.stages.install import install, is_sealed, remove_other_packs, seal
from sar1m.stages.pack import (
    PACK_DIR,
    PackedShard,
    plan_packing,
    shard_count,
    shard_tasks,
    write_checksums,
    write_shard,
    write_tables,
)
from sar1m.stages.plan import PLAN_FILE, Plan, make_plan, pixel_digest, read_plan, write_plan
from sar1m.stages.prepare import prepare_item
from sar1m.stages.shares import Share, failures_of_shares, forget_failures, keep_failures, keep_plan
from sar1m.stages.staged import staged_keys
from sar1m.store.errors import ConfigError, OutputError, SourceError, StoreError, UnreachableError
from sar1m.store.outputs.opening import open_output
from sar1m.store.outputs.output import Output, sizes_of
from sar1m.store.progress import Watch
from sar1m.store.schema import MANIFEST_FILE, REPORT_FILE
from sar1m.store.seal import read_marker
from sar1m.store.side_files import MAX_SIDE_BYTES, json_value

CONFIG_FILE = "build-log/config.toml"  # of the finished store as it was given, with this machine's paths
TOOL_FILE = "build-log/sar1m.json"  # says that an output folder is ours


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What a user asked for.

    plan: a table of scenes made before by `sar1m plan`, which the build then keeps to. strict: the first product or
    block that fails ends the build; else it is set aside by name. share: of phase 1, and no more than that; any number
    of shares may run at the same time. finish: phase 2, where shares have done phase 1.
    """

    region: str
    out: str | Path
    config: BuildConfig
    workers: WorkersSettings
    plan: Path | None = None
    strict: bool = False
    share: Share | None = None
    finish: bool = False


@dataclass(frozen=True, kw_only=True)
class BuildSummary:
    """How a build ended.

    facts: the completion marker; empty after a share. prepared, reused: how many work items this run prepared and found
    staged. nothing_to_do: the store was up to date.
    """

    facts: dict[str, Any]
    prepared: int = 0
    reused: int = 0
    failed: tuple[FailedItem, ...] = ()
    nothing_to_do: bool = False


def build(request: BuildRequest, watch: Watch) -> BuildSummary:
    """Runs what is still to be done and returns how it ended. Items that fail are set aside by name.

    Raises ConfigError, RegionError or SourceError before anything but the build log is written; OutputError where the
    output folder is not ours or cannot be written; LockedError where another build works there; UnfinishedError where
    it was to be finished and shares have not prepared all items.
    """
    region, config = parse_region(request.region), request.config
    out = open_output(request.out)
    if request.share or request.finish:
        _require_one_plan(request, region)
    source = open_source(region, config, out.work, request.plan)
    choice = choice_digest(config)
    # A share that fails early must not remove a folder in which others have begun to work.
    with nullcontext() if request.share else out.nothing_left_behind(keep="staging"):
        claim(out, region.label)
        if request.share is not None:
            return _prepare_share(request, request.share, out, source, watch)
        return _build(request, out, source, choice, watch)


def _require_one_plan(request: BuildRequest, region: Region) -> None:
    """Raises ConfigError where shares would not see the same items."""
    if request.share and request.finish:
        raise ConfigError(
            "--items and --finish: a share is prepared first; --finish is a command of its own, after all shares."
        )
    if region.kind == "area" and request.plan is None:
        raise ConfigError(
            f"--items and --finish need --plan for {region.label}: each share would search the services anew, and "
            "might find other scenes. Search once, with `sar1m plan --to plan.parquet` and the same region and "
            "configuration, and give --plan plan.parquet to every share and to --finish."
        )


def _build(request: BuildRequest, out: Output, source: Source, choice: str, watch: Watch) -> BuildSummary:
    config, staging = request.config, out.below("staging")
    with out.lock():
        log = BuildLog(out)
        plan, candidates = _planned(request, out, source, watch, log)
        current = current_facts(out, plan, choice)
        if current is not None:
            log.event("nothing to do")
            out.remove(PACK_DIR)  # an install that was killed at its very end
            return BuildSummary(facts=current, reused=len(plan.items), failed=plan.failed, nothing_to_do=True)
        out.remove_partials()
        stale = _blocks_of_other_code(staging, plan, watch)
        write_plan(staging, plan)
        blocks = staging.below(plan.blocks)
        missing = _not_staged(blocks, candidates)
        failed = failures_of_shares(blocks, missing) if request.finish else []
        with _workers(request.workers, watch, out, plan.code) as workers:
            if not request.finish:
                task = partial(prepare_item, source=source, config=config, staging=blocks)
                failed = _prepare_blocks(workers, task, missing, watch, log, strict=request.strict)
            plan = plan.with_failures(_without_folders(failed, request, out))
            write_plan(staging, plan)
            # Where the same items failed as before, the store is as it was: a million samples are not packed again.
            facts = current_facts(out, plan, choice) or _finish(out, plan, config, workers, watch)
        staging.remove(*stale)
        shutil.rmtree(out.work / INFLATED_DIR, ignore_errors=True)
        log.event("complete", **facts["counts"])
        prepared = len(missing) - len(failed)
        return BuildSummary(facts=facts, prepared=prepared, reused=len(candidates) - len(missing), failed=plan.failed)


def _planned(
    request: BuildRequest, out: Output, source: Source, watch: Watch, log: BuildLog
) -> tuple[Plan, dict[str, Candidate]]:
    """The plan and its candidates by content key. Says what is left out."""
    region, config = parse_region(request.region), request.config
    log.event("start", region=request.region, config=config.digest())
    with watch.stage("plan", 0):
        offered = source.candidates(config)
        plan, candidates = make_plan(region.label, offered, config, source.failures, strict=request.strict)
    failed = tuple(_without_folders(plan.failed, request, out))
    plan = replace(plan, failed=failed, code=code_of_blocks(source))
    for item in plan.failed:
        log.event("failed", item=item.item_id, error=item.error, cause=item.cause)
    for remark in source.remarks:
        watch.note(remark)
        log.event("left out", remark=remark)
    return plan, candidates


def _not_staged(blocks: Output, candidates: Mapping[str, Candidate]) -> dict[str, Candidate]:
    staged = staged_keys(blocks)
    return {key: one for key, one in candidates.items() if key not in staged}


def _prepare_share(request: BuildRequest, share: Share, out: Output, source: Source, watch: Watch) -> BuildSummary:
    """Phase 1 of a share. It leaves alone what others write."""
    name, staging = f"{share.number}-of-{share.count}", out.below("staging")
    with out.lock(share=name):
        log = BuildLog(out, f"events-{name}")
        plan, all_candidates = _planned(request, out, source, watch, log)
        keep_plan(staging, plan)
        candidates, blocks = share.of(all_candidates), staging.below(plan.blocks)
        missing = _not_staged(blocks, candidates)
        forget_failures(blocks, missing)
        failed: list[FailedItem] = []
        if missing:
            with _workers(request.workers, watch, out, plan.code) as workers:
                task = partial(prepare_item, source=source, config=request.config, staging=blocks)
                failed = _prepare_blocks(workers, task, missing, watch, log, strict=request.strict)
        failed = _without_folders(failed, request, out)
        keep_failures(blocks, missing, failed)
        prepared = len(missing) - len(failed)
        log.event("share ended", prepared=prepared, failed=len(failed))
    return BuildSummary(facts={}, prepared=prepared, reused=len(candidates) - len(missing), failed=tuple(failed))


def refilter(place: str | Path, config: BuildConfig, settings: WorkersSettings, watch: Watch) -> BuildSummary:
    """Runs phase 2 alone, under new thresholds, from what is staged. No source is read.

    Raises ConfigError where the configuration or the code would shape other pixels than those staged, OutputError where
    place is no output folder of a build.
    """
    out = open_output(place)
    if out.size(TOOL_FILE) is None:
        raise OutputError(f"{out.location}: not an output folder of sar1m (no {TOOL_FILE} in it).")
    with out.lock():
        log = BuildLog(out)
        log.event("refilter", config=config.digest())
        out.remove_partials()
        plan = read_plan(out.below("staging"))
        if plan.pixel_digest != pixel_digest(config):
            sections = ", ".join(f"[{name}]" for name in PIXEL_SECTIONS)
            raise ConfigError(
                f"{out.location}: {sections} or seed differ from those the blocks were staged with, or another version "
                "of sar1m staged them. refilter changes thresholds only; run `sar1m build` with this configuration."
            )
        _require_same_code(out, plan)
        current = current_facts(out, plan, choice_digest(config))
        if current is not None:
            return BuildSummary(facts=current, reused=len(plan.items), nothing_to_do=True)
        with _workers(settings, watch, out, plan.code) as workers:
            facts = _finish(out, plan, config, workers, watch)
        log.event("complete", **facts["counts"])
        return BuildSummary(facts=facts, reused=len(plan.items) - len(plan.failed), failed=plan.failed)


def how_far(place: str | Path) -> tuple[Plan, int, dict[str, Any] | None]:
    """The plan of the last build there, how many of its items are staged, and the facts of a finished store.

    Raises OutputError where no build has been, StoreError where plan or marker are damaged.
    """
    out = open_output(place)
    plan = read_plan(out.below("staging"))
    staged = staged_keys(out.below(f"staging/{plan.blocks}"))
    return plan, len(staged & {item.key for item in plan.items}), read_marker(out)


def _blocks_of_other_code(staging: Output, plan: Plan, watch: Watch) -> list[str]:
    """What lies in staging and is not of this plan's code, by name. It is kept until the build is complete, so that who
    goes back to the former code finds its blocks again."""
    stale = sorted(staging.entries() - {PLAN_FILE, "pack", plan.blocks})
    if stale:
        try:
            found = read_plan(staging).code.differences(plan.code)
        except (OutputError, StoreError):  # it is written anew
            found = []
        of = f"other code ({in_words(found)})" if found else "other code"
        watch.note(f"blocks staged by {of} are not used; they are removed when this build is complete")
    return stale


def _require_same_code(out: Output, plan: Plan) -> None:
    found = plan.code.differences(code_of(plan.code.roots))
    if found or not plan.code.roots:
        other = f"other code than this ({in_words(found)})"
        which = other if plan.code.roots else "a version of sar1m that did not note its code"
        raise ConfigError(
            f"{out.location}: its blocks were staged by {which}. Run `sar1m build` to prepare them anew, or refilter "
            "with the code that staged them."
        )


@contextmanager
def _workers(settings: WorkersSettings, watch: Watch, out: Output, blocks: Code) -> Iterator[Workers]:
    """blocks: the code that prepares them. Every worker must share it, and that of phase 2, with this process."""
    with ExitStack() as stack:
        roots = code_of_store(blocks).roots
        proof = None if settings.here else stack.enter_context(showing_proof(roots, out))
        workers = stack.enter_context(Workers(settings, watch.note, proof))
        if workers.dashboard:
            watch.note(f"Dask dashboard: {workers.dashboard}")
        yield workers


def _prepare_blocks(
    workers: Workers,
    task: Callable[[tuple[str, Candidate]], None],
    missing: Mapping[str, Candidate],
    watch: Watch,
    log: BuildLog,
    *,
    strict: bool,
) -> list[FailedItem]:
    """Phase 1. missing: candidates by content key. strict: raises SourceError for the first item that fails."""
    failed = []
    with watch.stage("prepare blocks", len(missing)) as step:
        for outcome in workers.map(task, missing.items()):
            _key, candidate = outcome.item
            if outcome.error:
                known = {"error": outcome.error, "cause": outcome.cause}
                log.event("failed", item=candidate.item_id, **known, trace=outcome.trace)
                if strict:
                    raise SourceError(f"{candidate.item_id}: {outcome.error}: {outcome.cause}")
                failed.append(FailedItem(item_id=candidate.item_id, patches=len(candidate.patches), **known))
            else:
                log.event("prepared", item=candidate.item_id)
            step()
    return failed


def _finish(out: Output, plan: Plan, config: BuildConfig, workers: Workers, watch: Watch) -> dict[str, Any]:
    """Phase 2. Returns the facts of the completion marker."""
    choice = choose(out.below("staging"), plan, config)
    packing = plan_packing(out, choice, plan.kind, config)
    if not is_sealed(out, packing.name):
        remove_other_packs(out, packing.name)
        known, shards = write_tables(packing, plan, config), dict[str, PackedShard]()
        with watch.stage("pack shards", shard_count(choice.samples, packing.images)) as step:
            for outcome in workers.map(write_shard, shard_tasks(packing)):
                if outcome.result is None:
                    raise StoreError(f"{outcome.item.name}: {outcome.cause}")
                shards[outcome.item.name] = outcome.result
                known[outcome.item.name] = outcome.result.digest
                step()
        known |= write_checksums(packing, shards)
        with watch.stage("report", 0):
            with packing.packed.local(known.keys() - shards.keys()) as tables:
                page = render_report(tables, packing.packed)
            known[REPORT_FILE] = packing.packed.write(REPORT_FILE, [page.encode()])
        seal(out, packing.name, known, choice.facts)
    install(out, packing.name)
    out.write(CONFIG_FILE, [config.beside(Path.cwd()).to_toml().encode()])
    facts = read_marker(out)
    if facts is None:
        raise StoreError(
            f"{out.location}: the completion marker vanished while the store was installed. Run the build again."
        )
    return facts


def claim(out: Output, region: str) -> None:
    """Makes the output this region's. Raises OutputError where it holds something else or another region."""
    there = out.entries()
    if TOOL_FILE.split("/", 1)[0] in there and out.size(TOOL_FILE) is not None:
        _require_region(out, region)
        return
    # A share that began at the same time may have made it by now.
    if there - {"build-log", "cache"} and out.size(TOOL_FILE) is None:
        raise OutputError(
            f"{out.location}: exists and was not made by sar1m (no {TOOL_FILE} in it). Give an empty or new folder as "
            "OUT."
        )
    out.write(TOOL_FILE, [json.dumps({"tool": "sar1m", "region": region}).encode()])


def _require_region(out: Output, region: str) -> None:
    where, remedy = f"{out.location}/{TOOL_FILE}", f"Remove {out.location}, or give another folder as OUT."
    try:
        held = json_value(out.read(TOOL_FILE, max_bytes=MAX_SIDE_BYTES))["region"]
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(f"{where}: names no region ({error}). {remedy}") from error
    if held != region:
        raise OutputError(
            f"{out.location}: holds region {held}, this build is of {region}. Give another folder as OUT."
        )


def current_facts(out: Output, plan: Plan, choice: str) -> dict[str, Any] | None:
    """The facts of the completion marker where the store in out is up to date, else None.

    Up to date: made from this very plan and choice (choose.choice_digest) by this code, with the manifest that the
    marker names, and every file has its size. A damaged marker counts as none: the build makes it anew.
    """
    try:
        marker = read_marker(out)
        manifest_sha256 = None if marker is None else out.digest(MANIFEST_FILE).sha256
    except UnreachableError:
        raise
    except StoreError:
        return None
    if marker is None or marker["manifest_sha256"] != manifest_sha256:
        return None
    made_by = code_of_store(plan.code).digest
    if (marker.get("plan"), marker.get("config"), marker.get("code")) != (plan.digest(), choice, made_by):
        return None
    return marker if marker["files"].items() <= sizes_of(out, marker["files"].keys()).items() else None


def _without_folders(failed: Iterable[FailedItem], request: BuildRequest, out: Output) -> list[FailedItem]:
    folders = (Path(parse_region(request.region).argument), out.work)
    return [replace(item, cause=without_folders(item.cause, folders)) for item in failed]


def without_folders(text: str, folders: Iterable[Path] = ()) -> str:
    """A message without absolute paths: what goes into a store names no folders of a machine.

    Paths below the given folders become relative to them, whatever characters they hold. Of other paths the file's name
    stays.
    """
    known = {str(form) for folder in folders for form in (folder.absolute(), folder.resolve())}
    for folder in sorted(known, key=len, reverse=True):
        text = text.replace(f"{folder}/", "")
    return re.sub(r"(?<![\w.:/])/(?:[^\s/:'\"]+/)+", "", text)
