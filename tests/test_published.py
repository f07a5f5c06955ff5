"""Claims about published networks: those that are written down have the size that their papers print."""

import re

import pandas as pd
import pytest

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.lab import published
from hypernas.lab.rows import checkout, paper_figures
from hypernas.spaces.genotypes import Genotype

MOBILE, VIT = (published.table(space).set_index("method") for space in ("mobilenetv3", "vit"))


def test_every_network_of_table_8_has_a_row_with_its_quoted_figures():
    figures = paper_figures("search", "top1_accuracy").query("space == 'mobilenetv3'").set_index("method")["paper"]
    assert len(figures) == 13
    assert sorted(MOBILE.index) == sorted(figures.index)
    assert MOBILE["quoted_top1_accuracy"].equals(figures.loc[MOBILE.index].rename("quoted_top1_accuracy"))
    assert MOBILE.loc["hypernas", "quoted_queries"] == 200
    assert (MOBILE["note"] != "").all()


@pytest.mark.parametrize(("method", "flops_off"), [("mobilenetv3", 0.012), ("fbnet-c", 0.012)])
def test_networks_that_are_written_down_have_the_size_that_is_quoted(method, flops_off):
    line = MOBILE.loc[method]
    assert line["counted_parameters_m"] == pytest.approx(line["quoted_parameters_m"], rel=0.016)
    assert line["counted_flops_m"] == pytest.approx(line["quoted_flops_m"], rel=flops_off)


def test_networks_that_are_not_written_down_have_no_counts():
    counted = MOBILE["counted_parameters_m"].notna()
    assert sorted(MOBILE.index[counted]) == ["fbnet-c", "mobilenetv3"]
    assert (MOBILE["notation"] != "").equals(counted.rename("notation"))


def test_autoformer_has_the_parameters_that_its_paper_prints():
    assert VIT.loc["autoformer-s", "counted_parameters_m"] == pytest.approx(22.9, abs=0.05)
    assert VIT.loc["autoformer-b", "counted_parameters_m"] == pytest.approx(54, abs=0.5)


def printed(method):
    """Depth, embedding dimension, heads and MLP ratios as Table 12 prints them."""
    figures = pd.read_csv(checkout() / "data" / "paper.csv").query("table == 'architecture' and method == @method")
    value = figures.set_index("metric")["value"]
    lists = {
        what: [value[f"{what}_{i}"] for i in range(1, 17) if f"{what}_{i}" in value]
        for what in ("mlp_ratio", "head_num")
    }
    return int(value["depth"]), int(value["embed_dim"]), lists["head_num"], lists["mlp_ratio"]


def test_table_12_s_base_network_is_built_as_printed():
    depth, embed_dim, heads, ratios = printed("hypernas-b")
    architecture = spaces.get("vit").from_autoformer(embed_dim, depth, ratios, list(map(int, heads)))
    assert architecture.notation == VIT.loc["hypernas-b", "notation"]
    assert VIT.loc["hypernas-b", "counted_parameters_m"] == pytest.approx(54.47, abs=0.01)


def test_table_12_s_small_network_prints_a_ratio_too_few_and_is_counted_with_each():
    depth, embed_dim, heads, ratios = printed("hypernas-s")
    space = spaces.get("vit")
    with pytest.raises(UserError, match="as many mlp ratios as layers, got 12 for a depth of 13"):
        space.from_autoformer(embed_dim, depth, ratios, list(map(int, heads)))
    lines = VIT.loc["hypernas-s"]
    built = [space.from_autoformer(embed_dim, depth, [*ratios, r], list(map(int, heads))) for r in (3.0, 3.5, 4.0)]
    assert [architecture.notation for architecture in built] == lines["notation"].tolist()
    assert lines["counted_parameters_m"].between(22.6, 23.0).all()
    assert lines["note"].str.contains("12 MLP ratios for 13 layers").all()


def test_darts_networks_have_the_parameters_that_are_quoted_for_each_dataset():
    lines = published.table("darts").set_index(["method", "dataset"])
    quoted = lines["quoted_parameters_m"].dropna()
    assert sorted(quoted.index) == [("darts-v2", "cifar10"), ("darts-v2", "imagenet"), ("hypernas", "imagenet")]
    assert lines.loc[quoted.index, "counted_parameters_m"].tolist() == pytest.approx(quoted.tolist(), abs=0.05)
    assert lines["quoted_test_accuracy"].notna().sum() == 3


def test_edges_do_not_change_the_counts_of_the_network_whose_operations_alone_are_named(rng):
    space = spaces.get("darts")
    named = space.parse(published.table("darts").set_index("method").loc["hypernas", "notation"].iloc[0])
    genotype = space.genotype(named)
    states = [int(state) for i in range(4) for state in rng.choice(2 + i, 2, replace=False)]
    cells = [tuple(zip((op for op, _ in cell), states, strict=True)) for cell in (genotype.normal, genotype.reduce)]
    other = space.parse(str(Genotype(*cells)))
    assert other != named
    assert [space.count(other, images) for images in ("cifar10", "imagenet")] == [
        space.count(named, images) for images in ("cifar10", "imagenet")
    ]


def test_quoted_and_counted_sizes_stand_side_by_side_where_both_are_known():
    sizes = published.sizes(published.table("darts")).set_index(["facet", "name"])
    assert list(sizes.index.unique("facet")) == ["parameters", "multiply-adds"]
    assert sizes.loc[("multiply-adds", "DARTS-V2, ImageNet"), "paper"] == 574
    assert sizes["ours"].notna().all()


def test_other_spaces_and_other_notations_are_user_errors():
    with pytest.raises(UserError, match="published networks are known for darts, mobilenetv3, vit, got 'nasbench201'"):
        published.table("nasbench201")
    with pytest.raises(UserError, match=re.escape("must be written as k3 m64 c24 s2 se hs x2, got 'k3 c24'")):
        published.parse_blocks("k3 c24")
