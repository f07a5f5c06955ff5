"""The list of data sources, the lookup order, checksums, and arrays read without pickle."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from hypernas.errors import MissingTable, UserError
from hypernas.training.files import toml_beside


@dataclass(frozen=True)
class Source:
    """One data file: its content, where to look for it, and where to get it. Read from sources.toml.

    `files` is its path below `$HYPERNAS_DATA` and below the cache, and for an embedded source also inside the installed
    `distribution`. `size` is in bytes (approximate without a checksum, 0 if unknown). `sha256` is empty if unknown;
    `md5` may then hold the digest or its known beginning. `made_from` names the source from which this one is
    converted, `fetch` the source that `hypernas data fetch` downloads instead. `system` is where an operating-system
    package installs the file, perhaps recompressed. We trust that package and do not compare its checksum.
    """

    name: str
    what: str
    files: str
    licence: str
    url: str = ""
    sha256: str = ""
    md5: str = ""
    size: int = 0
    embedded: bool = False
    distribution: str = ""
    fetch: str = ""
    made_from: str = ""
    system: str = ""
    note: str = ""


@cache
def sources() -> tuple[Source, ...]:
    """Return all known sources, in the order of sources.toml."""
    return tuple(Source(**entry) for entry in toml_beside(__file__, "sources.toml")["source"])


def get_source(name: str) -> Source:
    """Return the source called `name`. Raise UserError, listing the known names, if there is none."""
    known = {source.name: source for source in sources()}
    if name not in known:
        raise UserError(f"source must be one of {', '.join(known)}, got {name!r}")
    return known[name]


def checkout() -> Path | None:
    """Return the folder of the source checkout that contains this module, or None for an installed copy."""
    # hypernas/data/catalogue.py -> the folder that holds the package.
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def shipped() -> Path:
    """Return the folder with the published `data`, `notebooks` and `book`: the checkout, or else the installed copy."""
    return checkout() or Path(__file__).resolve().parents[1] / "shipped"


def cache_directory() -> Path:
    """Return the user cache: `$XDG_CACHE_HOME/hypernas`, by default `~/.cache/hypernas`.

    Users without a home, as in some containers, get a folder among the temporary files.
    """
    folder = folder_of_variable("XDG_CACHE_HOME")
    if folder is None:
        try:
            folder = Path.home() / ".cache"
        except RuntimeError:
            folder = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
    return folder / "hypernas"


def folder_of_variable(name: str) -> Path | None:
    """Return the folder named by an environment variable, with `~` expanded, or None if the variable is not set."""
    value = os.environ.get(name)
    if not value:
        return None
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        rule = f"{name} must name a folder, got {value}, but there is no home for ~"
        raise UserError(f"{rule}: write it whole") from error


def _data_directory() -> Path | None:
    """`$HYPERNAS_DATA`, None where it is not set. Raises UserError where it is no folder."""
    folder = folder_of_variable("HYPERNAS_DATA")
    if folder is not None and not folder.is_dir():
        raise UserError(f"HYPERNAS_DATA must be a folder, got {folder}: create it or unset the variable")
    return folder


def _embedded(source: Source) -> Path | None:
    """The file of an embedded source inside its installed distribution, which is not imported."""
    try:
        return Path(str(metadata.distribution(source.distribution).locate_file(source.files)))
    except metadata.PackageNotFoundError:
        return None


def locate(source: Source) -> tuple[str, Path] | None:
    """Return the first place that has `source`, as (place, path), or None if no place has it.

    Reads no byte of the file.
    """
    folder = _data_directory()
    # What the user points at comes first, so that it can replace what is installed.
    places = [("$HYPERNAS_DATA", folder / source.files)] if folder else []
    places.append(("user cache", cache_directory() / source.files))
    installed = _embedded(source) if source.embedded else None
    if installed:
        places.append((f"package {source.distribution}", installed))
    if source.system:
        places.append(("package of the system", Path(source.system)))
    return next(((place, path) for place, path in places if path.is_file()), None)


def check(
    source: Source,
    path: Path,
    content: bytes | None = None,
) -> None:
    """Compare the checksum of `path`, or of its `content` if already read, with the known one.

    Raise UserError if they differ. Sources without a known checksum and files of the operating system pass.
    """
    # Some official pages state an md5 alone, one of them only its beginning.
    kind, known = ("sha256", source.sha256) if source.sha256 else ("md5", source.md5)
    # A distribution packs its file anew, so its bytes differ from those of the page.
    if not known or str(path) == source.system:
        return
    try:
        if content is None:
            with path.open("rb") as file:
                # In parts, since an official file can have gigabytes.
                digest = hashlib.file_digest(file, kind).hexdigest()
        else:
            digest = hashlib.new(kind, content).hexdigest()
    except OSError as error:
        raise UserError(f"{path} must be readable, got {error.strerror}: check its permissions") from error
    if not digest.startswith(known):
        raise UserError(
            f"the {kind} of {source.name} must be {known}, got {digest} for {path}: the file is truncated or "
            f"altered, so {remedy(source, path)}"
        )


def remedy(source: Source, path: Path | None = None) -> str:
    """Return how to get a good copy of `source`, as the end of a sentence."""
    if source.embedded and (path is None or path == _embedded(source)):
        return f"install its package again: pip install --force-reinstall --no-deps {source.url}"
    place = f"put {source.files} under $HYPERNAS_DATA or {cache_directory()}"
    if path is not None:
        place = f"remove it or replace it with a good copy of {source.files}"
    return f"{place} (`hypernas data list` says where it comes from)"


def find(name: str) -> Path | None:
    """Return the checked file of the source `name`, or None if it is not found.

    The lookup order is `$HYPERNAS_DATA`, the user cache, the installed distribution of an embedded source, and the
    place of an operating-system package. Raise UserError if the name is unknown, or if the first file found has the
    wrong checksum; a bad file is reported, never skipped.
    """
    source = get_source(name)
    found = locate(source)
    if found is None:
        return None
    check(source, found[1])
    return found[1]


def required(name: str, what: str) -> Path:
    """Return the checked file of the source `name`. Raise MissingTable, which says where to put it, without one."""
    path = find(name)
    if path is None:
        raise MissingTable(f"no {what} is present: {remedy(get_source(name))}")
    return path


def status(source: Source) -> str:
    """Return `missing`, `present (place, checksum good | no checksum known)` or `altered (path)`."""
    found = locate(source)
    if found is None:
        return "missing"
    place, path = found
    try:
        check(source, path)
    except UserError:
        return f"altered ({path})"
    compared = (source.sha256 or source.md5) and str(path) != source.system
    return f"present ({place}, {'checksum good' if compared else 'no checksum known'})"


def load_npz(path: str | Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read the arrays called `names` of an npz file, without pickle.

    Raise UserError if the file is missing, truncated or altered, or if an array is missing or contains Python objects.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            return {name: file[name] for name in names}
    except Exception as error:  # a damaged file can raise anything
        raise UserError(
            f"{path} must be a whole npz file of plain arrays, but it is truncated or altered "
            f"({type(error).__name__}): replace it with a good copy"
        ) from error
