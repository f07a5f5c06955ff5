"""Run a notebook with checked parameters: `hypernas run`."""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypernas.errors import UserError
from hypernas.training.settings import checked, typed

KINDS = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}
NUMBER = r"-?\d+(?:\.\d+)?"


class NotebookFailed(RuntimeError):
    """A cell of a notebook raised an error; the sentence names the file that was kept."""


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


def check_parameters(path: Path, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What of `chosen` differs from the notebook's `parameters` cell, with the types of that cell.

    Raises UserError for a name that the cell does not have, a value of another type, and one out of range:
    the range in the parameter's comment, and the rules of `hypernas.training.settings.RULES` under the same names.
    """
    if not path.is_file():
        raise UserError(f"the notebook must be a file, {path} is not")
    try:
        known = _papermill().inspect_notebook(str(path))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the notebook must be a readable .ipynb file, {path} is not") from error
    values = {}
    for name, value in chosen.items():
        if name not in known:
            raise UserError(f"a parameter of {path.name} must be one of {', '.join(known) or 'none'}, got {name!r}")
        value = typed(name, value, _kind(known[name]["inferred_type_name"], known[name]["default"]))
        checked(name, value)
        _in_range(name, value, known[name]["help"])
        if repr(value) != repr(_literal(known[name]["default"])):
            values[name] = value
    return values


def _rename_cells(path: Path, name: str) -> None:
    """Give the cells ids of their own: one notebook executed under two names may stand in one book."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = hashlib.sha256(f"{name}/{number}".encode()).hexdigest()[:8]
    nbformat.write(notebook, path)


def run(
    path: str | Path,
    parameters: Mapping[str, Any],
    folder: str | Path,
    name: str | None = None,
    progress: bool = True,
) -> Path:
    """Execute a notebook with `parameters` -> `folder/<name>.ipynb`, by default under its own name.

    The file appears when it is done. Raises UserError for wrong parameters, and NotebookFailed for an error
    in a cell; what ran until then is kept as `<name>.failed.ipynb`.
    """
    path, folder = Path(path), Path(folder)
    values = check_parameters(path, parameters)
    stem = name or path.stem
    done, failed = folder / f"{stem}.ipynb", folder / f"{stem}.failed.ipynb"
    if done.resolve() == path.resolve():
        raise UserError(f"the executed notebook must not replace {path}: choose another folder with -o")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{stem}.{os.getpid()}.ipynb"
    try:
        _papermill().execute_notebook(str(path), str(temporary), values, progress_bar=progress)
    except Exception as error:
        kind, text = getattr(error, "ename", type(error).__name__), str(getattr(error, "evalue", error))
        reason = f"{kind}: {text}".splitlines()[0]
        if not temporary.exists():
            raise NotebookFailed(f"{path} failed before its first cell ({reason})") from error
        os.replace(temporary, failed)
        raise NotebookFailed(f"{path} failed ({reason}); what ran is kept as {failed}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if stem != path.stem:
        _rename_cells(temporary, stem)
    os.replace(temporary, done)
    failed.unlink(missing_ok=True)
    return done
