"""Run a notebook with checked parameters: `hypernas run`."""

from __future__ import annotations

import ast
import json
import logging
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile, gettempdir
from typing import IO, Any

from hypernas.errors import UserError
from hypernas.lab.formats import in_words
from hypernas.training.files import is_alive, replaced, short_digest
from hypernas.training.settings import checked, typed

KINDS = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}
PYTHON_KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
# File systems allow 255 bytes; the temporary name and the ending take the rest.
LONGEST_NAME = 200
# Beginning of a folder in which a notebook is executed; the number of its process follows.
SCRATCH = f"hypernas-notebook-{platform.node()}-"
NUMBER = r"-?\d+(?:\.\d+)?"


class NotebookFailed(RuntimeError):
    """A cell of a notebook raised an error, for a `reason`. `notebook` is the text of what ran until then."""

    def __init__(self, reason: str, notebook: str = "") -> None:
        super().__init__(reason, notebook)
        self.reason, self.notebook = reason, notebook

    def __str__(self) -> str:
        return self.reason


def _papermill() -> Any:
    try:
        import papermill
    except ImportError as error:
        raise UserError("running a notebook needs papermill: pip install 'hypernas[book]'") from error
    return papermill


def _kind(declared: str, default: str) -> type | None:
    """Type of a parameter: the annotation where there is one, else the type of the default value."""
    name = declared.split("[")[0].strip()
    if name in KINDS:
        return KINDS[name]
    kind = type(_literal(default))
    return kind if kind in KINDS.values() else None


def _literal(text: str) -> Any:
    """The value of a literal, None for other text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def _in_range(name: str, value: Any, comment: str) -> None:
    """Raise UserError where `value` breaks the range that the parameter's comment opens with.

    `# 2..781, training architectures` is a closed range, `# cifar10 | cifar100` a choice; others say nothing.
    """
    bounds = re.match(rf"({NUMBER})\.\.({NUMBER})", comment)
    if bounds and isinstance(value, int | float) and not float(bounds[1]) <= value <= float(bounds[2]):
        raise UserError(f"{name} must be from {bounds[1]} to {bounds[2]}, got {value}")
    choice = re.match(r"[^\s|,;:]+(?:\s*\|\s*[^\s|,;:]+)+", comment)
    if choice:
        allowed = [word.strip().strip("'\"") for word in choice[0].split("|")]
        if str(value) not in allowed:
            raise UserError(f"{name} must be one of {', '.join(allowed)}, got {value}")


def _read(path: Path) -> Any:
    """A notebook, with Python as its kernel where it names none. Raises UserError for a file that is none."""
    _papermill()
    import nbformat

    if not path.is_file():
        raise UserError(f"the notebook must be a file, {path} is not")
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:
        raise UserError(f"the notebook must be a readable .ipynb file, {path} is not") from error
    notebook.metadata.setdefault("kernelspec", dict(PYTHON_KERNEL))
    return notebook


@dataclass(frozen=True)
class Parameter:
    """A line of a notebook's `parameters` cell: its type (None if unknown), default and comment."""

    name: str
    kind: type | None
    default: Any
    comment: str

    def checked(self, value: Any) -> Any:
        """Return a value of the parameter's type. Raise UserError if it has another type or is out of range."""
        value = typed(self.name, value, self.kind)
        checked(self.name, value)
        _in_range(self.name, value, self.comment)
        return value

    def is_default(self, value: Any) -> bool:
        return repr(value) == repr(self.default)


def parameters_of(path: Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook by name. Raise UserError if the file is not a notebook."""
    notebook = _read(path)
    try:
        known = _papermill().inspect_notebook(notebook)
    except Exception as error:
        raise UserError(f"the notebook must be a readable .ipynb file, {path} is not") from error
    parameters = {}
    for name, line in known.items():
        kind = _kind(line["inferred_type_name"], line["default"])
        parameters[name] = Parameter(name, kind, _literal(line["default"]), line["help"])
    return parameters


def known_parameter(path: Path, known: Mapping[str, Parameter], name: str) -> Parameter:
    """Return the parameter called `name`. Raise UserError, listing the known ones, if there is none."""
    if name not in known:
        raise UserError(f"a parameter of {path.name} must be one of {', '.join(known) or 'none'}, got {name!r}")
    return known[name]


def check_parameters(path: Path, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `chosen` that differ from the notebook's `parameters` cell, with the types of that cell.

    Raise UserError if the cell lacks a name, or if a value has another type or is out of range: the range in the
    parameter's comment, and the rules of `hypernas.training.settings.RULES` for the same names.
    """
    known = parameters_of(path)
    values = {}
    for name, given in chosen.items():
        parameter = known_parameter(path, known, name)
        value = parameter.checked(given)
        if not parameter.is_default(value):
            values[name] = value
    return values


def made(done: Path, section: str) -> dict[str, Any]:
    """Return what an executed notebook says of its making in a section of its metadata; empty if it says nothing."""
    try:
        about = json.loads(done.read_bytes())["metadata"][section]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return about if isinstance(about, dict) else {}


def checked_name(name: str) -> str:
    """Return the name of an executed notebook. Raise UserError if it is a path or not a valid name."""
    if not re.fullmatch(r"[^/\\\0.][^/\\\0]*", name) or len(name.encode()) > LONGEST_NAME:
        rule = f"the name of an executed notebook must be a file name of at most {LONGEST_NAME} bytes without folders"
        raise UserError(f"{rule}, got {name!r}: choose the folder with -o")
    return name


def check_replaces_its_own(done: Path, values: Mapping[str, Any]) -> None:
    """Raise UserError if `done` already exists and was executed with parameters other than `values`."""
    if not done.exists():
        return
    parameters = made(done, "papermill").get("parameters")
    if not isinstance(parameters, dict):
        raise UserError(f"an executed notebook must replace another one, {done} is none: choose --name or -o")
    if parameters != json.loads(json.dumps(values)):
        told = ", ".join(f"{name} {value}" for name, value in parameters.items()) or "no parameters"
        raise UserError(f"{done} was executed with {told}: choose --name or -o, or replace it with --force")


def _is_no_socket_error(record: logging.LogRecord) -> bool:
    return "ZMQError" not in repr(record.exc_info)


@contextmanager
def _without_socket_errors() -> Iterator[None]:
    """Drop what Jupyter's client logs when it is torn down in the middle of a cell: it sends to closed sockets."""
    logger = logging.getLogger("asyncio")
    logger.addFilter(_is_no_socket_error)
    yield
    # An interrupted run never comes here, and its last coroutines are collected when the process ends.
    logger.removeFilter(_is_no_socket_error)


def _kernel_manager(errors: IO[bytes]) -> type:
    """What starts a kernel whose own words on stderr, those of no cell, go to a file."""
    from jupyter_client.manager import AsyncKernelManager

    class KernelManager(AsyncKernelManager):
        def start_kernel(self, **options: Any) -> Any:
            return super().start_kernel(stderr=errors, **options)

    return KernelManager


@contextmanager
def _kernel_manager_class() -> Iterator[type]:
    """A class of kernel managers. What their kernels wrote to stderr follows at the end, unless Ctrl-C ended them:
    then it is of sockets that were closed in the middle of a cell."""
    with TemporaryFile() as errors:
        try:
            yield _kernel_manager(errors)
        except Exception:
            _pass_on(errors)
            raise
        _pass_on(errors)


# Every kernel begins with a warning of this. Ours listen on this machine only, and nobody else is on the line.
USUAL = "Kernel is running over TCP without encryption"


def _pass_on(errors: IO[bytes]) -> None:
    errors.seek(0)
    text = errors.read().decode(errors="replace")
    for line in text.splitlines(keepends=True):
        if USUAL not in line:
            sys.stderr.write(line)


def execute(notebook: Path, source: str, values: Mapping[str, Any], name: str, progress: bool = False) -> str:
    """Execute the text `source` of a notebook under a name. Return what it then is, as text.

    Raise NotebookFailed, with what ran until then, for an error in a cell.
    """
    _remove_scratch_of_the_dead()
    with TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}-") as folder:
        begun, done = Path(folder) / notebook.name, Path(folder) / "executed" / f"{name}.ipynb"
        done.parent.mkdir()
        begun.write_text(source, encoding="utf-8")
        kernel = _read(begun).metadata["kernelspec"]
        try:
            with _without_socket_errors(), _kernel_manager_class() as kernel_manager_class:
                _papermill().execute_notebook(
                    str(begun),
                    str(done),
                    dict(values),
                    progress_bar=progress,
                    kernel_name=kernel["name"],
                    kernel_manager_class=kernel_manager_class,
                    language=kernel.get("language", PYTHON_KERNEL["language"]),
                )
        except Exception as error:
            kind, text = getattr(error, "ename", type(error).__name__), str(getattr(error, "evalue", error))
            raise NotebookFailed(f"{kind}: {text}".splitlines()[0], _executed(done, notebook)) from error
        return _executed(done, notebook)


def _remove_scratch_of_the_dead() -> None:
    """A killed process leaves the folder in which it executed a notebook; the next one on this machine removes it."""
    for folder in Path(gettempdir()).glob(f"{SCRATCH}*-*"):
        number = folder.name.removeprefix(SCRATCH).partition("-")[0]
        if number.isdecimal() and not is_alive(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _executed(done: Path, notebook: Path) -> str:
    """The text of an executed notebook, empty where a full disk left none."""
    try:
        content = json.loads(done.read_bytes())
    except (OSError, ValueError):
        return ""
    # Where papermill found the copy and left the result is nobody's folder.
    about = content["metadata"].get("papermill", {})
    about |= {"input_path": notebook.name, "output_path": done.name}
    if done.stem != notebook.stem:
        # One notebook executed under two names may stand in one book.
        for number, cell in enumerate(content["cells"]):
            cell["id"] = short_digest(f"{done.stem}/{number}", 8)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def cost(done: Path) -> str:
    """Return a sentence that says what is to be run, on what, and for about how long; `done` is its last output."""
    seconds = made(done, "papermill").get("duration")
    duration = f", about {in_words(seconds)} by its last run" if isinstance(seconds, float) else ""
    return f"1 notebook to run in a kernel of this machine{duration}"


def run(
    path: str | Path,
    parameters: Mapping[str, Any],
    folder: str | Path,
    name: str | None = None,
    progress: bool = True,
    force: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Execute a notebook with `parameters` and return `folder/<name>.ipynb`, by default under its own name.

    The file appears once it is done. Raise UserError for wrong parameters and, unless `force`, if the file exists with
    others. Raise NotebookFailed for an error in a cell; what ran until then is kept as `<name>.failed.ipynb`. `tell` is
    called with the expected cost before the notebook starts.
    """
    path, folder = Path(path).expanduser(), Path(folder).expanduser()
    stem = checked_name(path.stem if name is None else name)
    values = check_parameters(path, parameters)
    done, failed = folder / f"{stem}.ipynb", folder / f"{stem}.failed.ipynb"
    if done.resolve() == path.resolve():
        raise UserError(f"the executed notebook must not replace {path}: choose another folder with -o")
    if not force:
        check_replaces_its_own(done, values)
    folder.mkdir(parents=True, exist_ok=True)
    if tell is not None:
        tell(cost(done))
    try:
        write(done, execute(path, path.read_text(encoding="utf-8"), values, stem, progress))
    except NotebookFailed as failure:
        told = f"nothing that ran could be kept in {folder}"
        if failure.notebook:
            write(failed, failure.notebook)
            told = f"what ran is kept as {failed}"
        raise NotebookFailed(f"{path} failed ({failure.reason}); {told}", failure.notebook) from failure
    failed.unlink(missing_ok=True)
    return done
