"""Claims about vision transformers: counts are those of the published networks, the target network is a transformer."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from doubles import present
from torch import nn

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.graph import collate
from hypernas.lab.rows import checkout
from hypernas.method.target_network import TargetHead, attention, position_code, run
from hypernas.predictors.hypernas import HyperNAS
from hypernas.spaces import vit
from hypernas.spaces.programs import count

SPACE = spaces.get("vit")
TINY = {"embed_dim": 192, "depth": 12, "mlp_ratio": [3.5] * 12, "num_heads": [3] * 12}


@pytest.fixture(scope="module")
def table():
    return present(SPACE, "imagenet")


class PlainTransformer(nn.Module):
    """AutoFormer's network in torch's own modules; of the relative positions only the tables."""

    def __init__(self, d, layers, image, patch=16):
        super().__init__()
        tokens = (image // patch) ** 2 + 1
        self.patches = nn.Conv2d(3, d, patch, patch)
        self.class_token, self.positions = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(tokens, d))
        self.layers = nn.ModuleList()
        for heads, ratio in layers:
            hidden = int(d * ratio)
            linear = [
                nn.Linear(d, 3 * 64 * heads),
                nn.Linear(64 * heads, d),
                nn.Linear(d, hidden),
                nn.Linear(hidden, d),
            ]
            tables = nn.ParameterList(nn.Parameter(torch.zeros(30, 64)) for _ in range(4))
            self.layers.append(nn.ModuleList([*linear, nn.LayerNorm(d), nn.LayerNorm(d), tables]))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 1000)


@pytest.mark.parametrize("supernet", list(vit.SUPERNETS))
def test_parameters_are_those_of_the_network_in_plain_torch(supernet, rng):
    architecture = SPACE.sample(rng, supernet)
    with torch.device("meta"):
        network = PlainTransformer(*SPACE.choices(architecture), image=96)
    assert SPACE.count(architecture, image=96)[0] == sum(p.numel() for p in network.parameters())


def test_multiply_adds_are_those_of_its_matrix_products(rng):
    """Each product of the paper's layer written out, for 17 tokens."""
    d, layers = SPACE.choices(SPACE.sample(rng))
    adds = 16 * 16 * 16 * 3 * d + 1000 * d
    for heads, ratio in layers:
        c, n = 64 * heads, 17
        products = [(n, d, 3 * c), (n, c, d), (n, d, int(d * ratio)), (n, int(d * ratio), d)]
        products += [(n * heads, 64, n), (n * heads, n, 64)] * 2
        adds += sum(math.prod(product) for product in products)
    assert vit.count_transformer(d, layers, image=64)[1] == adds


@pytest.mark.parametrize(
    ("supernet", "printed", "counted"), [("small", (14, 34), (13.06, 34.79)), ("base", (42, 75), (39.79, 76.88))]
)
def test_the_printed_range_of_parameters_lies_inside_the_extremes_and_within_8_percent_of_them(
    supernet, printed, counted
):
    """Table 5 prints 14 to 34 M and 42 to 75 M; its smallest and largest architectures have a little less and more."""
    chosen = vit.SUPERNETS[supernet]
    ends = []
    for end in (0, -1):
        layers = [(chosen.heads[end], chosen.mlp_ratios[end])] * chosen.depths[end]
        ends.append(SPACE.count(SPACE.architecture(chosen.embed_dims[end], layers))[0] / 1e6)
    assert ends == pytest.approx(counted, abs=0.01)
    assert ends[0] < printed[0] < printed[1] < ends[1]
    assert ends == pytest.approx(printed, rel=0.08)


def test_the_supernets_are_those_of_the_paper():
    figures = pd.read_csv(checkout() / "data" / "paper.csv").query("table == 'search_space' and space == 'vit'")
    value = figures.set_index(["method", "metric"])["value"]
    for name in ("small", "base"):
        supernet = vit.SUPERNETS[name]
        choices = {"embed_dim": supernet.embed_dims, "head_num": supernet.heads, "mlp_ratio": supernet.mlp_ratios,
                   "depth": supernet.depths, "qkv_dim": [64 * heads for heads in supernet.heads]}  # fmt: skip
        for what, values in choices.items():
            low, high, step = (value[f"supernet-{name}", f"{what}_{end}"] for end in ("low", "high", "step"))
            assert list(values) == np.arange(low, high + step / 2, step).tolist()


def plain_attention(x, heads):
    """torch's own module with unit projections, one image at a time."""
    c = x.shape[1] // 3
    module = nn.MultiheadAttention(c, heads, bias=False, batch_first=True)
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.eye(c).repeat(3, 1))
        module.out_proj.weight.copy_(torch.eye(c))
        q, k, v = x.flatten(2).transpose(1, 2).split(c, -1)
        return module(q, k, v)[0].transpose(1, 2).reshape(len(x), c, *x.shape[2:])


def test_attention_over_pixels_is_torchs_own(double):
    torch.manual_seed(0)
    x = torch.randn(2, 3 * 12, 3, 5)
    assert torch.allclose(attention(x, 4), plain_attention(x, 4), atol=1e-10)
    assert torch.allclose(attention(x[None].repeat(3, 1, 1, 1, 1), 4)[1], plain_attention(x, 4), atol=1e-10)


def test_no_two_places_have_the_same_code():
    code = position_code(24, 4, 4, torch.float32, torch.device("cpu")).flatten(1)
    assert torch.pdist(code.T).min() > 0.1


def test_at_full_width_the_generated_weights_are_the_matrices_of_the_layers(rng):
    architecture = SPACE.sample(rng)
    d, layers = SPACE.choices(architecture)
    program = SPACE.build(architecture, channels=240, stem_stride=16)
    matrices = sum(4 * 64 * heads * d + 2 * d * int(d * ratio) for heads, ratio in layers)
    assert sum(math.prod(layer.weight_shape) for layer in program.convs) == matrices
    assert count(program, (3, 224, 224), 1000)[1] > 196 * matrices


def test_what_a_token_becomes_depends_on_all_tokens_and_on_its_place(rng):
    """Of one layer: moving the content of a map does not move the result, changing one corner changes the other."""
    program = SPACE.build(SPACE.sample(rng), channels=12, cells_per_stage=1, stem_stride=1)
    torch.manual_seed(0)
    head = TargetHead(1, 12, 12, 5, 1)
    head.stem, head.classify = lambda x: x, lambda x, norm: x
    weights = {c.weight: torch.randn(c.weight_shape) / c.c_in**0.5 for c in program.convs}
    x = torch.randn(1, 12, 4, 4)
    y = run(program, weights, head, x)
    changed = x.clone()
    changed[:, 0, 0, 0] += 1
    assert (run(program, weights, head, changed) - y)[..., 3, 3].abs().max() > 1e-4
    moved = run(program, weights, head, x.roll(1, -1))
    assert (moved - y.roll(1, -1)).abs().max() > 1e-4


def test_generated_weights_are_run_alike_one_at_a_time_and_together(rng):
    """Transformers of different depths, widths and heads in one pass."""
    graphs = collate([SPACE.sample(rng) for _ in range(3)], SPACE)
    method = HyperNAS(n_layers=1, width=8, hyper_width=8, channels=12, cells_per_stage=16, stem_stride=4)
    torch.manual_seed(0)
    model = method.new_model(graphs)
    images = torch.randn(1, 3, 4, 1, 8, 8)
    together = method.new_pass([model], [graphs])(torch.arange(3)[None], images)
    method.engine = "plain"
    one = method.new_pass([model], [graphs])
    for a in range(3):
        alone = one(torch.tensor([[a]]), images[:, a : a + 1])
        for ours, theirs in zip(together, alone, strict=True):
            assert torch.allclose(ours[:, a : a + 1], theirs, atol=1e-3)


def test_the_records_are_inside_the_space_and_encoded_one_by_one(table):
    graphs = SPACE.graphs(table, "raw")
    assert len(graphs) == 200
    assert sorted(set((graphs.sequence >= 0).sum(1).tolist())) == [12, 13, 14]
    assert len(np.unique(graphs.function_ids())) == 200
    d, layers = SPACE.choices(graphs.architecture(7))
    assert d == table.columns["embed_dim"][7]
    assert [heads for heads, _ in layers] == table.columns["heads"][7][: len(layers)].tolist()
    assert [ratio for _, ratio in layers] == table.columns["mlp_ratio"][7][: len(layers)].tolist()


def test_accuracies_of_the_second_file_do_not_go_with_their_architectures(table):
    """What the source sentence says: in the first file the widest networks are apart from all others."""
    wide, accuracy = table.columns["embed_dim"] == 240, table.test
    for file, apart in ((1, True), (2, False)):
        rows = table.columns["file"] == file
        assert (accuracy[rows & wide].max() < accuracy[rows & ~wide].min()) == apart
    assert "do not go with their architectures" in table.source
    first = SPACE.read("imagenet-first")
    assert len(first) == 100
    assert "do not go" not in first.source


@pytest.mark.parametrize(("dataset", "how"), [("imagenet", "inherited from the supernet"), ("flowers", "distillation")])
def test_the_table_says_how_its_accuracies_came_about(table, dataset, how):
    read = SPACE.read(dataset)
    assert how in read.source
    assert read.kind == "measured"
    assert np.isfinite(read.test).all()


def test_a_mutation_stays_in_its_supernet(rng):
    for supernet in vit.SUPERNETS.values():
        architecture = SPACE.sample(rng, supernet.name)
        for _ in range(20):
            architecture = SPACE.mutate(architecture, rng)
            d, layers = SPACE.choices(architecture)
            assert vit.check_layers(d, layers) is supernet


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"qkv_dim": 320, "num_heads": [3] * 5 + [4] + [3] * 6}, "got 3 heads for 320 in layer 1"),
        ({"qkv_dim": 192, "num_heads": [3] * 5 + [4] + [3] * 6}, "parts of 64, got 4 heads for 192 in layer 6"),
        ({"mlp_ratio": [3.5] * 11}, "as many mlp ratios as layers, got 11 for a depth of 12"),
        ({"num_heads": [3] * 13}, "as many numbers of heads as layers, got 13 for a depth of 12"),
        ({"num_heads": [3] * 11 + [5]}, "heads must be one of 3, 4 in supernet tiny, got 5 in layer 12"),
        ({"mlp_ratio": [3.0] * 12}, "mlp ratio must be one of 3.5, 4 in supernet tiny, got 3 in layer 1"),
        ({"embed_dim": 200}, "embedding dimension must be one of 192, .*, 624, got 200"),
        (
            {"depth": 11, "mlp_ratio": [4] * 11, "num_heads": [3] * 11},
            "depth must be 12 to 14 in supernet tiny, got 11",
        ),
    ],
)
def test_choices_outside_the_supernet_are_a_user_error(change, words):
    assert SPACE.from_autoformer(**TINY, qkv_dim=192).notation == "192" + "|h3r3.5" * 12
    with pytest.raises(UserError, match=words):
        SPACE.from_autoformer(**TINY | change)


@pytest.mark.parametrize("embed_dim", [192, 192.0, [192] * 12, np.full(12, 192), (192,)])
def test_the_embedding_dimension_may_stand_once_for_each_layer(embed_dim):
    wanted = SPACE.from_autoformer(**TINY)
    assert SPACE.from_autoformer(**TINY | {"embed_dim": embed_dim}) == wanted
    written = {"embed_dim": embed_dim, "layer_num": 12, "mlp_ratio": [3.5] * 12, "num_heads": [3] * 12}
    assert SPACE.parse(written) == wanted


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embed_dim": [192, 240]}, "one number, the same for all layers, got 192, 240"),
        ({"embed_dim": []}, "one number, the same for all layers, got none"),
        ({"embed_dim": "192"}, "embed_dim must be a number, got '192'"),
        ({"num_heads": 3}, "num_heads must be a list with a value for each layer, got 3"),
        ({"num_heads": [3.5] * 12}, r"num_heads must be a whole number, got 3\.5"),
        ({"mlp_ratio": [None] * 12}, "mlp_ratio must be a number, got None"),
        ({"depth": "12"}, "depth must be a number, got '12'"),
        ({"mlp_ratio": [float("nan")] * 12}, "mlp ratio must be one of"),
        ({"drop": 1}, "must have embed_dim, layer_num, mlp_ratio and num_heads, got"),
    ],
)
def test_a_dictionary_that_is_none_of_autoformer_is_one_sentence(change, words):
    with pytest.raises(UserError, match=words):
        SPACE.parse(TINY | change)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: SPACE.sample(np.random.default_rng(0), "huge"),
            "supernet must be one of tiny, small, base, got 'huge'",
        ),
        (lambda: SPACE.parse("h3r4|h3r4"), "lists its embedding dimension and its layers as .*, got 'h3r4"),
        (lambda: SPACE.count(SPACE.from_autoformer(**TINY), 100), "multiple of the patch size 16, got 100"),
        (lambda: SPACE.build(SPACE.from_autoformer(**TINY), cells_per_stage=17), "from 1 to 16, got 17"),
    ],
)
def test_other_wrong_input_is_a_user_error(call, words):
    with pytest.raises(UserError, match=words):
        call()
