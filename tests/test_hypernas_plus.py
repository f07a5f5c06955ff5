"""Claims about HyperNAS+: its features, its processes, its ranking members and how they vote."""

import numpy as np
import pytest
import torch

from hypernas import predictors, spaces
from hypernas.errors import UserError
from hypernas.graph import Architecture, Cell, collate
from hypernas.lab.metrics import kendall_tau
from hypernas.predictors.hypernas_plus import INGREDIENTS, gaussian_ranks
from hypernas.predictors.shared.gaussian_process import (
    GroupDistances,
    GroupProcess,
    matern32,
    squared_distances,
)
from hypernas.predictors.shared.graph_kernel_features import (
    GraphKernelFeatures,
    neighbourhoods,
    path_moments,
)
from hypernas.predictors.shared.random_networks import CellSequence, RandomNetworks

SMALL = {"n_members": 2, "epochs": 2, "gcn_layers": 2, "gcn_width": 16}


def cell(ops, edges):
    adjacency = np.zeros((len(ops), len(ops)), int)
    for x, y in edges:
        adjacency[x, y] = 1
    return Cell(tuple(ops), tuple(map(tuple, adjacency.tolist())))


def two_paths():
    """Input 0 -> 2 -> 3 -> output 1, and input -> 2 -> output: operations 2 and 3 lie on one path, 2 on both."""
    return cell((0, 2, 3, 1), [(0, 1), (1, 2), (2, 3), (1, 3)])


def only_cell(architectures):
    graphs = collate(architectures)
    (cells,) = CellSequence(graphs)(graphs)
    return cells


def test_ranks_become_quantiles_so_that_no_label_is_far_off():
    assert gaussian_ranks(np.array([1.0, 2.0, 3.0])) == pytest.approx(gaussian_ranks(np.array([-1e9, 2.0, 2.1])))
    assert gaussian_ranks(np.array([5.0, 5.0, 7.0]))[0] == gaussian_ranks(np.array([5.0, 5.0, 7.0]))[1]


def test_the_moments_of_paths_are_those_of_the_paths_one_by_one():
    other = cell((0, 3, 1), [(0, 1), (1, 2)])
    cells = only_cell([Architecture((two_paths(),), (0,)), Architecture((other,), (0,))])
    found = path_moments(cells, [2, 3])[0]
    # two paths: (2, 3) and (2); counts of operation 2, of operation 3, of both
    mean, deviation = [1, 0.5, 1.5], [0, 0.5, 0.5]
    assert found[:7] == pytest.approx([np.log(2), *mean, *deviation])
    # half of what the output reads comes over each path
    assert found[7:13] == pytest.approx([*mean, *deviation])
    assert found[13:] == pytest.approx([1, 0, 1, 1, 1, 2])


def test_a_cell_that_no_path_crosses_has_finite_features():
    empty = cell((0, 1), [])
    cells = only_cell([Architecture((two_paths(),), (0,)), Architecture((empty,), (0,))])
    assert np.isfinite(path_moments(cells, [2, 3])).all()


def test_nodes_are_told_apart_by_what_they_read_and_feed():
    cells = only_cell([Architecture((two_paths(),), (0,)), Architecture((cell((0, 2, 1), [(0, 1), (1, 2)]),), (0,))])
    hashes = neighbourhoods([cells])
    assert (hashes[1] == 0).tolist() == [False, False, False, True]
    assert len(set(hashes[0].tolist())) == 4
    assert hashes[0, 0] == hashes[1, 0]
    assert hashes[0, 1] != hashes[1, 1]


def test_random_networks_see_in_which_order_the_operations_come():
    chains = [cell((0, *ops, 1), [(0, 1), (1, 2), (2, 3)]) for ops in ((2, 3), (3, 2), (2, 3))]
    graphs = collate([Architecture((chain,), (0,)) for chain in chains])
    for readout in RandomNetworks(4)(CellSequence(graphs)(graphs)):
        assert not np.allclose(readout[0], readout[1])
        assert np.array_equal(readout[0], readout[2])


def test_random_networks_see_the_cells_in_sequence():
    first, second = two_paths(), cell((0, 3, 3, 1), [(0, 1), (1, 2), (2, 3)])
    graphs = collate([Architecture((first, second), (0, 1)), Architecture((second, first), (0, 1))])
    for readout in RandomNetworks(4)(CellSequence(graphs)(graphs)):
        assert not np.allclose(readout[0], readout[1])


def test_no_feature_depends_on_the_order_of_the_nodes(architecture, twin):
    architectures = [architecture() for _ in range(8)]
    graphs, mixed = collate(architectures), collate([twin(a) for a in architectures])
    assert not torch.equal(graphs.ops, mixed.ops)
    sequence, networks = CellSequence(graphs), RandomNetworks(5)
    ours, theirs = sequence(graphs), sequence(mixed)
    for cells, others in zip(ours, theirs, strict=True):
        assert path_moments(cells, [2, 3, 4]) == pytest.approx(path_moments(others, [2, 3, 4]))
    assert np.array_equal(np.sort(neighbourhoods(ours), 1), np.sort(neighbourhoods(theirs), 1))
    for readout, other in zip(networks(ours), networks(theirs), strict=True):
        assert readout == pytest.approx(other, abs=1e-4)


def test_a_cell_that_is_stacked_in_the_same_way_everywhere_is_read_once():
    space = spaces.get("nasbench201")
    graphs = collate([space.sample(np.random.default_rng(seed)) for seed in range(5)], space)
    assert graphs.sequence.shape[1] == 17
    assert [cells.ops.shape for cells in CellSequence(graphs)(graphs)] == [(5, 8)]


def test_features_that_were_kept_are_those_that_were_computed(nasbench201):
    graphs = nasbench201.graphs("contracted")[:60]
    features = GraphKernelFeatures(graphs)
    at_once = features(graphs)
    again = GraphKernelFeatures(graphs)
    again(graphs[20:40])
    in_parts = again(graphs)
    # sums of another batch may differ in the last bit, which a half-precision number shows as one part in a thousand
    assert all(in_parts[name] == pytest.approx(x, rel=2e-3, abs=2e-3) for name, x in at_once.items() if name != "nodes")
    assert np.array_equal(at_once["nodes"], in_parts["nodes"])


def test_features_of_many_architectures_are_read_back_from_the_cache(nasbench201, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("hypernas.predictors.shared.graph_kernel_features.WORTH_A_FILE", 10)
    graphs = nasbench201.graphs("contracted")[:60]
    written = GraphKernelFeatures(graphs)(graphs)
    read = GraphKernelFeatures(graphs)
    read._compute = None  # to compute any would fail
    assert all(np.array_equal(written[name], x) for name, x in read(graphs).items())


def test_neighbourhoods_that_no_training_graph_has_are_all_equally_far():
    groups = {"nodes": np.array([[3, 5], [3, 7]], np.uint64)}
    distances = GroupDistances(groups, ["nodes"])
    found = distances.weighted(np.ones(1), {"nodes": np.array([[3, 5], [9, 9]], np.uint64)})
    # one node is another: the two histograms differ in two places
    assert found[0] == pytest.approx([0, 1])
    assert found[1] == pytest.approx([2, 2])


def test_a_process_goes_through_labels_without_noise_and_doubts_what_is_far():
    x = np.linspace(0, 3, 12)[:, None].astype(np.float32)
    labels = np.sin(2 * x[:, 0]).astype(np.float64)
    process = GroupProcess(GroupDistances({"x": x, "nodes": np.ones((12, 1), np.uint64)}, ["x"]), labels)
    mean, variance = process.predict({"x": np.array([[1.5], [30.0]], np.float32), "nodes": np.ones((2, 1), np.uint64)})
    assert mean[0] == pytest.approx(np.sin(3.0), abs=0.1)
    assert variance[1] > 20 * variance[0]


def test_a_group_that_says_nothing_loses_its_weight(rng):
    x, noise = rng.normal(size=(40, 1)), rng.normal(size=(40, 1))
    groups = {"x": x, "noise": noise, "nodes": np.ones((40, 1), np.uint64)}
    process = GroupProcess(GroupDistances(groups, ["x", "noise"]), np.sin(3 * x[:, 0]))
    assert process.weights[0] > 3 * process.weights[1]


def test_the_kernel_of_equal_points_is_one_and_falls():
    squared = squared_distances(np.array([[0.0], [1.0], [3.0]]), np.array([[0.0]]))[:, 0]
    assert squared == pytest.approx([0, 1, 9])
    kernel = matern32(squared)
    assert kernel[0] == pytest.approx(1, abs=1e-5)
    assert kernel[1] == pytest.approx((1 + 3**0.5) * np.exp(-(3**0.5)), abs=1e-5)


def test_the_share_of_the_gcns_grows_with_the_labels(nasbench201):
    graphs, accuracy = nasbench201.graphs("contracted"), nasbench201.validation
    shares = []
    for n in (10, 60):
        train, _ = nasbench201.split(n, 0)
        shares.append(predictors.get("hypernas-plus")(**SMALL).fit(graphs[train], accuracy[train]).shares)
    assert [sum(share) for share in shares] == pytest.approx([1, 1])
    assert 0 < shares[0][-1] < shares[1][-1] < 0.5


def test_where_several_cells_differ_the_networks_have_most_votes():
    space = spaces.get("nasbenchmacro")
    rng = np.random.default_rng(0)
    # Without their space they are the reference of the features too, in place of 600 others.
    graphs = collate([space.canonical(space.sample(rng)) for _ in range(16)])
    fitted = predictors.get("hypernas-plus")(**SMALL, n_predictors=2).fit(graphs, torch.arange(16.0))
    assert fitted.n_positions == 8
    first, second, gcns, others = fitted.shares
    # By hand: 16 / 116 / 2 of the votes for networks would leave the processes .931, and one position in eight .116.
    assert first == second == pytest.approx((1 - 8 / 116) / 8 / 2)
    assert gcns == others == pytest.approx((1 - first - second) / 2)
    assert [each.seed for each in fitted.predictors] == [0, 1]


def test_each_ingredient_can_be_left_out_and_changes_what_is_predicted(architecture):
    # Two cells differ, so that there are members of every kind.
    graphs = collate([architecture() for _ in range(40)])
    said = []
    for without in ("", *INGREDIENTS):
        settings = SMALL | {"n_predictors": 1, "without": without}
        fitted = predictors.get("hypernas-plus")(**settings).fit(graphs[:20], torch.arange(20.0))
        said.append(fitted.predict(graphs[20:]))
    for first, one in enumerate(said):
        assert one.isfinite().all()
        assert not any(torch.equal(one, other) for other in said[first + 1 :])


def test_an_unknown_ingredient_is_refused():
    with pytest.raises(UserError, match=r"without must be one of ranks, .*got 'luck'"):
        predictors.get("hypernas-plus")(without="luck")


def test_seventy_labels_rank_the_cells_by_their_convolutions_well(nasbench201):
    graphs = nasbench201.graphs("contracted")
    truth = 3.0 * (graphs.ops[:, 0] == 5).sum(1) + (graphs.ops[:, 0] == 4).sum(1)
    train, test = nasbench201.split(70, 0)
    fitted = predictors.get("hypernas-plus")(**SMALL).fit(graphs[train], truth[train].double())
    some = test[::40]
    assert kendall_tau(fitted.predict(graphs[some]), truth[some]) > 0.8


def test_a_prediction_comes_with_a_deviation_that_is_less_where_the_labels_are(nasbench201):
    graphs, accuracy = nasbench201.graphs("contracted"), nasbench201.validation
    train, test = nasbench201.split(50, 0)
    fitted = predictors.get("hypernas-plus")(**SMALL).fit(graphs[train], accuracy[train])
    mean, known = fitted.predict(graphs[train], return_std=True)
    assert torch.equal(mean, fitted.predict(graphs[train]))
    _, unknown = fitted.predict(graphs[test[::100]], return_std=True)
    assert (known > 0).all()
    assert known.mean() < unknown.mean()


def test_a_list_of_graphs_of_no_known_space_will_do(architecture):
    graphs = collate([architecture() for _ in range(24)])
    accuracy = (graphs.ops[:, 0] == 2).sum(1).double()
    fitted = predictors.get("hypernas-plus")(**SMALL).fit(graphs[:16], accuracy[:16])
    assert fitted.predict(graphs[16:]).isfinite().all()


@pytest.mark.parametrize("space", spaces.names())
def test_the_architectures_of_every_space_will_do(space, rng, monkeypatch):
    monkeypatch.setattr("hypernas.predictors.shared.graph_kernel_features.N_REFERENCE", 20)
    space = spaces.get(space)
    graphs = collate([space.canonical(space.sample(rng)) for _ in range(10)], space, "contracted")
    features = GraphKernelFeatures(graphs)(graphs)
    assert all(np.isfinite(x).all() for x in features.values())
