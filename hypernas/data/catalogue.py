"""Where data comes from: the list of sources, the lookup order, checksums, arrays read without pickle."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from hypernas.errors import UserError
from hypernas.training.files import toml_beside


@dataclass(frozen=True)
class Source:
    """One data file: what it holds, where it is looked for, where it comes from. Read from sources.toml.

    `files` is its path under `$HYPERNAS_DATA` and under the cache, and for an embedded source inside the
    installed `distribution` too. `size` is in bytes (about, where the checksum is unknown; 0 unknown).
    `sha256` is empty where unknown; `md5` may then hold the digest, or its known beginning. `made_from` names
    the source that a conversion starts from, `fetch` the source that `hypernas data fetch` brings in its place.
    `system` is where a package of the operating system installs the file, perhaps compressed anew: that package
    answers for it, and its checksum is not compared.
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
    """Every known source, in the order of sources.toml."""
    return tuple(Source(**entry) for entry in toml_beside(__file__, "sources.toml")["source"])


def get_source(name: str) -> Source:
    """The source called `name`. Raises UserError with the known names for another."""
    known = {source.name: source for source in sources()}
    if name not in known:
        raise UserError(f"source must be one of {', '.join(known)}, got {name!r}")
    return known[name]


def checkout() -> Path | None:
    """The folder of the source checkout this module lies in, None for an installed copy."""
    # hypernas/data/catalogue.py -> the folder that holds the package.
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def shipped() -> Path:
    """The folder with `data`, `notebooks` and `book` as the project publishes them: the checkout, else the wheel's."""
    return checkout() or Path(__file__).resolve().parents[1] / "shipped"


def cache_directory() -> Path:
    """The user cache: `$XDG_CACHE_HOME/hypernas`, by default `~/.cache/hypernas`.

    Without a home, as in a container whose user has no account, it is in the folder for temporary files.
    """
    folder = folder_of_variable("XDG_CACHE_HOME")
    if folder is None:
        try:
            folder = Path.home() / ".cache"
        except RuntimeError:
            folder = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
    return folder / "hypernas"


def folder_of_variable(name: str) -> Path | None:
    """The folder that an environment variable names, `~` expanded; None where it is not set."""
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
    """The first place that holds `source`, as (place, path); None where none does. Reads no byte of it."""
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
    """Compare the checksum of `path` (or of its `content`, already read) with the known one.

    Raises UserError where they differ. A source without a known checksum passes, and so does a file of the system's.
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
    """What to do to get a good copy of `source`, as the end of a sentence."""
    if source.embedded and (path is None or path == _embedded(source)):
        return f"install its package again: pip install --force-reinstall --no-deps {source.url}"
    place = f"put {source.files} under $HYPERNAS_DATA or {cache_directory()}"
    if path is not None:
        place = f"remove it or replace it with a good copy of {source.files}"
    return f"{place} (`hypernas data list` says where it comes from)"


def find(name: str) -> Path | None:
    """The checked file of the source `name`, None where it is nowhere.

    Looks in `$HYPERNAS_DATA`, then the user cache, then inside the installed distribution of an embedded source, then
    where a package of the system puts it. Raises UserError for an unknown name, and for a file whose checksum is not
    the known one: a bad file is never passed over in silence.
    """
    source = get_source(name)
    found = locate(source)
    if found is None:
        return None
    check(source, found[1])
    return found[1]


def status(source: Source) -> str:
    """One of `missing`, `present (place, checksum good | no checksum known)`, `altered (path)`."""
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


def load_npz(path: str | Path, required: Mapping[str, int | tuple[int | None, ...]]) -> dict[str, np.ndarray]:
    """Read the `required` arrays of an npz file, without pickle.

    `required` gives for each array its number of axes, or its shape with None for any length. Raises
    UserError for a missing, truncated or altered file, a missing array, one of Python objects, a wrong shape.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            arrays = {name: file[name] for name in required if name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"a table must be a file, found none at {path}: see `hypernas data list`") from error
    except Exception as error:  # a damaged file can raise anything
        raise UserError(
            f"{path} must be a whole npz file of plain arrays, but it is truncated or altered "
            f"({type(error).__name__}): replace it with a good copy"
        ) from error
    for name, shape in required.items():
        if name not in arrays:
            raise UserError(f"{path} must hold the array {name!r}, which it lacks: get a good copy")
        _check_shape(path, name, arrays[name], shape)
    return arrays


def _check_shape(
    path: Path,
    name: str,
    array: np.ndarray,
    shape: int | tuple[int | None, ...],
) -> None:
    """Raise UserError where `array` has not the number of axes or the shape asked for."""
    if isinstance(shape, int):
        good, rule = array.ndim == shape, f"{shape} axes"
    else:
        good = array.ndim == len(shape) and all(
            length in (None, n) for length, n in zip(shape, array.shape, strict=True)
        )
        rule = f"shape ({', '.join('any' if length is None else str(length) for length in shape)})"
    if not good:
        raise UserError(
            f"{name} in {path} must have {rule}, got shape {array.shape}: replace the file with a good copy"
        )
