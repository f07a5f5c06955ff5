"""Writes files in the format of the official NAS-Bench-101 release, slowly and by its definition."""

import base64
import json
import struct

import numpy as np

RUNS = 3


def crc32c(data):
    """Bit by bit, by the definition of the polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(payload):
    """One record as TFRecord frames it."""
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked(length)) + payload + struct.pack("<I", masked(payload))


def varint(value):
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def evaluation(epoch, seconds, train, validation, test):
    """An EvaluationData message, with the checkpoint path that the reader has no use for."""
    doubles = (epoch, seconds, train, validation, test)
    fields = b"".join(bytes([number << 3 | 1]) + struct.pack("<d", x) for number, x in enumerate(doubles, 1))
    return fields + bytes([6 << 3 | 2, 4]) + b"ckpt"


def metrics(epochs, seconds, validation, test, parameters):
    """A ModelMetrics message with evaluations at the beginning, halfway and at the end."""
    parts = [evaluation(0, 0, 0.1, 0.1, 0.1), evaluation(epochs / 2, seconds / 2, 0.5, 0.5, 0.5)]
    parts.append(evaluation(epochs, seconds, 0.99, validation / 9984, test / 9984))
    message = b"".join(bytes([0x0A]) + varint(len(part)) + part for part in parts)
    return message + b"\x10" + varint(parameters) + b"\x19" + struct.pack("<d", seconds * 1.1)


def row(name, epochs, matrix, ops, *run):
    """The payload of one record: seconds, validation, test, parameters of one run."""
    text = "".join(str(int(x)) for line in matrix for x in line)
    return json.dumps([name, epochs, text, ",".join(ops), base64.b64encode(metrics(epochs, *run)).decode()]).encode()


def modules(n, epochs=(108,), seed=0):
    """Payloads of `n` modules in no order, and what each must give: hash -> (matrix, ops, parameters, runs)."""
    rng = np.random.default_rng(seed)
    payloads, expected = [], {}
    for _ in range(n):
        size = int(rng.integers(2, 8))
        matrix = np.triu(rng.integers(2, size=(size, size)), 1)
        ops = rng.choice(["conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"], size - 2).tolist()
        name, parameters = rng.bytes(16).hex(), int(rng.integers(2e5, 5e7))
        runs = {
            e: [(float(rng.random() * 3000), *rng.integers(9985, size=2).tolist()) for _ in range(RUNS)] for e in epochs
        }
        expected[name] = (matrix, ops, parameters, runs)
        names = ["input", *ops, "output"]
        payloads += [row(name, e, matrix, names, *run, parameters) for e in epochs for run in runs[e]]
    return payloads, expected
