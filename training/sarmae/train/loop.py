"""The loop: take a batch, take a step, log, save; until the last step or until the batch system asks to stop.

    with join_ranks(...) as here:
        run = set_up(config, out, here)      # goes on from the latest checkpoint by itself
        _train(run, ...)

After a kill at any moment the same command goes on from the latest checkpoint; on a CPU with the same number of
processes, every loss is then bit for bit what it would have been.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from sar1m.store.durable import write_durably
from sar1m.store.file_lock import output_lock
from sar1m.store.progress import Watch
from sarmae.config import PretrainConfig
from sarmae.stream.batch import Batch
from sarmae.train.ema import decay_at, steps_to_reach
from sarmae.train.guard import Guard
from sarmae.train.metrics import Metrics, Stopwatch, matmul_ceiling
from sarmae.train.panels import panel
from sarmae.train.parallel import gathered, join_ranks, read_launch
from sarmae.train.preemption import Preemption
from sarmae.train.probe import ProbeScores, encode, score
from sarmae.train.setup import Run, set_up
from sarmae.train.step import StepResult, Views
from sarmae.train.target_drift import target_drift

CONFIG_FILE = "config.toml"
LOCK_FILE = "lock"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A log step: means over the steps since the last one.

    loss: mae + sarc.weight * sarc. utilisation: the model's operations per second, relative to the measured speed of
    matrix products on all ranks. data_wait: share of the time spent waiting for samples. bad_steps: steps since the
    start that had no effect, because a value was not finite.
    """

    step: int
    steps: int
    loss: float
    mae: float
    sarc: float
    gradient_norm: float
    lr: float
    images_per_s: float
    utilisation: float
    data_wait: float
    seconds_left: float
    bad_steps: int

    def line(self) -> str:
        """step 120/1000  loss 0.832 (mae 0.801, sarc 0.312)  312 img/s  MFU 41 %  wait 0.4 %  3 min left"""
        parts = f" (mae {self.mae:.4f}, sarc {self.sarc:.4f})" if self.sarc else ""
        bad = f"  {self.bad_steps} bad steps" if self.bad_steps else ""
        return (
            f"step {self.step:>{len(str(self.steps))}}/{self.steps}  loss {self.loss:.4f}{parts}"
            f"  {self.images_per_s:,.0f} img/s  MFU {self.utilisation:.0%}  wait {self.data_wait:.1%}"
            f"  {_duration(self.seconds_left)} left{bad}"
        )


@dataclass(frozen=True, kw_only=True)
class PretrainOutcome:
    """How a run ended. exit_code: 0 after the last step, else the code for the batch system. leads: on rank 0."""

    leads: bool
    step: int
    exit_code: int
    last: Progress | None


def pretrain(
    config: PretrainConfig,
    out: Path,
    watch: Watch | None = None,
    on_log: Callable[[Progress], None] | None = None,
) -> PretrainOutcome:
    """Trains in the folder `out`. Goes on where a former run of the same configuration in this folder stopped.

    config: config.data.stores names the stores.
    out: folder of the run; made if it does not exist.
    watch: receives notes and a line for each log step, on rank 0 alone.
    on_log: called with each log step, on rank 0 alone.

    Raises ConfigError, StoreError, CheckpointError or NonFiniteError, OutputError where the folder cannot be used,
    LockedError where another process trains in it. The checkpoints saved before stay whole.
    """
    launch = read_launch(os.environ)
    alone = nullcontext() if launch.rank else output_lock(out, lock=LOCK_FILE, work="run")
    with alone, join_ranks(config.train.device, launch) as here, Preemption() as preemption:
        run = set_up(config, out, here)
        if not here.leads:
            return _train(run, preemption, Ledger(run))
        write_durably(out / CONFIG_FILE, [config.to_toml().encode()])
        if watch:
            _introduce(run, watch)
        with Metrics(out, resumed_at=run.step) as metrics:
            outcome = _train(run, preemption, Ledger(run, metrics, watch, on_log))
        if outcome.exit_code and watch:
            watch.note(f"Stopped at step {outcome.step}, saved. The same command goes on from there.")
        return outcome


def _introduce(run: Run, watch: Watch) -> None:
    weights = sum(weight.numel() for weight in run.model.parameters() if weight.requires_grad)
    watch.note(
        f"{len(run.loader)} batches of {run.config.train.global_batch} an epoch; {weights / 1e6:.1f} M weights; "
        f"{run.here.size} x {run.here.device} in {'bfloat16' if run.autocast else 'float32'}"
    )
    ema, steps = run.config.train.ema, run.config.train.steps
    if ema is not None and steps < steps_to_reach(ema):
        watch.note(
            f"Warning: train.ema={ema} is reached after {steps_to_reach(ema):,} steps, this run has {steps:,}: in its "
            f"last step the decay of the average is {decay_at(steps - 1, ema):.4g}. Set a smaller train.ema."
        )
    if run.step:
        watch.note(f"Going on from the checkpoint of step {run.step}.")
    else:
        watch.note(f"Begins from {run.begun_from}.")


def _train(run: Run, preemption: Preemption, ledger: Ledger) -> PretrainOutcome:
    train, guard = run.config.train, Guard(run.config.train.max_bad_steps)
    last: Progress | None = None
    stop = run.step >= train.steps
    for batch in _batches(run, ledger.stopwatch) if not stop else ():
        views = run.make_views(batch)
        if train.compile and run.step % train.checkpoint_every == 0:
            ledger.record({"compile_difference": run.compare_compiled(views)})
        result = run.stepper(run.step, views, run.average)
        run.step += 1
        guard.note(run.step, result, batch.id)
        ledger.add(result)
        closing = run.step % train.log_every == 0 or run.here.size == 1
        stop = run.step == train.steps or (closing and run.here.any(preemption.asked))
        if stop or run.step % train.log_every == 0:
            guard.check()
            last = ledger.close(guard.total)
        if stop or run.step % train.checkpoint_every == 0:
            run.save()
        _look(run, ledger, views)
        if run.step == train.steps and run.here.leads:
            ledger.record(target_drift(run.model, views.target_db, seed=train.seed))
        if stop:
            break
    finished = run.step >= train.steps  # a signal that came during the last step is of no account
    return PretrainOutcome(
        leads=run.here.leads, step=run.step, exit_code=0 if finished else preemption.exit_code, last=last
    )


def _batches(run: Run, stopwatch: Stopwatch) -> Iterator[Batch]:
    """Batches without end, epoch after epoch. Measures the wait for each."""
    while True:
        stopwatch.waiting()
        for batch in run.loader:
            stopwatch.got()
            yield batch
            stopwatch.waiting()


def _look(run: Run, ledger: Ledger, views: Views) -> None:
    """Every probe_every steps scores the features, every panel_every steps draws a panel. Every rank must call it."""
    train = run.config.train
    probing = run.probe if train.probe_every and run.step % train.probe_every == 0 else None
    if probing is not None:
        with ledger.stopwatch.paused(), gathered(run.stepper.objective):
            scores = score(encode(run.model, probing.sar_db), probing)
        ledger.record_probe(scores)
    if train.panel_every and run.step % train.panel_every == 0:
        with ledger.stopwatch.paused(), gathered(run.stepper.objective):
            ledger.show("reconstruction", panel(run.model, views))


class Ledger:
    """Sums up the steps between two log steps over all ranks. On rank 0 it reports them and writes the metrics."""

    def __init__(
        self,
        run: Run,
        metrics: Metrics | None = None,
        watch: Watch | None = None,
        on_log: Callable[[Progress], None] | None = None,
    ) -> None:
        self.stopwatch = Stopwatch()
        self._run, self._metrics, self._watch, self._on_log = run, metrics, watch, on_log
        self._ceiling = matmul_ceiling(run.here.device, bf16=run.autocast)
        self._results: list[StepResult] = []
        self.stopwatch.lap()  # what came before was setting up

    def add(self, result: StepResult) -> None:
        """Adds a step without waiting for the device."""
        self._results.append(result)

    def close(self, bad_steps: int) -> Progress:
        """Waits for the device, sums up the steps since the last log step and reports them. Every rank must call it."""
        run, steps = self._run, len(self._results)
        sums = torch.stack([torch.stack([r.mae, r.sarc, r.gradient_norm]) for r in self._results]).double().sum(dim=0)
        mae, sarc, norm = (run.here.sum(sums) / (steps * run.here.size)).tolist()
        self._results.clear()
        seconds, waited = self.stopwatch.lap()
        rate = steps * run.config.train.global_batch / seconds
        progress = Progress(
            step=run.step,
            steps=run.config.train.steps,
            loss=mae + run.config.sarc.weight * sarc,
            mae=mae,
            sarc=sarc,
            gradient_norm=norm,
            lr=run.stepper.schedule(run.step - 1),
            images_per_s=rate,
            utilisation=rate * run.flops_per_sample / (self._ceiling * run.here.size),
            data_wait=waited / seconds,
            seconds_left=(run.config.train.steps - run.step) * seconds / steps,
            bad_steps=bad_steps,
        )
        if self._watch:
            self._watch.note(progress.line())
        if self._on_log:
            self._on_log(progress)
        self.record({name: value for name, value in asdict(progress).items() if name not in _NOT_SCALARS})
        return progress

    def record(self, values: Mapping[str, float]) -> None:
        """Writes scalars of the present step."""
        if self._metrics:
            self._metrics.write(self._run.step, values)

    def record_probe(self, scores: ProbeScores) -> None:
        """Writes the scores of the present step and reports them."""
        self.record({f"probe/{name}": value for name, value in asdict(scores).items()})
        if self._watch:
            self._watch.note(
                f"probe of land cover at step {self._run.step}: k-NN {scores.knn:.3f}, linear {scores.linear:.3f} "
                f"(balanced accuracy over {scores.classes} classes)"
            )

    def show(self, name: str, picture: torch.Tensor) -> None:
        """Writes a picture of the present step, (3, H, W) uint8."""
        if self._metrics:
            self._metrics.picture(self._run.step, name, picture)


_NOT_SCALARS = ("step", "steps", "seconds_left")


def _duration(seconds: float) -> str:
    """A duration in the largest unit that fits."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
