"""Claims about what ran before: a training gives the same bits whatever its process has seen."""

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.fast import program_table
from hypernas.graph import collate
from hypernas.training.loop import Checkpoint

SIZES = ("channels", "cells_per_stage", "stem_stride", "images")
SMALL = {"n_layers": 1, "width": 8, "hyper_width": 8, "image_batch": 4, "accumulate": 3}


def sampled(name, n, seed):
    space, rng = spaces.get(name), np.random.default_rng(seed)
    return collate([space.canonical(space.sample(rng)) for _ in range(n)], space)


def fitted(name, epochs=2, **settings):
    """A small HyperNAS on six architectures of a space."""
    own = {key: value for key, value in spaces.get(name).defaults.items() if key in SIZES}
    method = predictors.get("hypernas")(epochs=epochs, **SMALL, **own, **settings)
    return method.fit(sampled(name, 6, 100), torch.linspace(88, 94, 6))


def forget():
    """As a new process: no program has been seen."""
    program_table.program_arrays.cache_clear()
    program_table.keys.clear()
    program_table.numbers.clear()


def see_others(name):
    """Plan other networks first, the largest before the small ones."""
    forget()
    for graphs in (sampled(name, 5, 7), sampled("darts", 2, 7), sampled("mobilenetv3", 2, 7)):
        size = {key: value for key, value in graphs.space.defaults.items() if key in SIZES[:3]}
        for i in reversed(range(len(graphs))):
            program_table.program_arrays(graphs.space.build(graphs.architecture(i), **size))


def same_bits(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201", "darts", "mobilenetv3"])
def test_a_training_has_the_same_bits_whatever_the_process_has_seen(name):
    forget()
    alone = fitted(name)
    see_others(name)
    later = fitted(name)
    assert same_bits(alone, later)
    test = sampled(name, 5, 200)
    assert torch.equal(alone.predict(test), later.predict(test))


def test_a_training_that_was_killed_goes_on_with_the_same_bits(tmp_path):
    """The process that resumes it has seen other networks, the one that was stopped had not."""
    forget()
    straight = fitted("nasbench101", 4)
    forget()
    checkpoint = Checkpoint(tmp_path / "half.pt")

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted("nasbench101", 4, checkpoint=checkpoint, progress=stop)
    see_others("nasbench101")
    resumed = fitted("nasbench101", 4, checkpoint=checkpoint)
    assert len(resumed.history) == 4
    assert same_bits(straight, resumed)
