"""`hypernas data fetch`: download into the user cache, resume interrupted downloads, verify, convert."""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from hypernas.data.catalogue import Source, cache_directory, check, get_source, locate, sources
from hypernas.data.conversion import convert
from hypernas.errors import UserError

# Connections that are tried before a download is given up; each goes on where the one before ended.
ATTEMPTS = 5
# Bytes read at a time, 1 MB: often enough for the bar to move, seldom enough to cost nothing.
PART = 1 << 20
# Without a byte for so long a server is taken for gone.
TIMEOUT_SECONDS = 60


def fetchable() -> list[str]:
    """Return the names that `fetch` accepts: files with an address and a checksum, and tables converted from them."""
    return [source.name for source in sources() if source.fetch or source.made_from or _downloadable(source)]


def _downloadable(source: Source) -> bool:
    # A beginning of an md5 cannot prove that a download is whole.
    digest = source.sha256 or (source.md5 if len(source.md5) == 32 else "")
    return source.url.startswith("http") and source.url.endswith(Path(source.files).name) and bool(digest)


def fetch(
    name: str,
    origin: str = "",
    keep: bool = False,
    progress: bool = True,
) -> Path:
    """Return the file of the source `name`, after downloading and converting it if necessary.

    `origin` names another official file to convert from, and `keep` keeps the official file after the conversion. Raise
    UserError for an unknown name, an interrupted download (the part received is kept), a wrong checksum or a full disk.
    """
    source = get_source(name)
    source = get_source(source.fetch) if source.fetch else source
    if origin and not (
        source.made_from and origin in fetchable() and Path(get_source(origin).files).suffix == ".tfrecord"
    ):
        raise UserError(f"--from must name an official file that {name} can be made of, got {origin!r}")
    if not source.made_from and not _downloadable(source):
        raise UserError(f"a source to fetch must be one of {', '.join(fetchable())}, got {name!r}")
    target = cache_directory() / source.files
    with _alone(target):
        if target.is_file():
            check(source, target)
            return target
        if not source.made_from:
            return download(source, target, progress)
        official = get_source(origin or source.made_from)
        present = locate(official)
        path = present[1] if present else download(official, cache_directory() / official.files, progress)
        if present:
            check(official, path)
        with _bar("converting", path.stat().st_size, 0, progress) as bar:
            convert(path, target, bar.update)
        if not present and not keep:
            path.unlink()
    return target


def _alone(target: Path) -> FileLock:
    """A lock that lets a second command wait for the first."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target.parent} must be a folder to write to, got {error.strerror}") from error
    return FileLock(target.with_name(f".{target.name}.lock"))


def _bar(
    what: str,
    total: int | None,
    done: int,
    progress: bool,
) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, initial=done, unit="B", unit_scale=True, desc=what, disable=not progress)


def download(
    source: Source,
    path: Path,
    progress: bool = True,
) -> Path:
    """Download `source` to `path` via `<path>.part`, from which an interrupted download resumes."""
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(path.parent).free
    if source.size - done > free:
        rule = f"{source.name} needs {source.size - done:,} bytes under {path.parent}"
        raise UserError(f"{rule}, got {free:,} free: free space or point XDG_CACHE_HOME elsewhere")
    told = "nothing"
    for _ in range(ATTEMPTS):
        try:
            if _receive(source.url, part, progress):
                return _accept(source, part, path)
            told = "the connection was closed early"
        except urllib.error.HTTPError as error:
            with error:
                told = f"status {error.code} {error.reason}"
            # A missing or forbidden file stays so; only the server's own troubles pass.
            if error.code < 500:
                break
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            told = str(getattr(error, "reason", "") or error) or type(error).__name__
        except OSError as error:
            raise _not_written(error, part) from error
    done = part.stat().st_size if part.exists() else 0
    raise UserError(
        f"the download of {source.name} from {source.url} must be whole, it stopped after {done:,} bytes ({told}): "
        "repeat the command, it goes on from there"
    )


def _receive(
    url: str,
    part: Path,
    progress: bool,
) -> bool:
    """Append what the server sends to `part`, from its end where the server can; True where everything has come."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        # "Range not satisfiable": there is nothing after what has come, so it is whole.
        if error.code == 416 and done:
            error.close()
            return True
        raise
    with answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        # A server that ignores the range sends the file from its beginning.
        done = done if resumed else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file, _bar(Path(part.stem).name, total, done, progress) as bar:
            _copy(answer.read, file.write, bar.update)
    return total is None or part.stat().st_size >= total


def _copy(
    read: Callable[[int], bytes],
    write: Callable[[bytes], object],
    update: Callable[[int], object],
) -> None:
    while content := read(PART):
        write(content)
        update(len(content))


def _accept(
    source: Source,
    part: Path,
    path: Path,
) -> Path:
    """Give the whole download its name, if its checksum is the known one; else remove it."""
    try:
        check(source, part)
    except UserError as error:
        part.unlink()
        raise UserError(f"{error}; the download was removed, repeat the command") from error
    os.replace(part, path)
    return path


def _not_written(error: OSError, part: Path) -> UserError:
    """The sentence for a write that failed; on a full disk the part is removed too."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        part.unlink(missing_ok=True)
        return UserError(f"{part.parent} must have room for the download, the disk is full: free space and repeat")
    return UserError(f"{part} must be writable, got {error.strerror}: check its permissions")
