"""Published networks, built and counted if their architecture is printed, beside the quoted figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from hypernas import spaces
from hypernas.errors import UserError
from hypernas.lab.pages import display_name
from hypernas.lab.rows import paper_figures
from hypernas.spaces.mbconv import HARD_SWISH, RELU, Block, biases, chain, divisible
from hypernas.spaces.programs import count
from hypernas.training.files import toml_beside

if TYPE_CHECKING:
    import pandas as pd

QUOTED = ("parameters_m", "flops_m", "test_accuracy", "top1_accuracy", "top5_accuracy", "queries")
IMAGENET = "imagenet"
STEM, RESOLUTION, CLASSES = 16, 224, 1000


@dataclass(frozen=True)
class Network:
    """One published network: its `notations` in a search space, its `blocks` outside of one, or neither.

    More than one notation means that the printed description is ambiguous. `last` are the widths after the blocks,
    `images` the datasets that it is for, if the space has networks for several.
    """

    method: str
    space: str
    note: str
    notations: Sequence[str] = ()
    blocks: Sequence[str] = ()
    activation: str = HARD_SWISH
    last: Sequence[int] = ()
    images: Sequence[str] = ()

    def counts(self) -> Iterator[tuple[str, str, int, int]]:
        """Yield dataset, notation, parameters and multiply-adds of the network on one of its images."""
        space: Any = spaces.get(self.space)
        for images, notation in product(self.images or [""], self.notations):
            yield images or IMAGENET, notation, *space.count(space.parse(notation), *[images] * bool(images))
        if self.blocks:
            blocks = [block for text in self.blocks for block in parse_blocks(text)]
            program = chain(blocks, STEM, self.last, self.activation)
            parameters, adds = count(program, (3, RESOLUTION, RESOLUTION), CLASSES)
            yield IMAGENET, ", ".join(self.blocks), parameters + sum(map(biases, blocks)), adds


def parse_blocks(text: str) -> list[Block]:
    """Parse blocks in the notation of `published.toml`. Raise UserError for anything else.

    >>> parse_blocks("k5 m72 c40 s2 se")
    [Block(kernel=5, middle=72, c_out=40, stride=2, squeeze=24, activation='relu')]
    >>> len(parse_blocks("k3 m24 c24 x2"))
    2
    """
    found = re.fullmatch(r"k(\d+) m(\d+) c(\d+)( s2)?( se)?( hs)?(?: x(\d+))?", text)
    if found is None:
        raise UserError(f"blocks must be written as k3 m64 c24 s2 se hs x2, got {text!r}")
    kernel, middle, c_out = map(int, found.groups()[:3])
    squeeze = divisible(middle // 4) if found[5] else 0
    block = Block(kernel, middle, c_out, 2 if found[4] else 1, squeeze, HARD_SWISH if found[6] else RELU)
    return [block] * int(found[7] or 1)


@cache
def networks() -> tuple[Network, ...]:
    """Return every network of `published.toml`, in its order."""
    return tuple(Network(**entry) for entry in toml_beside(__file__, "published.toml")["network"])


def table(space: str) -> pd.DataFrame:
    """Return the published networks of a search space, one line per architecture, or without counts if it is unknown.

    Columns: method; dataset; `quoted_` parameters_m, flops_m, test_accuracy, top1_accuracy, top5_accuracy, queries, as
    in `data/paper.csv`; `counted_parameters_m` and `counted_flops_m`; note; notation. Raise UserError for another
    space.
    """
    import pandas as pd

    lines: list[dict[str, Any]] = []
    for network in networks():
        if network.space != space:
            continue
        known = {"method": network.method, "note": network.note, "notation": ""}
        sizes = ("dataset", "notation", "counted_parameters_m", "counted_flops_m")
        lines += [
            known | dict(zip(sizes, (dataset, notation, parameters / 1e6, adds / 1e6), strict=True))
            for dataset, notation, parameters, adds in network.counts()
        ] or [known | {"dataset": dataset} for dataset in network.images or [IMAGENET]]
    if not lines:
        named = sorted({network.space for network in networks()})
        raise UserError(f"published networks are known for {', '.join(named)}, got {space!r}")
    place = ["method", "dataset"]
    found = pd.DataFrame(lines, columns=[*place, "counted_parameters_m", "counted_flops_m", "note", "notation"])
    for column, metric in enumerate(QUOTED, len(place)):
        figures = paper_figures("search", metric).query("space == @space")
        quoted = figures.drop_duplicates(place).set_index(place)["paper"].to_dict()
        values = [quoted.get(line) for line in zip(found["method"], found["dataset"], strict=True)]
        found.insert(column, f"quoted_{metric}", pd.Series(values, dtype=float))
    return found


def sizes(networks: pd.DataFrame) -> pd.DataFrame:
    """Return parameters and multiply-adds in millions where a `table` has both: `facet, name, ours, paper`."""
    import pandas as pd

    names = networks["method"].map(display_name)
    if networks["dataset"].nunique() > 1:
        names += ", " + networks["dataset"].map(display_name)
    columns = {"parameters": "parameters_m", "multiply-adds": "flops_m"}
    frames = []
    for facet, column in columns.items():
        counted, quoted = networks[f"counted_{column}"], networks[f"quoted_{column}"]
        both = pd.DataFrame({"facet": facet, "name": names, "ours": counted, "paper": quoted})
        frames.append(both.dropna())
    return pd.concat(frames, ignore_index=True)
