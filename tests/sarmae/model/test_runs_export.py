"""A run's folder in, an encoder out: the right weights, a card without secrets, and errors that say what is wrong."""

import json
import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file

from sar1m.store.errors import ConfigError
from sarmae.config import PretrainConfig
from sarmae.encoders import load_encoder
from sarmae.errors import CheckpointError
from sarmae.export import CARD_FILE, WEIGHTS_FILE, timm_arguments
from sarmae.runs import export_run
from sarmae.timm_door import timm
from sarmae.train.checkpoint import FOLDER, MODEL_FILE, Checkpoint, save
from sarmae.train.objective import Objective, Projector
from support.tiny_models import batch_db, tiny_model, tiny_spec

STORES = ("/scratch/someone/build/portugal", "https://me:secret@host/bucket/spain?X-Amz-Signature=abc")
CONFIG = PretrainConfig.model_validate(
    {
        "name": "tiny",
        "data": {"stores": STORES, "cache": "/scratch/someone/cache"},
        "sarc": {"teacher": "dinov3_base", "weights": "/scratch/someone/dinov3.pth"},
    }
)


def facts_of(model, **changed):
    facts = {
        "stream": {"stores": ["blake2b:aa", "blake2b:bb"]},
        "config": CONFIG.model_dump(mode="json"),
        "spec": asdict(model.spec),
    }
    return {name: value for name, value in {**facts, **changed}.items() if value is not None}


def write_run(run, model, *, step=40, average=None, **facts):
    """As the loop saves it: the objective with its projector, and the averages of what is trained."""
    objective = Objective(model, Projector(model.spec.width, 8, 12, seed=1))
    tensors = dict(objective.state_dict())
    if average is not None:
        tensors |= {f"average.model.{name}": weight.detach() for name, weight in average.named_parameters()}
    as_json = json.loads(json.dumps(facts_of(model, **facts)))
    save(run, Checkpoint(step=step, model=tensors, optimiser={"a/step": torch.zeros(1)}, facts=as_json), keep=3)
    return run


def pooled(weights, model, seen):
    name, arguments = timm_arguments(model.spec, "avg")
    theirs = timm.create_model(name, checkpoint_path=weights, **arguments).eval()
    with torch.no_grad():
        return theirs(model.normalise(seen))


def expected(model, seen):
    """timm norms after the average where it pools by it."""
    with torch.no_grad():
        norm, model.encoder.norm = model.encoder.norm, torch.nn.Identity()
        tokens = model.encoder.forward_features(model.normalise(seen))
        model.encoder.norm = norm
        return norm(tokens[:, 1:].mean(dim=1))


def test_the_latest_checkpoint_becomes_an_encoder_that_timm_loads(tmp_path):
    spec = tiny_spec(polarisations=("HH", "HV"))
    write_run(tmp_path / "run", tiny_model(spec, seed=4), step=20)
    model = tiny_model(spec, seed=5)
    write_run(tmp_path / "run", model, step=40)
    weights = export_run(tmp_path / "run", tmp_path / "out")
    assert weights == tmp_path / "out" / WEIGHTS_FILE
    seen, _, _ = batch_db(spec)
    torch.testing.assert_close(pooled(weights, model, seen), expected(model, seen), atol=3e-6, rtol=0)
    card = (tmp_path / "out" / CARD_FILE).read_text()
    assert "| HH |" in card
    assert "Exported: the weights after step 40" in card


def test_the_moving_average_is_taken_where_there_is_one_and_the_card_says_so(tmp_path):
    model, average = tiny_model(seed=5), tiny_model(seed=6)
    write_run(tmp_path / "run", model, average=average)
    weights = export_run(tmp_path / "run", tmp_path / "out")
    seen, _, _ = batch_db(model.spec)
    torch.testing.assert_close(pooled(weights, average, seen), expected(average, seen), atol=3e-6, rtol=0)
    assert "the moving average of the weights (train.ema) after step 40" in (tmp_path / "out" / CARD_FILE).read_text()


def test_the_card_tells_data_and_licence_but_no_folders_and_no_credentials(tmp_path):
    export_run(write_run(tmp_path / "run", tiny_model()), tmp_path / "out", licence="Apache-2.0")
    card = (tmp_path / "out" / CARD_FILE).read_text()
    assert "portugal, https://host/bucket/spain" in card
    assert "blake2b:aa, blake2b:bb" in card
    assert 'license: "apache-2.0"' in card
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir()).decode("latin-1")
    for secret in ("someone", "secret", "X-Amz"):
        assert secret not in written


def test_the_card_has_the_newest_scores_up_to_the_checkpoint(tmp_path):
    run = write_run(tmp_path / "run", tiny_model(), step=40)
    lines = [
        {"step": 20, "loss": 0.9, "lr": 1e-3, "probe/linear": 0.5},
        {"step": 40, "loss": 0.75, "sarc": None},
        {"step": 60, "loss": 0.125},
    ]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"step": 61, "lo')
    export_run(run, tmp_path / "out")
    card = (tmp_path / "out" / CARD_FILE).read_text()
    assert "| loss | 0.75 |" in card
    assert "| probe/linear | 0.5 |" in card
    assert "| lr |" not in card
    assert "| sarc |" not in card


def test_no_run_and_a_run_that_never_saved_are_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        export_run(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        export_run(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_checkpoint_gives_way_to_the_one_before_and_alone_is_refused(tmp_path):
    run = write_run(tmp_path / "run", tiny_model(), step=20)
    write_run(run, tiny_model(), step=40)
    cut = run / FOLDER / "step-00000040" / MODEL_FILE
    cut.write_bytes(cut.read_bytes()[:-100])
    export_run(run, tmp_path / "out")
    assert "after step 20" in (tmp_path / "out" / CARD_FILE).read_text()
    shutil.rmtree(run / FOLDER / "step-00000020")
    with pytest.raises(CheckpointError, match=r"step-00000040.*damaged"):
        export_run(run, tmp_path / "out")


@pytest.mark.parametrize("key", ["spec", "config"])
def test_a_checkpoint_that_does_not_say_what_it_holds_is_refused(tmp_path, key):
    run = write_run(tmp_path / "run", tiny_model(), **{key: None})
    with pytest.raises(CheckpointError, match=f"'{key}' is missing"):
        export_run(run, tmp_path / "out")


@pytest.mark.parametrize("changed", [{"width": 64}, {"depth": 3}, {"polarisations": ["VV"]}, {"unheard": 1}])
def test_a_checkpoint_of_another_model_than_it_says_is_refused(tmp_path, changed):
    model = tiny_model()
    run = write_run(tmp_path / "run", model, spec={**asdict(model.spec), **changed})
    with pytest.raises(CheckpointError, match=str(run)):
        export_run(run, tmp_path / "out")


@pytest.mark.parametrize("form", ["run", "export", "file"])
def test_an_encoder_takes_decibels_wherever_it_comes_from(tmp_path, form):
    model, average = tiny_model(seed=5), tiny_model(seed=6, mean_db=-9.0)
    write_run(tmp_path / "run", model, average=average)
    place = tmp_path / "run"
    if form != "run":
        weights = export_run(place, tmp_path / "out")
        place = weights if form == "file" else weights.parent
    encoder = load_encoder(place)
    sar_db, _, _ = batch_db(model.spec)
    sar_db[0, 0, :5, :7] = torch.nan  # no data
    average.normalise = model.normalise  # constants are saved as they are, not averaged
    with torch.no_grad():
        torch.testing.assert_close(encoder(sar_db), expected(average, sar_db), atol=3e-6, rtol=0)
        assert encoder.tokens(sar_db).shape == (3, 1 + 16, 32)
        assert encoder(torch.cat([sar_db, sar_db], dim=3).repeat(1, 1, 2, 1)).shape == (3, 32)  # of another size
    assert encoder.polarisations == ("VV", "VH")
    assert not encoder.training


def test_an_encoder_that_is_none_is_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere.*no such file"):
        load_encoder(tmp_path / "nowhere")
    bare = tmp_path / "bare.safetensors"
    save_file({name: t.clone() for name, t in tiny_model().encoder.state_dict().items()}, bare)
    with pytest.raises(CheckpointError, match=r"bare.safetensors: weights without the normalisation"):
        load_encoder(bare)
    encoder = load_encoder(write_run(tmp_path / "run", tiny_model()))
    with pytest.raises(ConfigError, match="Use a store with the polarisations"):
        encoder(torch.zeros(1, 1, 32, 32))
