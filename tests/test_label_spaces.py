"""Claims about `hypernas label` for the spaces of whole networks: small ones of each train side by side."""

import pytest
from click.testing import CliRunner

from hypernas import cli, spaces
from hypernas.errors import UserError
from hypernas.lab import labelling
from hypernas.lab.labelling import Labelling, sample_distinct, train_group

# The sizes of the committed tables.
SIZES = {
    "darts": {"channels": 4, "cells_per_stage": 1, "stem_stride": 2},
    "mobilenetv3": {"channels": 4, "cells_per_stage": 4, "stem_stride": 1},
    "vit": {"channels": 15, "cells_per_stage": 16, "stem_stride": 3, "learning_rate": 3e-3},
}


@pytest.mark.parametrize("space", SIZES)
def test_two_networks_of_the_space_train_beside_each_other(space):
    recipe = Labelling(space, epochs=1, seeds=1, batch=32, n_validation=1405, **SIZES[space])
    notations = sample_distinct(spaces.get(space), 2)
    records = train_group(recipe, notations)
    assert [record["notation"] for record in records] == notations
    assert all(0 <= record["test"][0] <= 100 for record in records)
    assert len({record["parameters"] for record in records}) == 2


def test_the_command_s_options_reach_the_recipe(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(labelling, "label", lambda recipe, path, *_: asked.append(recipe) or path)
    words = "label --space vit --n 300 --epochs 3 --channels 15 --cells-per-stage 16 --stem-stride 3".split()
    words += ["--learning-rate", "3e-3", "--out", str(tmp_path / "vit.parquet")]
    assert CliRunner().invoke(cli.main, words).output.strip() == str(tmp_path / "vit.parquet")
    assert asked == [Labelling("vit", n=300, epochs=3, **SIZES["vit"])]


@pytest.mark.parametrize("rate", [0.0, float("nan"), float("inf")])
def test_a_rate_that_is_no_rate_is_refused(rate):
    with pytest.raises(UserError, match="learning_rate must be a finite number above 0, got"):
        Labelling("vit", learning_rate=rate)
