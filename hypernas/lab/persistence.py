"""Save trained predictors to files, and read them without trusting them.

A saved predictor is one safetensors file. Its tensors are the training set, `graphs.ops` to `graphs.sequence` and
`accuracy`, and the weights, `weights.<name>`. Predictors without weights are fitted to the training set again. The
metadata are `hypernas`, a JSON object with the fields of `FIELDS`, and `digest`, the SHA-256 of that text and of all
tensors.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hypernas import predictors, spaces
from hypernas.canonical import GRAPH_FORMS
from hypernas.errors import UserError
from hypernas.graph import TENSORS, GraphBatch
from hypernas.lab.provenance import version
from hypernas.spaces.base import SearchSpace
from hypernas.training.files import replaced
from hypernas.training.labels import LabelScale
from hypernas.training.predictor import FittedPredictor
from hypernas.training.training_set import TrainingSet

FORMAT = 1
# Settings that files of earlier versions have, with the values that mean what is done today.
RETIRED: dict[str, tuple[Any, ...]] = {"recompute": (False, True), "regressor": ("both",)}
FIELDS = {
    "format": int,
    "method": str,
    "settings": dict,
    "space": str,
    "ops": list,
    "graph_form": str,
    "source": str,
    "scale": dict,
    "history": list,
    "version": str,
}
# A space of choices is in the file, all others are known by their name.
OPTIONAL = {"choices": dict}
GRAPHS, WEIGHTS = "graphs.", "weights."
# What belongs to a run of `fit`, not to the predictor.
LEFT_OUT = ("checkpoint", "progress", "device")
# So many architectures of the training set are predicted again from the file before `save` is done.
COMPARED = 8
ZIP = b"PK\x03\x04"
DTYPES = {"adjacency": torch.uint8, "mask": torch.bool}


def save(predictor: Any, path: str | Path) -> None:
    """Write a fitted predictor of any registered method to a file, either completely or not at all.

    Raise UserError if it is not fitted or has no name, or if the file cannot be written.
    """
    path = _path(path)
    data = _content(predictor)
    space = predictor.training_set.graphs.space
    try:
        with replaced(path) as temporary:
            temporary.write_bytes(data)
            _compare(predictor, load(temporary, getattr(predictor, "device", "cpu"), space))
    except OSError as error:
        raise UserError(f"{path} must be a place that can be written, got {error.strerror or error}") from error


def load(
    path: str | Path,
    device: str = "cpu",
    space: SearchSpace | str | Path | None = None,
) -> Any:
    """Return the predictor written by `save`, ready to predict.

    `space` is its search space or the file of one, by default the registered space with the name in the file. Raise
    UserError for any other file, for a file of which a single bit has changed, and if its method, space or images are
    not available.
    """
    path = _path(path)
    told, tensors = _read(path)
    space = _space(path, told) if space is None else spaces.get(space)
    if [*space.ops] != told["ops"] or space.name != told["space"]:
        rule = f"{path} must be of the space {space.name} with the operations {', '.join(space.ops)}"
        operations = ", ".join(map(str, told["ops"]))
        raise UserError(f"{rule}, got {told['space']} with {operations}")
    training_set = TrainingSet(_graphs(path, tensors, told, space), tensors["accuracy"])
    method = predictors.get(told["method"])
    settings = {name: value for name, value in told["settings"].items() if value not in RETIRED.get(name, ())}
    accepted = inspect.signature(method).parameters
    unknown = sorted({*settings} - {*accepted})
    if unknown:
        raise UserError(f"a setting of {told['method']} must be one that it has, got {unknown[0]!r} in {path}")
    if "device" in accepted:
        settings = settings | {"device": device}
    predictor = method(**settings)
    weights = {}
    for name, tensor in tensors.items():
        if name.startswith(WEIGHTS):
            weights[name.removeprefix(WEIGHTS)] = tensor
    predictor.restore(training_set, _scale(path, told["scale"]), weights)
    predictor.history = told["history"]
    return predictor


def space_of(path: str | Path) -> SearchSpace:
    """Return the search space of a saved predictor. Raise UserError if no space with its name is available."""
    return _space(_path(path), _read(_path(path))[0])


def _space(path: Path, told: dict[str, Any]) -> SearchSpace:
    return spaces.restored(told["space"], told.get("choices"), str(path), "give its file, --space FILE or space=")


def _path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"a saved predictor must be named by its path, got {path!r}")
    return Path(path).expanduser()


def _content(predictor: Any) -> bytes:
    """What is written: the bytes of the whole file."""
    if not isinstance(predictor, FittedPredictor):
        raise UserError(f"a predictor that can be saved must be a FittedPredictor, got {type(predictor).__name__}")
    known = predictor.training_set
    if predictor.model is None or known is None or known.space is None:
        raise UserError("a predictor must be fitted to architectures of a known space before it is saved")
    told = {
        "format": FORMAT,
        "method": _method(predictor),
        "settings": _plain(predictor.settings()),
        "space": known.space,
        "ops": [*known.graphs.space.ops],
        "graph_form": known.graphs.graph_form,
        "source": known.graphs.source,
        "scale": asdict(predictor.scale),
        "history": predictor.history,
        "version": version(),
    }
    if choices := known.graphs.space.written():
        told["choices"] = choices
    tensors = {"accuracy": known.accuracy}
    for name, tensor in zip(TENSORS, known.graphs.tensors(), strict=True):
        tensors[GRAPHS + name] = tensor
    for name, tensor in predictor.weights().items():
        tensors[WEIGHTS + name] = tensor
    for name, tensor in tensors.items():
        # A copy, since safetensors refuses tensors that share their memory.
        tensors[name] = tensor.detach().cpu().clone().contiguous()
    text = json.dumps(told)
    return safetensors.torch.save(tensors, {"hypernas": text, "digest": _digest(text, tensors)})


def _method(predictor: FittedPredictor) -> str:
    """The registered name of a predictor; of several the one whose own settings it has."""
    settings, best = predictor.settings(), ""
    for name in predictors.names():
        own = getattr(predictors.get(name), "keywords", {})
        if predictors.class_of(name) is type(predictor) and own.items() <= settings.items():
            # `pinat-bce` says more than a name that fixes no setting.
            best = name if own or not best else best
    if not best:
        rule = f"a predictor that can be saved must be of a registered method ({', '.join(predictors.names())})"
        raise UserError(f"{rule}, got {type(predictor).__name__}")
    return best


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back. Raises UserError for one that it would change."""
    plain = {}
    for name, value in settings.items():
        if name not in LEFT_OUT:
            plain[name] = value.item() if isinstance(value, np.generic) else value
            if not isinstance(plain[name], str | int | float | bool | None):
                raise UserError(f"a setting must be a number, text or a truth value to be saved, got {name}={value!r}")
    return plain


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        header = f"{name} {tensor.dtype} {tuple(tensor.shape)}"
        content = tensor.reshape(-1).view(torch.uint8).numpy()
        digest.update(header.encode() + content.tobytes())
    return digest.hexdigest()


def _compare(predictor: FittedPredictor, loaded: FittedPredictor) -> None:
    """Raise UserError where what was read back from a file predicts something else."""
    assert predictor.training_set is not None
    some = predictor.training_set.graphs[:COMPARED]
    # Above the last bits, in which one library's sums may differ from run to run, and below what a ranking sees.
    if not torch.allclose(predictor.predict(some), loaded.predict(some), rtol=1e-4):
        raise UserError("a saved predictor must predict as before, the file read back does not; nothing is saved")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON object and the tensors of a file, whose bits are those that were written."""
    refused = f"a saved predictor must be a file that hypernas.save wrote, {path} is not or is damaged"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"a saved predictor must be a file, got {path}: hypernas.save writes one") from error
    except OSError as error:
        raise UserError(f"a saved predictor must be a file that can be read, got {path}: {error.strerror}") from error
    if data.startswith(ZIP):
        raise UserError(f"a saved predictor must be of version 0.2 or later, {path} is older: fit and save it again")
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise UserError(f"{refused}: fit and save it again") from error
    # Eight bytes of length and a JSON object, which the line above has checked.
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.get("__metadata__", {})
    text = metadata.get("hypernas", "")
    if metadata.get("digest") != _digest(text, tensors):
        raise UserError(f"{refused}: fit and save it again")
    told = json.loads(text)
    kinds = {name: type(value) for name, value in told.items()} if isinstance(told, dict) else {}
    if OPTIONAL | kinds != OPTIONAL | FIELDS:
        raise UserError(f"{refused}: fit and save it again")
    if told["format"] != FORMAT:
        raise UserError(f"{path} must be of format {FORMAT}, got {told['format']}: use the version that saved it")
    return told, tensors


def _graphs(
    path: Path,
    tensors: dict[str, Tensor],
    told: dict[str, Any],
    space: SearchSpace,
) -> GraphBatch:
    """The training graphs of a file. Raises UserError for tensors that are none."""
    refused = UserError(f"{path} must hold the training set of its predictor, got other tensors: fit and save it again")
    parts = {name: tensors.get(GRAPHS + name, torch.empty(0)) for name in TENSORS}
    accuracy = tensors.get("accuracy", torch.empty(0))
    if parts["ops"].ndim != 3 or parts["sequence"].ndim != 2 or told["graph_form"] not in ("", *GRAPH_FORMS):
        raise refused
    b, u, n = parts["ops"].shape
    c = parts["sequence"].shape[1]
    shapes = {"ops": (b, u, n), "adjacency": (b, u, n, n), "mask": (b, u, n), "kind": (b, u), "sequence": (b, c)}
    for name, part in parts.items():
        if part.shape != shapes[name] or part.dtype != DTYPES.get(name, torch.int64):
            raise refused
    if accuracy.shape != (b,) or accuracy.dtype != torch.float64 or 0 in (b, u, n, c):
        raise refused
    ops, sequence = parts["ops"], parts["sequence"]
    if ops.min() < 0 or ops.max() >= len(space.ops) or sequence.min() < -1 or sequence.max() >= u:
        raise refused
    return GraphBatch(**parts, space=space, graph_form=told["graph_form"], source=told["source"])


def _scale(path: Path, told: dict[str, Any]) -> LabelScale:
    names = ("floor", "mean", "std")
    if {*told} != {*names} or not all(isinstance(value, float) for value in told.values()):
        raise UserError(f"{path} must hold the label scale as {', '.join(names)}, got {told}: fit and save it again")
    return LabelScale(**told)
