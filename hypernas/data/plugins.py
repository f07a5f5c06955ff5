"""How spaces, predictors and proxies are found: in files of the package, files of the user, and entry points.

A file provides its content under one agreed name, such as `space = MySpace()` or `METHODS = {"mine": Mine}`. Files are
looked up in the package's own folder, then in `$HYPERNAS_PLUGINS` (files and folders, separated as in `$PATH`), then
among the entry points that installed packages declare.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from hypernas.errors import UserError
from hypernas.training.files import short_digest

VARIABLE = "HYPERNAS_PLUGINS"


@dataclass(eq=False)
class Registry:
    """Things that are found by name: `what` they are called in sentences, our `package`, the `provides` name in a file.

    If a file assigns a dictionary to `provides`, its literal keys are the names; otherwise the name of the file is the
    name. `accept(name, thing)` returns the thing, or raises UserError if it is not valid.
    """

    what: str
    package: str
    provides: str
    accept: Callable[[str, Any], Any] = lambda name, thing: thing
    objects: dict[str, Any] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Return all names in alphabetical order, without importing any file."""
        return sorted({*self._files(), *_entry_points(self.package), *self.objects})

    def get(self, name: Any) -> Any:
        """Return the thing called `name`, or the one provided by the file at the path `name`.

        Raise UserError if the name is unknown, or if the file cannot be imported or provides something else.
        """
        if isinstance(name, Path) or (isinstance(name, str) and name.endswith(".py")):
            return self._from_path(Path(name))
        if not isinstance(name, str):
            raise UserError(f"{self.what} must be a name or a path, got {name!r:.80}")
        files = self._files()
        if name in files:
            return self.accept(name, self._provided(files[name], name))
        if name in (declared := _entry_points(self.package)):
            return self.accept(name, _loaded_entry_point(declared[name]))
        if name in self.objects:
            return self.objects[name]
        raise UserError(f"{self.what} must be one of {', '.join(self.names())}, got {name!r}")

    def add(self, name: str, thing: Any) -> None:
        """Register an object of this process under a name; files with that name take precedence."""
        if name not in self._files():
            self.objects[name] = thing

    def _from_path(self, path: Path) -> Any:
        path = path.expanduser().resolve()
        if not path.is_file():
            raise UserError(f"a path to a {self.what} must be a Python file, found none at {path}")
        declared = _declared(path, self.provides)
        if len(declared) != 1:
            rule = f"a file for a {self.what} must provide exactly one as `{self.provides}`"
            raise UserError(f"{rule}, got {len(declared)} in {path}")
        # Worker processes inherit the variable, so that they find by its name what was given by its path.
        places = [place for place in os.environ.get(VARIABLE, "").split(os.pathsep) if place]
        if path not in _plugin_files(os.environ.get(VARIABLE, "")):
            os.environ[VARIABLE] = os.pathsep.join([*places, str(path)])
        return self.get(declared[0])

    def _files(self) -> dict[str, Path]:
        """The file that provides each name. Raises UserError where two files provide the same one."""
        variable = os.environ.get(VARIABLE, "")
        if not variable:
            return self._own_files
        files = dict(self._own_files)
        for path in _plugin_files(variable):
            for name in _declared(path, self.provides):
                if files.setdefault(name, path) != path:
                    places = f"{files[name]} and {path}"
                    raise UserError(f"a {self.what} must have a name of its own, {name!r} is in {places}: rename one")
        return files

    @cached_property
    def _own_files(self) -> dict[str, Path]:
        """The files of the package, which do not change while it runs: looking a name up costs nothing."""
        files: dict[str, Path] = {}
        for path in _python_files(Path(importlib.import_module(self.package).__path__[0])):
            files |= dict.fromkeys(_declared(path, self.provides), path)
        return files

    def _provided(self, path: Path, name: str) -> Any:
        value = getattr(_imported(path, self.package), self.provides)
        return value[name] if isinstance(value, dict) else value


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    """What installed packages declare; to ask costs 20 ms, and they do not change while this process runs."""
    return {entry.name: entry for entry in entry_points(group=group)}


def _python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if path.stem.isidentifier() and path.stem != "__init__")


def _plugin_files(variable: str) -> list[Path]:
    """The Python files that `$HYPERNAS_PLUGINS` names. Raises UserError for a place that does not exist."""
    files: list[Path] = []
    for place in filter(None, variable.split(os.pathsep)):
        path = Path(place).expanduser().resolve()
        if not path.exists():
            raise UserError(f"{VARIABLE} must list files and folders that exist, got {place}: create it or take it out")
        files += _python_files(path) if path.is_dir() else [path]
    return files


def _declared(path: Path, provides: str) -> list[str]:
    """The names that a file provides, read without importing it; a file that cannot be parsed provides its own name."""
    return _declared_in(path, provides, path.stat().st_mtime_ns)


@cache
def _declared_in(path: Path, provides: str, modified: int) -> list[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if f"{provides} =" not in text and f"{provides}:" not in text:
        return []
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return [path.stem]  # the sentence about it comes when it is asked for
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if provides not in names:
            continue
        if isinstance(node.value, ast.Dict):
            return [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]
        return [path.stem]
    return []


def _imported(path: Path, package: str) -> ModuleType:
    """The module of a file: of `package` for one of ours, else under a name made of its path."""
    if path.parent == Path(importlib.import_module(package).__path__[0]):
        return importlib.import_module(f"{package}.{path.stem}")
    name = f"hypernas_plugin_{path.stem}_{short_digest(str(path), 8)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a file of the user can raise anything
        del sys.modules[name]
        if isinstance(error, UserError):
            raise UserError(f"{error} (in {path})") from error
        raise UserError(f"{path} must be a file that imports, got {_told(error)}") from error
    return module


def _loaded_entry_point(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # a package of others can raise anything
        rule = f"the entry point {entry.name} of {entry.group} must import"
        raise UserError(f"{rule}, got {_told(error)}") from error


def _told(error: Exception) -> str:
    """The kind and the words of an error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
