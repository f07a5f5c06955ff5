"""The noise ceiling of a table: what its own training labels reach."""

import os

import pytest

from hypernas.errors import MissingTable
from hypernas.lab.ceilings import TABLES, ceiling, ceilings, computed


@pytest.mark.parametrize(("space", "dataset"), TABLES)
def test_a_kept_ceiling_is_what_the_official_table_gives(space, dataset):
    if "HYPERNAS_DATA" not in os.environ:
        pytest.skip("the official tables are not present: set HYPERNAS_DATA")
    assert ceiling(space, dataset) == pytest.approx(computed(space, dataset), abs=1e-4)


def test_a_re_trained_table_has_no_ceiling_of_its_own(monkeypatch):
    monkeypatch.delenv("HYPERNAS_DATA", raising=False)
    with pytest.raises(MissingTable, match="official"):
        computed("nasbench201", "cifar10")


def test_where_labels_are_the_test_accuracies_no_ceiling_is_said():
    assert ceiling("mobilenetv3", "imagenet") is None
    assert set(ceilings()) == {space for space, _ in TABLES}
