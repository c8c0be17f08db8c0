"""The evidence store: bit-exact, content-addressed, written whole or not at all, safe to read whatever is in a file."""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import multiprocessing
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmark.errors import EvidenceError
from benchmark.evidence import files
from benchmark.evidence import store as evidence
from benchmark.evidence.store import FORMAT, EvidenceStore, pack, unpack

RNG = np.random.default_rng(0)


def examples(m=5, shape=(1, 4, 4)):
    return np.arange(m, dtype=np.int64), RNG.random((m, *shape), dtype=np.float32)


@pytest.fixture
def store(tmp_path):
    return EvidenceStore(tmp_path / "artifacts")


# Bit-exact ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.uint32,
        hnp.array_shapes(min_dims=4, max_dims=4, min_side=0, max_side=5),
        elements=st.integers(0, 2**32 - 1),
    )
)
def test_every_bit_of_every_float_comes_back(bits):
    # All bit patterns: NaNs with payloads, negative zeros, subnormals.
    adversarials = bits.view(np.float32)
    indices = np.arange(len(bits), dtype=np.int64) * 3
    found_indices, found = unpack(pack(indices, adversarials))
    assert np.array_equal(found_indices, indices)
    assert found.shape == bits.shape
    assert np.array_equal(found.view(np.uint32), bits)


def test_a_file_is_named_by_the_digest_of_its_bytes(store, tmp_path):
    indices, adversarials = examples()
    stored = store.put(indices, adversarials)
    path = Path(store.where(stored.digest))
    data = path.read_bytes()
    assert path == tmp_path / "artifacts" / stored.digest[:2] / f"{stored.digest}.safetensors"
    assert hashlib.sha256(data).hexdigest() == stored.digest
    assert (stored.bytes, stored.samples) == (len(data), 5)


def test_equal_content_is_one_file(store):
    indices, adversarials = examples()
    assert store.put(indices, adversarials) == store.put(indices.copy(), adversarials.copy())
    assert len(list(store.digests())) == 1


def test_the_documented_format_is_readable_without_this_package():
    # What docs/evidence.md says.
    indices, adversarials = examples(3, (2, 5, 7))
    tensors = safetensors.numpy.load(pack(indices, adversarials))
    floats = np.frombuffer(lzma.decompress(tensors["packed"].tobytes()), "<f4").reshape(tensors["shape"])
    assert np.array_equal(floats, adversarials)
    assert np.array_equal(tensors["indices"], indices)


def test_evidence_of_images_is_small():
    # Examples of an linf attack have few distinct values: x, x ± eps, 0, 1. Even plain noise loses its exponents.
    images = RNG.integers(0, 17, (100, 1, 8, 8)).astype(np.float32) / 16
    moved = np.clip(images + RNG.choice([-0.1, 0.1], images.shape), 0, 1).astype(np.float32)
    indices = np.arange(100, dtype=np.int64)
    assert len(pack(indices, moved)) < moved.nbytes / 3
    noise = RNG.random(images.shape, dtype=np.float32)
    assert len(pack(indices, noise)) < 0.9 * noise.nbytes


def test_importing_the_store_does_not_import_torch():
    code = "import sys, benchmark.evidence.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# What cannot be stored ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("indices", "shape", "dtype", "message"),
    [
        ([0, 1], (2, 1, 4, 4), np.float64, "float32 of shape"),
        ([0, 1], (2, 16), np.float32, "float32 of shape"),
        ([0], (2, 1, 4, 4), np.float32, r"int64 of shape \(2,\)"),
        ([0, 0], (2, 1, 4, 4), np.float32, "at most once"),
        ([-1, 0], (2, 1, 4, 4), np.float32, "none negative"),
    ],
)
def test_only_examples_with_their_indices_are_stored(store, indices, shape, dtype, message):
    with pytest.raises(EvidenceError, match=message):
        store.put(np.array(indices, dtype=np.int64), np.zeros(shape, dtype=dtype))
    assert list(store.list()) == []


# Damage ------------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_said(store):
    with pytest.raises(EvidenceError, match="is missing"):
        store.get("0" * 64)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_what_is_no_digest_names_no_file(store, digest):
    with pytest.raises(EvidenceError, match="no evidence digest"):
        store.get(digest)


def test_a_flipped_bit_is_found_before_anything_is_parsed(store, monkeypatch):
    stored = store.put(*examples())
    path = Path(store.where(stored.digest))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(evidence, "unpack", lambda data: pytest.fail("parsed"))
    with pytest.raises(EvidenceError, match="is damaged"):
        store.get(stored.digest)


def test_storing_again_repairs_a_damaged_file(store):
    indices, adversarials = examples()
    stored = store.put(indices, adversarials)
    Path(store.where(stored.digest)).write_bytes(b"damage")
    store.put(indices, adversarials)
    assert np.array_equal(store.get(stored.digest)[1], adversarials)


# Writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "curveboard gc"), (errno.EROFS, "write permission"), (errno.EIO, "Check the disk")],
)
@pytest.mark.parametrize("call", ["fsync", "fdopen"])
def test_a_failed_write_says_what_to_do_and_leaves_nothing(store, monkeypatch, call, number, advice):
    indices, adversarials = examples()

    def fail(*_args):
        raise OSError(number, errno.errorcode[number])

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(EvidenceError, match=advice):
        store.put(indices, adversarials)
    assert list(store.list()) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EvidenceError, match="cannot be written"):
        EvidenceStore(tmp_path / "file").put(*examples())


def _write_many(folder):
    store = EvidenceStore(folder)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        store.put(np.arange(3, dtype=np.int64), rng.random((3, 1, 4, 4), dtype=np.float32))


def test_concurrent_writers_do_not_disturb_each_other(store, tmp_path):
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    writers = [context.Process(target=_write_many, args=(tmp_path / "artifacts",)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    digests = list(store.digests())
    assert len(digests) == 20
    assert all(len(store.get(digest)[0]) == 3 for digest in digests)
    assert all(file.digest for file in store.list())


# Hostile files -----------------------------------------------------------------------------------------------------


def saved(**tensors):
    return safetensors.numpy.save(tensors, metadata={"format": FORMAT})


def claims(shape, packed):
    return saved(
        indices=np.arange(shape[0] if 0 <= shape[0] < 100 else 1, dtype=np.int64),
        shape=np.array(shape, dtype=np.int64),
        packed=np.frombuffer(packed, dtype=np.uint8),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95",  # a pickle
        struct.pack("<Q", 10 << 30) + b"{}",  # a header of 10 GB
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 200)
        + json.dumps({"a": {"dtype": "U8", "shape": [1 << 60], "data_offsets": [0, 4]}}).encode(),
        saved(indices=np.zeros(1, dtype=np.int64)),
        saved(indices=np.zeros(1), shape=np.ones(4, dtype=np.int64), packed=np.zeros(1, dtype=np.uint8)),
    ],
)
def test_what_is_no_evidence_file_is_refused(data):
    with pytest.raises(EvidenceError, match="not an evidence file"):
        unpack(data)


@pytest.mark.parametrize("shape", [(1, 1 << 40, 1, 1), (1, 1, -4, 4), (1, 4, 4), (3 << 60, 3, 3, 3)])
def test_impossible_shapes_are_refused_before_memory_is_taken(shape):
    with pytest.raises(EvidenceError, match="states the shape"):
        unpack(claims(shape, lzma.compress(b"")))


@pytest.mark.parametrize(
    "packed",
    [
        lzma.compress(b"\0" * 100_000_000),  # a bomb: 15 kB that unpack to 100 MB
        lzma.compress(b"\0" * 63),
        lzma.compress(b"\0" * 64) + b"more",
        lzma.compress(b"\0" * 64)[:-1],
        b"garbage",
    ],
)
def test_only_exactly_the_bytes_of_the_shape_are_unpacked(packed):
    with pytest.raises(EvidenceError, match="unpack"):
        unpack(claims((1, 1, 4, 4), packed))
