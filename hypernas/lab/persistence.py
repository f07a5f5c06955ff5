"""Trained predictors as files: settings, label scale and weights, read without trusting a pickle."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.graph import collate
from hypernas.lab.provenance import version
from hypernas.training.labels import LabelScale
from hypernas.training.training_set import TrainingSet

METHODS = {"hypernas": "HyperNAS", "np": "NeuralPredictor", "ghn": "GHN"}
LEFT_OUT = ("checkpoint", "progress", "device")


def save(predictor: Any, path: str | Path) -> None:
    """Write a trained HyperNAS (or its -P and -H), NP or GHN; the file is whole or not there.

    Raises UserError for another method, one that is not trained, and a place that cannot be written.
    """
    path, kind = Path(path), type(predictor).__name__
    method = next((name for name, of in METHODS.items() if of == kind), None)
    if method is None:
        raise UserError(f"a predictor that can be saved must be one of {', '.join(METHODS.values())}, got {kind}")
    if predictor.model is None or predictor.training_set.space is None:
        raise UserError("a predictor must be trained on architectures of a known space before it is saved")
    settings = {name: value for name, value in predictor.settings().items() if name not in LEFT_OUT}
    told = {"method": method, "space": predictor.training_set.space, "settings": settings, "version": version()}
    content = told | {"scale": asdict(predictor.scale), "weights": predictor.model.state_dict()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        torch.save(content, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path} must be a place that can be written, got {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | Path, device: str = "cpu") -> Any:
    """The predictor that `save` wrote, ready to predict. Raises UserError for a file that is not one, and where its
    images are not here."""
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        space = spaces.get(content["space"])
        predictor = predictors.get(content["method"])(**content["settings"], device=device)
        drawn = space.canonical(space.sample(np.random.default_rng(0)), "contracted")
        with torch.random.fork_rng(devices=[]):
            predictor.model = predictor.new_model(collate([drawn], space))
        predictor.model.load_state_dict(content["weights"])
        predictor.scale = LabelScale(**content["scale"])
        predictor.training_set = TrainingSet(collate([drawn], space, "contracted"), torch.empty(0))
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"a saved predictor must be a file, got {path}: hypernas.save writes one") from error
    except Exception as error:
        raise UserError(f"a saved predictor must be a file of this version, {path} is not: save it again") from error
    predictor.n_parameters = sum(p.numel() for p in predictor.model.parameters())
    return predictor
