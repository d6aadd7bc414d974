"""The teacher cache against the live teacher, and what happens when it is killed, damaged or another's."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sar1m.store.errors import ConfigError, StoreError
from sarmae.config import PretrainConfig
from sarmae.sarc import cache_writer as cache_module
from sarmae.sarc import open_anchors
from sarmae.sarc.anchors import LiveAnchors, rgb_positions
from sarmae.sarc.cache_writer import write_cache
from sarmae.sarc.compression import fit_basis
from sarmae.sarc.feature_cache import FeatureWriter, TeacherFacts, write_teacher
from sarmae.sarc.frozen_encoders import FrozenTeacher, PatchTrunk
from sarmae.sarc.teachers import IMAGENET_MEAN, IMAGENET_STD
from sarmae.stream.batch import Batch
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import CropFlip, LoaderSettings
from sarmae.stream.order.specification import StoreShare
from sarmae.stream.transforms import Augmented, Dequantise, Geometry, crop_flip
from sarmae.timm_door import timm
from support.small_stores import small_store

CPU = torch.device("cpu")


class Notes(list):
    note = list.append


def config_for(*stores, cache=None, teacher="linear_patch", weights=None, **sections):
    return PretrainConfig.model_validate(
        {
            "data": {"stores": [str(store) for store in stores], "threads": 0, "crop_px": 32},
            "sarc": {"teacher": teacher, "cache": cache and str(cache), "weights": weights and str(weights)},
            "train": {"device": "cpu"},
            **sections,
        }
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"), samples=11, side=64)


@pytest.fixture(scope="module")
def cache(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("cache") / "linear"
    write_cache(config_for(store.root), out, Notes())
    return out


@pytest.fixture
def own_cache(store, tmp_path):
    """A cache to spoil, and the folder of the store's features in it."""
    write_cache(config_for(store.root), tmp_path / "own", Notes())
    return tmp_path / "own", tmp_path / "own" / digest_of(store)


def digest_of(store):
    return ShardLoader([store.root], LoaderSettings(global_batch=1)).order.spec.stores[0].digest


def open_prepared(config, *, rows=11):
    """Anchors as the trainer opens them, with its loader."""
    anchors = open_anchors(config, CPU)
    how = LoaderSettings(global_batch=rows, threads=0, optical=anchors.needs_optical)
    loader = ShardLoader(config.data.stores, how)
    anchors.prepare(loader.optical, loader.order.spec.stores)
    return anchors, loader


def cut(loader, *, flips=False, size_px=32):
    batch = next(iter(loader))
    made = crop_flip(batch, CropFlip(crop_px=size_px, flip_rows=flips, flip_cols=flips), seed=1)
    return batch, replace(made, batch=Dequantise(loader.sar, loader.optical)(made.batch))


# ---- the same target ----


def test_cached_features_are_the_live_ones_to_their_eight_bits(store, cache):
    """linear_patch sees each patch alone, so a slice of the stored image's features is exact but for rounding."""
    live, live_loader = open_prepared(config_for(store.root))
    cached, cached_loader = open_prepared(config_for(store.root, cache=cache))
    batch, seen = cut(live_loader)
    expected, found = live(seen), cached(cut(cached_loader)[1])
    assert cached_loader.optical is None
    assert (seen.geometry.rows_px > 0).any()
    paired = batch.paired
    assert 0 < paired.sum() < len(paired)
    assert found.shape == expected.shape == (11, 4, 256)
    assert cached.width == live.width == 256
    error = (found - expected)[paired]
    assert error.abs().max() < 0.05 * expected[paired].std()
    assert torch.cosine_similarity(found[paired], expected[paired], dim=-1).min() > 0.9995
    assert found.isfinite().all()
    assert expected.isfinite().all()


def test_a_flipped_crop_gets_the_flipped_grid(store, cache):
    anchors, loader = open_prepared(config_for(store.root, cache=cache))
    batch = next(iter(loader))
    zeros, ones = torch.zeros(11, dtype=torch.int64), torch.ones(11, dtype=torch.bool)
    plain = Geometry(rows_px=zeros + 16, cols_px=zeros + 32, flipped_rows=~ones, flipped_cols=~ones, size_px=32)
    as_stored = anchors(Augmented(batch=batch, geometry=plain)).view(11, 2, 2, 256)
    whole = Geometry(rows_px=zeros, cols_px=zeros, flipped_rows=~ones, flipped_cols=~ones, size_px=64)
    assert torch.equal(as_stored, anchors(Augmented(batch=batch, geometry=whole)).view(11, 4, 4, 256)[:, 1:3, 2:4])
    for flipped, axis in (("flipped_rows", 1), ("flipped_cols", 2)):
        turned = anchors(Augmented(batch=batch, geometry=replace(plain, **{flipped: ones}))).view(11, 2, 2, 256)
        assert torch.equal(turned, as_stored.flip(axis))


def test_a_batch_of_the_loader_beside_the_augmented_one_changes_nothing(store, cache):
    for place in (None, cache):
        anchors, loader = open_prepared(config_for(store.root, cache=place))
        batch, seen = cut(loader, flips=True)
        assert torch.equal(anchors(seen, batch), anchors(seen))


def test_coding_keeps_direction_and_mean():
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(3000, 40, generator=generator) @ torch.randn(40, 300, generator=generator)
    features = spread + 0.1 * torch.randn(3000, 300, generator=generator) + 30 * torch.randn(300, generator=generator)
    fit = fit_basis(features)
    assert (fit.basis.kept, fit.basis.width) == (256, 300)
    exact = np.linalg.eigvalsh(np.cov(features.double().numpy().T, bias=True))[::-1]
    assert fit.variance_kept == pytest.approx(exact[:256].sum() / exact.sum(), abs=1e-6)
    decoded = fit.basis.decode(fit.basis.encode(features))
    assert torch.cosine_similarity(decoded, features).min() > 0.9999
    centred = features - features.mean(dim=0)
    assert torch.cosine_similarity(decoded - features.mean(dim=0), centred).min() > 0.99
    assert (fit.basis.encode(features).abs().amax(dim=0) == 127).all()
    assert fit.basis.encode(features * 100).abs().max() == 127  # clipped, not wrapped around


# ---- bands ----


def test_stores_of_other_band_order_give_the_same_features(store):
    teacher = FrozenTeacher(PatchTrunk(8, seed=0), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    _, loader = open_prepared(config_for(store.root))
    batch, seen = cut(loader)
    anchors, turned = LiveAnchors(teacher), LiveAnchors(teacher)
    anchors.prepare(loader.optical, ())
    turned.prepare(replace(loader.optical, labels=("B02", "B03", "B04")), ())
    bgr = replace(seen, batch=replace(seen.batch, optical=seen.batch.optical.flip(1)))
    assert torch.equal(anchors(seen), turned(bgr))
    assert not torch.equal(anchors(seen), anchors(bgr))
    direct = teacher(seen.batch.optical[batch.paired])
    torch.testing.assert_close(anchors(seen)[batch.paired], direct)


def test_bands_are_taken_by_name_or_refused():
    assert rgb_positions(("B02", "B03", "B04", "B08")) == (2, 1, 0)
    assert rgb_positions(("R", "G", "B")) == (0, 1, 2)
    with pytest.raises(ConfigError, match="bands are B08, B11, B12; red, green and blue are expected"):
        rgb_positions(("B08", "B11", "B12"))


# ---- killed, damaged ----


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("moment", ["before the index", "within an entry", "after a batch", "before the end"])
def test_a_killed_write_goes_on_to_the_same_bytes(store, cache, tmp_path, monkeypatch, moment):
    monkeypatch.setattr(cache_module, "BATCH", 3)
    whole = FeatureWriter.append

    def killed(self, codes):
        if self.done == 3 and moment != "before the end":
            if moment != "after a batch":
                self._features.write(codes.tobytes()[:-1] if moment == "within an entry" else codes.tobytes())
                self._index.write(b"\1" * (5 if moment == "within an entry" else 0))
            raise KeyboardInterrupt
        whole(self, codes)

    def killed_at_last(self, store, location):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(FeatureWriter, "append", killed)
        patched.setattr(FeatureWriter, "finish", killed_at_last)
        with pytest.raises(KeyboardInterrupt):
            write_cache(config_for(store.root), tmp_path / "out", Notes())
    with pytest.raises(ConfigError, match=r"are unfinished\. Run sarmae cache-teacher"):
        open_prepared(config_for(store.root, cache=tmp_path / "out"))
    notes = Notes()
    write_cache(config_for(store.root), tmp_path / "out", notes)
    assert contents(tmp_path / "out") == contents(cache)
    done = 8 if moment == "before the end" else 3
    assert any(f"going on at sample {done} of 8" in note for note in notes)


def test_two_writers_at_once_are_refused(tmp_path):
    keys = np.arange(3)
    with FeatureWriter(tmp_path, 16, keys), pytest.raises(ConfigError, match="another process is writing"):
        FeatureWriter(tmp_path, 16, keys)
    with FeatureWriter(tmp_path, 16, keys) as writer:  # the first has let go
        writer.append(np.ones((2, 1, 16), dtype=np.int8))
    with pytest.raises(StoreError, match="lists other samples than the store has"):
        FeatureWriter(tmp_path, 16, keys + 1)


def test_a_flipped_bit_in_features_names_the_sample(store, own_cache):
    path = own_cache[1] / "features.i8"
    content = bytearray(path.read_bytes())
    content[2 * 16 * 256 + 77] ^= 4  # of the third paired sample
    path.write_bytes(content)
    anchors, loader = open_prepared(config_for(store.root, cache=own_cache[0]))
    key = store.keys[store.paired][2]
    with pytest.raises(StoreError, match=rf"features\.i8: the features of sample {key} are damaged"):
        anchors(cut(loader)[1])


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("features.i8", lambda content: content[:-1], r"features\.i8: 32767 bytes, expected 32768"),
        ("features.i8", lambda content: None, r"features\.i8: cannot be read"),
        ("index.bin", lambda content: b"x" + content[1:], r"index\.bin: damaged"),
        ("index.bin", lambda content: None, r"index\.bin: cannot be read"),
        ("COMPLETE.json", lambda content: content.replace(b"8,", b"7,", 1), r"COMPLETE\.json: damaged"),
        ("COMPLETE.json", lambda content: b"[]", r"COMPLETE\.json: damaged"),
        ("../teacher.json", lambda content: content.replace(b"256", b"128", 1), r"teacher\.json: damaged"),
        ("../teacher.json", lambda content: content[:50], r"teacher\.json: is not JSON"),
        ("../basis.safetensors", lambda content: content[:-1] + b"x", r"basis\.safetensors: damaged"),
        ("../basis.safetensors", lambda content: None, r"basis\.safetensors: cannot be read"),
    ],
)
def test_a_damaged_file_is_named(store, own_cache, name, spoil, said):
    path = own_cache[1] / name
    spoilt = spoil(path.read_bytes())
    path.unlink() if spoilt is None else path.write_bytes(spoilt)
    with pytest.raises(StoreError, match=said):
        open_prepared(config_for(store.root, cache=own_cache[0]))


# ---- another store, teacher or alignment ----


def test_a_store_the_cache_knows_nothing_of_is_refused_by_name(cache, tmp_path):
    other = small_store(tmp_path / "other", samples=7, side=64)
    with pytest.raises(ConfigError) as caught:
        open_prepared(config_for(other.root, cache=cache), rows=7)
    for part in (str(other.root), digest_of(other)[:16], "not in it, but of", "cache-teacher"):
        assert part in str(caught.value)


def test_a_store_added_later_leaves_the_first_as_it_was(store, own_cache, tmp_path):
    other = small_store(tmp_path / "other", samples=7, side=64)
    before = contents(own_cache[0])
    write_cache(config_for(store.root, other.root), own_cache[0], Notes())
    after = contents(own_cache[0])
    assert before.items() <= after.items()
    assert len(after) == len(before) + 3
    with pytest.raises(ConfigError, match="are in two of the stores"):  # small stores share their sample ids
        open_prepared(config_for(store.root, other.root, cache=own_cache[0]))


def test_another_teacher_or_alignment_is_refused(store, cache, tmp_path):
    weights = tmp_path / "resnet18.pth"
    torch.save(timm.create_model("resnet18").state_dict(), weights)
    with pytest.raises(ConfigError, match=r"holds features of linear_patch, sarc\.teacher is dinov3_base"):
        open_anchors(config_for(store.root, cache=cache, teacher="dinov3_base"), CPU)
    with pytest.raises(ConfigError, match="asked for are timm:resnet18"):
        write_cache(config_for(store.root, teacher="timm:resnet18", weights=weights), cache, Notes())
    config = config_for(store.root, cache=cache)
    ragged = config.model_copy(update={"data": config.data.model_copy(update={"align": False})})
    with pytest.raises(ConfigError, match=r"data\.align is off"):
        open_anchors(ragged, CPU)
    with pytest.raises(ConfigError, match=r"patches of 16 px, model\.patch_px is 8"):
        open_anchors(config_for(store.root, model={"patch_px": 8}), CPU)


def test_other_weights_are_refused(store, own_cache):
    path = own_cache[0] / "teacher.json"
    record = json.loads(path.read_text())
    record["weights_sha256"] = "0" * 64
    record.pop("own_sha256")
    own = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**record, "own_sha256": own}))
    with pytest.raises(ConfigError, match=r"weights with sha256 0000000000000000\.\.\., those given"):
        open_anchors(config_for(store.root, cache=own_cache[0]), CPU)


def test_nothing_to_look_at_is_said(store, tmp_path):
    alone = small_store(tmp_path / "alone", samples=4, side=64, unpaired=range(4))
    with pytest.raises(ConfigError, match="no paired sample in"):
        write_cache(config_for(alone.root), tmp_path / "out", Notes())
    with pytest.raises(ConfigError, match=r"sarc\.teacher is none"):
        write_cache(config_for(store.root, teacher="none"), tmp_path / "out", Notes())
    with pytest.raises(ConfigError, match="no store to look at"):
        write_cache(config_for(), tmp_path / "out", Notes())
    ragged = small_store(tmp_path / "ragged", samples=4, side=24)
    with pytest.raises(ConfigError, match=r"\(24, 24\)\] px; one side for all, a multiple of 16"):
        write_cache(config_for(ragged.root), tmp_path / "out", Notes())
    with pytest.raises(ConfigError, match=r"holds no teacher\.json. Write it: sarmae cache-teacher"):
        open_anchors(config_for(store.root, cache=tmp_path / "out"), CPU)
    assert open_anchors(config_for(store.root, teacher="none"), CPU) is None
    live = open_anchors(config_for(store.root), CPU)
    with pytest.raises(ConfigError, match=r"x have none\. Train on stores with pairs"):
        live.prepare(None, [StoreShare(name="x", digest="d", size=1)])


def test_features_are_gathered_from_several_stores_and_a_missing_one_is_named(tmp_path):
    """By sample key, whatever order keys and stores come in."""
    keys = {"a": np.array([50, 10, 30]), "b": np.array([20, 40])}
    features = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(1))
    basis = fit_basis(features.flatten(0, 1)).basis
    facts = TeacherFacts(
        teacher="dinov3_small",
        weights_sha256="-",
        patch_px=32,
        width=8,
        components=8,
        variance_kept=1.0,
        fitted_samples=5,
    )
    write_teacher(tmp_path, facts, basis)
    by_key = dict(zip([50, 10, 30, 20, 40], basis.encode(features), strict=True))
    for digest, own in keys.items():
        with FeatureWriter(tmp_path / digest, facts.sample_bytes, own) as writer:
            writer.append(np.stack([by_key[key].numpy() for key in own]))
            writer.finish(digest, digest)
    anchors = open_anchors(config_for(cache=tmp_path, teacher="dinov3_small"), CPU)
    anchors.prepare(None, [StoreShare(name=digest, digest=digest, size=1) for digest in ("b", "a")])

    def ask(ids, paired):
        count = len(ids)
        zeros, never = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
        empty = torch.zeros((count, 1, 32, 32))
        batch = Batch(
            sar=empty,
            optical=None,
            paired=torch.tensor(paired),
            id=torch.tensor(ids),
            enl=torch.zeros(count),
            epoch=0,
            step=0,
        )
        geometry = Geometry(rows_px=zeros, cols_px=zeros, flipped_rows=never, flipped_cols=never, size_px=32)
        return anchors(Augmented(batch=batch, geometry=geometry))

    found = ask([30, 77, 20, 50], [True, False, True, True])
    for row, key in ((0, 30), (2, 20), (3, 50)):
        torch.testing.assert_close(found[row], basis.decode(by_key[key]))
    assert found.isfinite().all()
    with pytest.raises(StoreError, match=r"no features of the paired sample 77 \(1 of this batch"):
        ask([30, 77], [True, True])


def test_the_cache_says_how_large_it_is(cache, store):
    record = json.loads((cache / "teacher.json").read_text())
    assert (record["patch_px"], record["width"], record["components"], record["fitted_samples"]) == (64, 256, 256, 8)
    complete = json.loads(next(Path(cache).glob("*/COMPLETE.json")).read_text())
    assert (complete["samples"], complete["store"]) == (8, digest_of(store))
