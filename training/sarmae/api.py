"""What a person calls from Python. The command line calls the same functions.

    import sarmae

    sarmae.pretrain("smoke", ["build/sample"], "runs/smoke")

The names are offered by `sarmae` itself and imported on first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sar1m.store.printer import Printer
from sar1m.store.progress import Watch
from sar1m.store.settings import override
from sarmae.config import PretrainConfig, resolve_config
from sarmae.terminal import console_watch
from sarmae.train.loop import PretrainOutcome
from sarmae.train.loop import pretrain as run_pretraining


def pretrain(
    config: str | PretrainConfig = "smoke",
    data: Sequence[str | Path] = (),
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    watch: Watch | None = None,
) -> PretrainOutcome:
    """Pretrains a masked autoencoder, or goes on with a run that was stopped.

    config: a configuration, a TOML file, or a name in training/configs.
    data: finished stores, folders or URLs; those of the configuration by default.
    out: folder of the run, runs/<name> by default.
    overrides: "key=value" each, as in "train.steps=100".
    watch: who is shown the progress; lines on standard error by default.

    Returns how the run ended. Raises ConfigError, StoreError, CheckpointError or NonFiniteError; what was saved before
    stays whole.
    """
    settings = configuration(config, data, overrides)
    return run_pretraining(settings, run_folder(out, settings), watch or console_watch(Printer(stderr=True)))


def configuration(
    given: str | PretrainConfig, data: Sequence[str | Path] = (), overrides: Sequence[str] = ()
) -> PretrainConfig:
    """The configuration of a run: as given, with its overrides, and with the stores of data instead of its own."""
    config = override(given, list(overrides)) if isinstance(given, PretrainConfig) else resolve_config(given, overrides)
    if not data:
        return config
    stores = tuple(str(place) for place in data)
    return config.model_copy(update={"data": config.data.model_copy(update={"stores": stores})})


def run_folder(out: str | Path | None, config: PretrainConfig) -> Path:
    """The folder of a run: as given, or runs/<name>."""
    return Path("runs") / config.name if out is None else Path(out)
