"""Claims about the official file of NAS-Bench-101: files written here by its definition, and broken in every way."""

import base64
import json

import numpy as np
import official
import pytest

from hypernas.data.conversion import convert, protobuf
from hypernas.data.tfrecord import masked_crc32c, records
from hypernas.errors import UserError


@pytest.fixture
def file(tmp_path):
    """A function that writes payloads as a TFRecord file."""

    def write(payloads, change=lambda content: content):
        path = tmp_path / "official.tfrecord"
        path.write_bytes(change(b"".join(map(official.frame, payloads))))
        return path

    return write


def test_checksums_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    payloads = [rng.bytes(int(n)) for n in rng.integers(0, 60, 50)]
    assert masked_crc32c(payloads).tolist() == [official.masked(payload) for payload in payloads]
    assert official.crc32c(b"123456789") == 0xE3069283
    assert masked_crc32c([]).tolist() == []


def test_records_come_back_in_order_with_their_places(file):
    payloads = [b"a", b"", b"b" * 300]
    path = file(payloads)
    told = []
    assert list(records(path, told.append)) == [(0, b"a"), (17, b""), (33, b"b" * 300)]
    assert sum(told) == path.stat().st_size


def test_batches_join_without_a_seam(file, monkeypatch):
    monkeypatch.setattr("hypernas.data.tfrecord.BATCH", 3)
    payloads = [bytes([i]) * i for i in range(10)]
    assert [payload for _, payload in records(file(payloads))] == payloads


@pytest.mark.parametrize("byte", [0, 7, 9, 12, 30, -1])
def test_a_flipped_byte_anywhere_is_found_and_placed(file, byte):
    def flip(content):
        changed = bytearray(content)
        changed[byte] ^= 4
        return bytes(changed)

    with pytest.raises(UserError, match=r"crc32c, the one at byte \d+ has not: fetch it again"):
        list(records(file([b"first" * 9], flip)))


@pytest.mark.parametrize("left", [3, 11, 15, 30, 55])
def test_a_file_cut_anywhere_is_told(file, left):
    with pytest.raises(UserError, match="cut short: fetch it again"):
        list(records(file([b"only" * 10], lambda content: content[:left])))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        list(records(tmp_path / "none"))


def test_fields_of_a_message_come_by_number():
    message = official.metrics(108, 1000.0, 9000, 8000, 32_426_634)
    fields = protobuf(message)
    assert fields[2] == [32_426_634]
    assert [protobuf(part)[1][0] for part in fields[1]] == [0, 54, 108]
    assert protobuf(fields[1][2])[6] == [b"ckpt"]
    for end in set(range(1, len(message))) - _ends(message):
        with pytest.raises(ValueError, match="cut short"):
            protobuf(message[:end])


def _ends(message):
    """Where a cut leaves whole fields."""
    ends, i = {0}, 0
    while i < len(message):
        size = {0x0A: 2 + message[i + 1], 0x10: 2, 0x19: 9}[message[i]]
        if message[i] == 0x10:
            size = 1 + len(official.varint(protobuf(message)[2][0]))
        i += size
        ends.add(i)
    return ends


@pytest.mark.parametrize("epochs", [(108,), (4, 12, 36, 108)])
def test_every_number_of_the_official_file_arrives(file, tmp_path, epochs):
    payloads, expected = official.modules(20, epochs)
    order = np.random.default_rng(1).permutation(len(payloads))
    path = tmp_path / "table.npz"
    assert convert(file([payloads[i] for i in order]), path) == 0
    table = dict(np.load(path))
    assert [bytes(name).hex() for name in table["module_hash"]] == sorted(expected)
    for i, name in enumerate(sorted(expected)):
        matrix, ops, parameters, runs = expected[name]
        n = len(matrix)
        assert table["n_vertices"][i] == n
        for y in range(n):
            for x in range(y):
                assert table["adj_bits"][i] >> (x + y * (y - 1) // 2) & 1 == matrix[x, y]
        kinds = ["conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"]
        assert table["ops"][i].tolist() == [kinds.index(op) for op in ops] + [255] * (7 - n)
        assert table["trainable_parameters"][i] == parameters
        assert table["test_correct_sum3"][i] == sum(test for _, _, test in runs[108])
        assert sorted(table["val_correct_108"][i]) == sorted(validation for _, validation, _ in runs[108])
        first = next(json.loads(payloads[j]) for j in order if json.loads(payloads[j])[:2] == [name, 108])
        position = [json.loads(payload) for payload in payloads if json.loads(payload)[:2] == [name, 108]].index(first)
        assert table["val_correct"][i, 3] == runs[108][position][1]
        assert table["val_train_time_108"][i] == np.float32(runs[108][position][0])
        assert (table["val_correct"][i, :3] > 0).all() == (len(epochs) == 4)
    assert table["val_index"].tolist() == list(range(20))


def test_a_repeated_record_counts_once(file, tmp_path):
    payloads, _ = official.modules(3)
    convert(file(payloads), tmp_path / "once.npz")
    assert convert(file([*payloads, payloads[4], payloads[0]]), tmp_path / "twice.npz") == 2
    once, twice = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("once", "twice"))
    assert all((once[name] == twice[name]).all() for name in once)


def encoded(*run):
    """The base64 of a ModelMetrics message."""
    return json.loads(official.row("00", 108, [[0]], ["x"], *run))[4]


def parameters(payload):
    return protobuf(base64.b64decode(json.loads(payload)[4]))[2][0]


def change(payload, position, value):
    parts = json.loads(payload)
    parts[position] = value
    return json.dumps(parts).encode()


BAD = {
    "1 of 2 modules have fewer than 3 runs": lambda p: p[:-1],
    "0 of 0 modules have fewer": lambda p: [],
    "more than 3 runs of 108 epochs": lambda p: [*p, change(p[0], 4, encoded(1.0, 2, 3, parameters(p[0])))],
    "described in two ways": lambda p: [*p[:-1], change(p[-1], 4, encoded(1.0, 2, 3, 4))],
    "not upper triangular": lambda p: [change(p[0], 2, "1" * len(json.loads(p[0])[2])), *p[1:]],
    "does not fit the operations": lambda p: [change(p[0], 2, "011"), *p[1:]],
    "operation must be one of": lambda p: [change(change(p[0], 2, "010001000"), 3, "input,conv9x9,output"), *p[1:]],
    "epochs must be one of": lambda p: [change(p[0], 1, 7), *p[1:]],
    "cut short": lambda p: [change(p[0], 4, "CgU="), *p[1:]],
    "base64": lambda p: [change(p[0], 4, "!!!"), *p[1:]],
    "Expecting value": lambda p: [b"no json", *p[1:]],
    "no share of 9,984 images": lambda p: [change(p[0], 4, encoded(1.0, 0.5, 3, 4)), *p[1:]],
}


@pytest.mark.parametrize("damage", BAD)
def test_a_record_that_is_whole_but_wrong_is_one_sentence_and_no_table(file, tmp_path, damage):
    payloads, _ = official.modules(2, seed=5)
    with pytest.raises(UserError, match="must hold three runs of every module") as caught:
        convert(file(BAD[damage](payloads)), tmp_path / "table.npz")
    assert damage in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["official.tfrecord"]


def test_a_full_disk_leaves_no_table(file, tmp_path, monkeypatch):
    def full(stream, **_):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(UserError, match="No space left on device: free space and repeat the command"):
        convert(file(official.modules(2)[0]), tmp_path / "table.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["official.tfrecord"]
