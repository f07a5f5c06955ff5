"""Claims about the official file of NAS-Bench-101: files written here by its definition."""

import json

import numpy as np
import official
import pytest

from hypernas.data.conversion import convert, protobuf
from hypernas.errors import UserError


@pytest.fixture
def file(tmp_path):
    """A function that writes payloads as a TFRecord file."""

    def write(payloads, change=lambda content: content):
        path = tmp_path / "official.tfrecord"
        path.write_bytes(change(b"".join(map(official.frame, payloads))))
        return path

    return write


def test_fields_of_a_message_come_by_number():
    message = official.metrics(108, 1000.0, 9000, 8000, 32_426_634)
    fields = protobuf(message)
    assert fields[2] == [32_426_634]
    assert [protobuf(part)[1][0] for part in fields[1]] == [0, 54, 108]
    assert protobuf(fields[1][2])[6] == [b"ckpt"]


@pytest.mark.parametrize("epochs", [(108,), (4, 12, 36, 108)])
def test_every_number_of_the_official_file_arrives(file, tmp_path, epochs):
    payloads, expected = official.modules(20, epochs)
    order = np.random.default_rng(1).permutation(len(payloads))
    path = tmp_path / "table.npz"
    convert(file([payloads[i] for i in order]), path)
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
        first = next(json.loads(payloads[j]) for j in order if json.loads(payloads[j])[:2] == [name, 108])
        position = [json.loads(payload) for payload in payloads if json.loads(payload)[:2] == [name, 108]].index(first)
        assert table["val_correct"][i, -1] == runs[108][position][1]
    assert table["val_index"].tolist() == list(range(20))


def test_a_repeated_record_counts_once(file, tmp_path):
    payloads, _ = official.modules(3)
    convert(file(payloads), tmp_path / "once.npz")
    convert(file([*payloads, payloads[4], payloads[0]]), tmp_path / "twice.npz")
    once, twice = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("once", "twice"))
    assert all((once[name] == twice[name]).all() for name in once)


def test_a_full_disk_leaves_no_table(file, tmp_path, monkeypatch):
    def full(stream, **_):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(UserError, match="No space left on device: free space and repeat the command"):
        convert(file(official.modules(2)[0]), tmp_path / "table.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["official.tfrecord"]
