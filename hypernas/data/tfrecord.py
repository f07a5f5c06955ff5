"""Read the records of a TFRecord file without TensorFlow, including framing and checksums.

A record consists of its length (8 bytes, little-endian), the masked crc32c of these 8 bytes, the payload, and the
payload's masked crc32c (4 bytes each).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hypernas.errors import UserError

# Records checked at once: the checksum of many goes byte by byte through NumPy, that of one would be slow.
BATCH = 2048
# Bytes, more than any official record has: a longer one has a damaged length, and no memory is asked for it.
LONGEST = 1 << 16
# Eight bytes of length and four of its checksum.
HEADER = struct.Struct("<QI")
# Where it begins in the file, and its payload.
Record = tuple[int, bytes]


@cache
def _table() -> np.ndarray:
    """crc32c (Castagnoli, reflected) of every byte: uint32 (256,)."""
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = (crc >> np.uint32(1)) ^ np.where(crc & np.uint32(1), np.uint32(0x82F63B78), np.uint32(0))
    return crc


def masked_crc32c(payloads: list[bytes]) -> np.ndarray:
    """Return the masked crc32c of each payload, uint32 (R,).

    All payloads are processed in parallel, aligned at their ends.

    >>> hex(masked_crc32c([b"123456789"])[0])
    '0xc78ab0e5'
    """
    table, longest = _table(), max(map(len, payloads), default=0)
    # Aligned at their ends, all payloads end together, and a shorter one just starts later.
    data = np.frombuffer(b"".join(payload.rjust(longest, b"\0") for payload in payloads), np.uint8)
    columns = np.ascontiguousarray(data.reshape(len(payloads), longest).T)
    start = longest - np.array([len(payload) for payload in payloads])
    crc = np.full(len(payloads), 0xFFFFFFFF, np.uint32)
    for t, column in enumerate(columns):
        after = table[(crc & np.uint32(0xFF)) ^ column] ^ (crc >> np.uint32(8))
        crc = after if t >= start.max() else np.where(t >= start, after, crc)
    # The standard inverts the register, and TFRecord rotates and shifts what comes out ("masking").
    crc = ~crc
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


def records(path: Path, progress: Callable[[int], object] = lambda n: None) -> Iterator[Record]:
    """Yield the (position in bytes, payload) of each record after checking its crc32c.

    At most 2,048 records are in memory. `progress` is called with the number of bytes of each part. Raise UserError if
    the file is missing, truncated or altered.
    """
    try:
        with path.open("rb") as file:
            position = 0
            while batch := _batch(file, path, position):
                yield from batch
                progress(file.tell() - position)
                position = file.tell()
    except OSError as error:
        raise UserError(f"{path} must be readable, got {error.strerror}: check the path and its permissions") from error


def _batch(
    file: BinaryIO,
    path: Path,
    position: int,
) -> list[Record]:
    """The next records, as many as a batch takes, checked all at once."""
    found: list[Record] = []
    stated: list[int] = []
    for _ in range(BATCH):
        header = file.read(HEADER.size)
        if not header:
            break
        length = _length(header, path, position)
        payload, crc = file.read(length), file.read(4)
        if len(payload) < length or len(crc) < 4:
            raise _cut(path, position)
        found.append((position, payload))
        stated.append(int.from_bytes(crc, "little"))
        position += HEADER.size + length + 4
    wrong = np.flatnonzero(masked_crc32c([payload for _, payload in found]) != np.array(stated, np.uint32))
    if len(wrong):
        raise _altered(path, found[wrong[0]][0])
    return found


def _length(
    header: bytes,
    path: Path,
    position: int,
) -> int:
    if len(header) < HEADER.size:
        raise _cut(path, position)
    length, crc = HEADER.unpack(header)
    if _crc_of_length(header[:8]) != crc or length > LONGEST:
        raise _altered(path, position)
    return length


@cache
def _crc_of_length(length: bytes) -> int:
    return int(masked_crc32c([length])[0])


def _cut(path: Path, position: int) -> UserError:
    return UserError(f"{path} must end with a whole record, the one at byte {position:,} is cut short: fetch it again")


def _altered(path: Path, position: int) -> UserError:
    return UserError(
        f"every record of {path} must have its crc32c, the one at byte {position:,} has not: fetch it again"
    )
