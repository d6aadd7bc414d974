"""What timm gets: an encoder with the same tokens, nothing else in the file, constants and card beside it."""

import json
import re

import pytest
import safetensors
import torch

from sar1m.store.errors import OutputError
from sarmae.export import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, RunFacts, export_encoder, timm_arguments
from sarmae.model.spec import ENCODER_SIZES, ModelSpec
from sarmae.timm_door import timm
from sarmae.weights import load_published
from support.tiny_models import batch_db, tiny_model, tiny_spec

FACTS = RunFacts(
    name='tiny: a "test"',
    licence="Apache-2.0",
    config_toml="[train]\nsteps = 7\n# ```fences``` inside\n",
    data_location="build/simulated-4",
    data_digest="sha256:00ff",
    steps=1234,
    metrics={"linear_probe": 0.8125, "knn": 0.5},
)


def exported(folder, pool="avg", **changed):
    model = tiny_model(tiny_spec(**changed))
    export_encoder(model, folder, FACTS, pool=pool)
    return model


def tokens_of(theirs, model, seen):
    """The normed tokens: with pool avg timm norms after the average, so its norm is applied here."""
    with torch.no_grad():
        return theirs.eval().fc_norm(theirs.forward_features(model.normalise(seen)))


@pytest.mark.parametrize("pool", ["token", "avg"])
@pytest.mark.parametrize("changed", [{}, {"polarisations": ("HH",), "image_px": 40}])
def test_timm_loads_the_file_and_gives_the_same_tokens(tmp_path, pool, changed):
    """By the two ways the card describes: the folder alone, or the weights file with the arguments."""
    model = exported(tmp_path, pool, **changed)
    seen, _, _ = batch_db(model.spec)
    name, arguments = timm_arguments(model.spec, pool)
    by_file = timm.create_model(name, checkpoint_path=tmp_path / WEIGHTS_FILE, **arguments)
    by_folder = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    with torch.no_grad():
        ours = model.tokens(seen)
        pooled = ours[:, 0] if pool == "token" else model.normalise(seen)
        for theirs in (by_file, by_folder):
            torch.testing.assert_close(tokens_of(theirs, model, seen), ours, atol=3e-6, rtol=0)
            vector = theirs(model.normalise(seen))
            assert vector.shape == (3, model.spec.width)
            if pool == "token":
                torch.testing.assert_close(vector, pooled, atol=3e-6, rtol=0)
            assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.encoder.parameters())


def test_the_cards_own_lines_work(tmp_path):
    """The code block of the README, run as it stands, with the names it leaves open filled in."""
    exported(tmp_path)
    card = (tmp_path / CARD_FILE).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", card, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    known = {}
    for block in blocks:
        code = block.replace("FOLDER", str(tmp_path)).replace('"model.safetensors"', repr(str(tmp_path / WEIGHTS_FILE)))
        exec(code, known)  # noqa: S102 - our own text
        assert known["model"](torch.zeros(1, 2, 32, 32)).shape == (1, 32)


def test_the_file_holds_the_encoder_alone_and_its_constants(tmp_path):
    model = exported(tmp_path)
    with safetensors.safe_open(tmp_path / WEIGHTS_FILE, "pt") as file:
        names, metadata_facts = set(file.keys()), json.loads(file.metadata()["sarmae"])
    assert not [name for name in names if name.startswith(("decoder", "normalise", "mask_token", "head"))]
    assert len(names) == len(model.encoder.state_dict())
    assert metadata_facts["polarisations"] == ["VV", "VH"]
    assert (metadata_facts["units"], metadata_facts["mean_db"], metadata_facts["std_db"]) == (
        "dB",
        [-12.0, -18.0],
        [4.0, 4.5],
    )
    assert metadata_facts["data_digest"] == "sha256:00ff"
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert (config["pretrained_cfg"]["mean"], config["pretrained_cfg"]["std"]) == ([-12.0, -18.0], [4.0, 4.5])


def test_the_same_model_gives_the_same_bytes(tmp_path):
    exported(tmp_path / "a")
    exported(tmp_path / "b")
    for name in (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_card_tells_the_run(tmp_path):
    exported(tmp_path)
    card = (tmp_path / CARD_FILE).read_text(encoding="utf-8")
    head = card.split("---\n")[1]
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    assert json.loads(fields["license"]) == "apache-2.0"
    assert json.loads(fields["model_name"]) == FACTS.name
    for said in ("| VV | -12 | 4 |", "| VH | -18 | 4.5 |", "`sha256:00ff`", "1,234 steps", "| linear_probe | 0.8125 |"):
        assert said in card
    assert "````toml\n" + FACTS.config_toml.strip() + "\n````" in card
    assert "12 of 16 patches hidden, 12 of them decoded" in card


def test_an_export_is_read_back_as_weights(tmp_path):
    model = exported(tmp_path, "avg")
    other = tiny_model(seed=99)
    assert load_published(other, tmp_path / WEIGHTS_FILE, with_decoder=False).changes == ()
    seen, _, _ = batch_db(model.spec)
    with torch.no_grad():
        assert torch.equal(other.tokens(seen), model.tokens(seen))


@pytest.mark.parametrize("size", ENCODER_SIZES)
def test_named_sizes_are_timms_models(size):
    """Built without memory: parameters by name and shape, as our encoder's."""
    width, depth, heads = ENCODER_SIZES[size]
    spec = ModelSpec(width=width, depth=depth, heads=heads)
    name, arguments = timm_arguments(spec, "token")
    assert size in name
    assert "embed_dim" not in arguments
    with torch.device("meta"):
        theirs = timm.create_model(name, **arguments)
    assert (theirs.embed_dim, len(theirs.blocks), theirs.blocks[0].attn.num_heads) == (width, depth, heads)
    assert theirs.patch_embed.proj.weight.shape == (width, 2, 16, 16)
    assert theirs.pos_embed.shape == (1, 197, width)


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"/file: is a file; a folder expected\. Give another output folder"):
        exported(tmp_path / "file" / "out")


def test_nothing_else_is_left_in_the_folder(tmp_path):
    exported(tmp_path)
    exported(tmp_path, "token")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([WEIGHTS_FILE, CONFIG_FILE, CARD_FILE])
