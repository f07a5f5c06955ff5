"""What the gallery says of good architectures follows from their operations."""

from types import SimpleNamespace

from hypernas.graph import Architecture, Cell, collate
from hypernas.view import gallery

EDGES = ((0, 1, 0), (0, 0, 1), (0, 0, 0))
# Operations 0 and 1 are the ends; 2 is in good networks, 3 in bad ones, 4 in all.
GOOD, BAD, BOTH = (Cell((0, op, 1), EDGES) for op in (2, 3, 4))


def test_the_gallery_names_what_good_networks_have_more_of_and_what_less_of():
    """One network in twenty is good. A cell that a network repeats counts as often."""
    networks = [
        Architecture((GOOD, BOTH), (0, 0, 1)) if i % 20 == 0 else Architecture((BAD, BOTH), (0, 0, 1))
        for i in range(100)
    ]
    benchmark = SimpleNamespace(
        test=[95.0 if i % 20 == 0 else 90.0 for i in range(100)],
        graphs=lambda form: collate(networks),
        space=SimpleNamespace(ops=("input", "output", "conv_3x3", "max_pool", "skip")),
    )
    assert gallery._operations(collate(networks[:2]), 5).tolist() == [[3, 3, 2, 0, 1], [3, 3, 0, 2, 1]]
    assert gallery.traits(benchmark) == ("conv 3x3 (20.0×)", "max pool (0.0×)")
