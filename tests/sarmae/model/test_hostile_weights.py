"""Weights files of strangers: nothing in them makes a request, names a path, or takes more memory than they hold."""

import json
import resource
import zipfile
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import safetensors
import torch
from safetensors.torch import save_file

from sarmae.encoders import load_encoder
from sarmae.errors import CheckpointError
from sarmae.export import WEIGHTS_FILE, RunFacts, export_encoder
from sarmae.runs import load_run_model
from sarmae.train.checkpoint import Checkpoint, save
from sarmae.weights import read_weights
from support.tiny_models import batch_db, tiny_model

FACTS = RunFacts(
    name="tiny",
    licence="Apache-2.0",
    config_toml="",
    data_location="a",
    data_digest="sha256:00",
    steps=1,
    metrics={},
)
ADDRESS = "http://127.0.0.1:PORT/weights.pth"


@pytest.fixture(scope="module")
def listener():
    """A server on the loopback that refuses everything, and the list of what it was asked."""
    asked = []

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the server's names

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    export_encoder(tiny_model(), folder, FACTS, pool="avg")
    return folder / WEIGHTS_FILE


def rewritten(whole, path, change, tensors=None):
    """A copy of an export with other metadata, and other tensors where given."""
    with safetensors.safe_open(whole, "pt") as file:
        facts = json.loads(file.metadata()["sarmae"])
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    facts = change(facts) or facts
    text = facts if isinstance(facts, str) else json.dumps(facts)
    save_file({**held, **(tensors or {})}, path, metadata={"sarmae": text})
    return path


def asks(**arguments):
    return lambda facts: facts["arguments"].update(arguments)


HOSTILE = {
    "overlay url": asks(pretrained=True, pretrained_cfg_overlay={"url": ADDRESS, "hf_hub_id": None}),
    "overlay hub": asks(pretrained=True, pretrained_cfg_overlay={"hf_hub_id": "evil/model"}),
    "overlay file": asks(pretrained=True, pretrained_cfg_overlay={"file": "/etc/passwd"}),
    "overlay source": asks(pretrained=True, pretrained_cfg_overlay={"source": "url", "url": ADDRESS}),
    "overlay custom load": asks(pretrained=True, pretrained_cfg_overlay={"custom_load": True, "url": ADDRESS}),
    "overlay alone": asks(pretrained_cfg_overlay={"url": ADDRESS}),
    "pretrained": asks(pretrained=True),
    "pretrained_cfg": asks(pretrained=True, pretrained_cfg={"url": ADDRESS, "architecture": "vit_base_patch16_224"}),
    "pretrained_cfg by name": asks(pretrained=True, pretrained_cfg="augreg_in21k"),
    "checkpoint_path": asks(checkpoint_path="/etc/passwd"),
    "cache_dir": asks(pretrained=True, cache_dir="/tmp/elsewhere"),
    "scriptable": asks(scriptable=True),
    "weight_init": asks(weight_init="jax"),
    "block_fn": asks(block_fn="os.system"),
    "num_classes": asks(num_classes=10**9),
    "a list": lambda facts: facts.update(arguments=["pretrained"]),
    "hf-hub:": lambda facts: facts.update(architecture="hf-hub:evil/model"),
    "hf_hub:": lambda facts: facts.update(architecture="hf_hub:evil/model"),
    "local-dir:": lambda facts: facts.update(architecture="local-dir:/etc"),
    "tag": lambda facts: facts.update(architecture="vit_base_patch16_224.augreg_in21k"),
    "another model": lambda facts: facts.update(architecture="vit_giant_patch14_224"),
    "no name": lambda facts: facts.update(architecture=["vit_base_patch16_224"]),
    "depth": asks(depth=10**6),
    "width": asks(embed_dim=10**6),
    "img_size": asks(img_size=10**6),
    "img_size pair": asks(img_size=[10**6, 10**6]),
    "patch_size": asks(patch_size=10**6),
    "in_chans": asks(in_chans=10**6),
    "heads": asks(num_heads=3),
    "no heads": asks(num_heads=0),
    "heads in words": asks(num_heads="4"),
    "pool": asks(global_pool="map"),
    "channels": lambda facts: facts.update(polarisations=["VV"] * 3),
    "polarisations": lambda facts: facts.update(polarisations=[{"a": 1}, 2]),
    "endless mean": lambda facts: facts.update(mean_db=[1e999, 0]),
    "huge mean": lambda facts: facts.update(mean_db=[10**400, 0]),
    "no mean": lambda facts: facts.update(mean_db="VV"),
    "deep": lambda _: "[" * 100_000,
    "long": lambda facts: facts.update(note="x" * 100_000),
    "null": lambda _: "null",
    "broken": lambda _: "{",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_metadata_can_neither_ask_a_server_nor_name_a_path_nor_choose_a_size(
    whole, listener, tmp_path, monkeypatch, kind
):
    port, asked = listener
    for name in ("HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    change = HOSTILE[kind]

    def with_port(facts):
        facts = change(facts) or facts
        return json.loads(json.dumps(facts).replace("PORT", str(port))) if isinstance(facts, dict) else facts

    file = rewritten(whole, tmp_path / "hostile.safetensors", with_port)
    with pytest.raises(CheckpointError, match=r"hostile\.safetensors: its metadata do not say which encoder"):
        load_encoder(file)
    assert asked == []


def test_what_export_writes_still_loads(whole, tmp_path):
    copy = rewritten(whole, tmp_path / "copy.safetensors", lambda facts: facts.update(steps=2))
    model = tiny_model()
    seen, _, _ = batch_db(model.spec)
    with torch.no_grad():
        torch.testing.assert_close(load_encoder(copy)(seen), load_encoder(whole)(seen))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"blocks.{number}.ls": torch.zeros(1) for number in range(2, 3000)}, "3,000 transformer blocks; at most 512"),
        ({"patch_embed.proj.weight": torch.zeros(300_000, 2, 1, 1)}, "do not say which encoder"),
        ({"pos_embed": torch.zeros(1, 1, 32)}, "do not say which encoder"),
        ({"pos_embed": torch.zeros(1, 18, 32)}, "pos_embed is"),
        ({"blocks.7.norm1.weight": torch.zeros(32)}, "do not say which encoder"),
        ({"blocks.0.attn.qkv.weight": torch.zeros(96, 31)}, r"blocks.0.attn.qkv.weight is \(96, 31\)"),
        ({"head.weight": torch.zeros(5, 32)}, "head.weight is unknown"),
    ],
)
def test_tensors_of_another_shape_are_refused_before_a_model_is_made(whole, tmp_path, tensors, message):
    file = rewritten(whole, tmp_path / "other.safetensors", lambda _: None, tensors)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_encoder(file)
    assert "other.safetensors" in str(caught.value)


def test_a_width_that_would_take_all_memory_takes_none(whole, tmp_path):
    """A megabyte of tensors whose width asks for a model of terabytes, metadata in agreement with them."""
    width = 120_000
    tensors = {"patch_embed.proj.weight": torch.zeros(width, 2, 1, 1), "pos_embed": torch.zeros(1, 1 + 4, width)}
    wide = asks(embed_dim=width, patch_size=1, img_size=2)
    file = rewritten(whole, tmp_path / "wide.safetensors", wide, tensors)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="of its tensors are not those of vit_base_patch16_224") as caught:
            load_encoder(file)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
    assert "blocks.0.attn.proj.bias is (32,), the model's (120000,)" in str(caught.value)


# ---- checkpoints of runs and of torch ----


@pytest.mark.parametrize(
    "changed",
    [
        {"depth": 10**6},
        {"decoder_depth": 10**6},
        {"image_px": 8 * 10**6},
        {"width": 4 * 10**6},
        {"decoder_width": 2 * 10**6},
        {"patch_px": 1},
        {"heads": 2.0},
    ],
)
def test_a_run_that_asks_for_a_giant_model_is_refused_before_memory_is_taken(tmp_path, changed):
    model = tiny_model()
    facts = {"config": {}, "spec": {**asdict(model.spec), **changed}}
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    save(tmp_path, Checkpoint(step=4, model=tensors, optimiser={"a": torch.zeros(1)}, facts=facts), keep=1)
    with pytest.raises(CheckpointError, match=r"step 4"):
        load_run_model(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, when the test makes them
@pytest.mark.parametrize("kind", ["view", "meta", "sparse", "complex", "quantised"])
def test_tensors_that_claim_more_than_they_hold_are_refused(tmp_path, kind):
    path = tmp_path / "claims.pth"
    made = {
        "view": lambda: torch.zeros(1).expand(10**6, 10**6),
        "meta": lambda: torch.empty(10**6, 10**6, device="meta"),
        "sparse": lambda: torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), [1.0], (10**6, 10**6)),
        "complex": lambda: torch.zeros(3, dtype=torch.complex64),
        "quantised": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
    }
    torch.save({"pos_embed": made[kind]()}, path)
    with pytest.raises(CheckpointError, match=r"claims\.pth"):
        read_weights(path)


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path):
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save({"pos_embed": torch.zeros(1 << 20)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    assert packed.stat().st_size < plain.stat().st_size / 100
    with pytest.raises(CheckpointError, match=r"packed\.pth: \d+ compressed members"):
        read_weights(packed)


def test_the_listener_hears_what_timm_would_ask(listener, monkeypatch):
    """The guard itself: the same overlay given to timm reaches the server."""
    from sarmae.timm_door import timm  # noqa: PLC0415 - only here

    port, asked = listener
    address = ADDRESS.replace("PORT", str(port))
    with pytest.raises(Exception, match="404"):
        timm.create_model(
            "vit_tiny_patch16_224", pretrained=True, pretrained_cfg_overlay={"url": address, "hf_hub_id": None}
        )
    assert asked == ["/weights.pth"]
    asked.clear()
