"""NAS-Bench-201 networks of variable depth with different cells: 3 stages of 1 to 3 cells, each drawn independently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from hypernas.errors import UserError
from hypernas.graph import REDUCTION, Architecture, Cell
from hypernas.method.target_network import Program
from hypernas.spaces.base import SearchSpace, check_cells_per_stage
from hypernas.spaces.edge_cells import (
    EDGES,
    NONE,
    OPS,
    POOL,
    REDUCTION_CELL,
    cell_graphs,
    change_edge,
    format_cell,
    parse_cell,
    read_cell,
    write_cell,
)
from hypernas.spaces.programs import ProgramWriter

# As in NAS-Bench-201, and the most cells of a stage.
STAGES, MOST = 3, 3
# The operations (6,) of each cell of each stage.
Stages = Sequence[Sequence[np.ndarray]]


class NASBench201Depth(SearchSpace):
    """The search space of NAS-Bench-201 networks whose cells and depth vary."""

    name = "nasbench201_depth"
    ops = OPS
    datasets = ("digits",)
    macro = "stem, 3 stages of 1 to 3 cells that differ, with a residual reduction block between, classifier"
    defaults: ClassVar[dict[str, Any]] = {"n_layers": 6, "width": 72, "hyper_layers": 3, "hyper_width": 96}
    profiles: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"cells_per_stage": MOST}}

    def parse(self, notation: str) -> Architecture:
        """`CELL CELL / CELL / CELL CELL CELL`, each cell as in NAS-Bench-201 -> the raw Architecture."""
        return self._architecture(self._parsed(notation), "raw")

    def _parsed(self, notation: str) -> list[list[np.ndarray]]:
        texts = [part.split() for part in notation.split("/")]
        if len(texts) != STAGES:
            rule = f"a {self.name} network has {STAGES} stages, written CELL CELL / CELL / CELL"
            raise UserError(f"{rule}, got {len(texts)} in {notation!r}")
        for i, cells in enumerate(texts, 1):
            if not 1 <= len(cells) <= MOST:
                raise UserError(f"a stage of {self.name} has from 1 to {MOST} cells, got {len(cells)} in stage {i}")
        stages = []
        for cells in texts:
            stages.append([parse_cell(cell, self.name) for cell in cells])
        return stages

    def _architecture(self, stages: Stages, graph_form: str) -> Architecture:
        """Operations (6,) of each cell of each stage -> the network; its last unique cell is the reduction block."""
        edge_ops = np.concatenate([np.stack(stage) for stage in stages])
        graphs = zip(*cell_graphs(edge_ops, graph_form), strict=True)
        cells = []
        for ops, adjacency, mask in graphs:
            n = mask.sum()
            cells.append(Cell.with_edges(ops[:n].tolist(), adjacency[:n, :n]))
        sequence: list[int] = []
        for stage in stages:
            # Cells are numbered through; a reduction block stands between two stages and has the last number.
            start = len(sequence) - sequence.count(len(cells))
            sequence += [len(cells)] * bool(sequence) + list(range(start, start + len(stage)))
        written = [" ".join(map(format_cell, stage)) for stage in stages]
        notation = " / ".join(written)
        return Architecture((*cells, REDUCTION_CELL), tuple(sequence), notation)

    def _stages(self, architecture: Architecture) -> list[list[np.ndarray]]:
        """The operations (6,) of each cell of each stage. Raises UserError for a network outside the space."""
        if architecture.notation:
            return self._parsed(architecture.notation)
        stages: list[list[np.ndarray]] = [[]]
        for cell in (architecture.cells[u] for u in architecture.sequence):
            if cell.kind == REDUCTION:
                stages.append([])
            else:
                stages[-1].append(read_cell(cell, self.name))
        sizes = [len(stage) for stage in stages]
        if len(sizes) != STAGES or not all(1 <= size <= MOST for size in sizes):
            raise UserError(f"a {self.name} network has {STAGES} stages of 1 to {MOST} cells, got {sizes}")
        return stages

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw every depth uniformly, and every cell from the 15,625 of NAS-Bench-201."""
        depths = 1 + rng.integers(MOST, size=STAGES)
        stages = []
        for depth in depths:
            stages.append([_draw(rng) for _ in range(depth)])
        return self._architecture(stages, "raw")

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Change the operation of one edge of one cell, insert a random cell, or remove a cell."""
        stages = self._stages(architecture)
        short = [stage for stage in stages if len(stage) < MOST]
        deep = [stage for stage in stages if len(stage) > 1]
        # Only moves that stay inside the space; the chance of each kind is equal.
        moves = ["change"] + ["add"] * bool(short) + ["drop"] * bool(deep)
        move = moves[rng.integers(len(moves))]
        among = {"change": stages, "add": short, "drop": deep}[move]
        stage = among[rng.integers(len(among))]
        place = rng.integers(len(stage) + (move == "add"))
        if move == "change":
            stage[place] = change_edge(stage[place], rng)
        elif move == "add":
            stage.insert(place, _draw(rng))
        else:
            del stage[place]
        return self._architecture(stages, "raw")

    def canonical(self, architecture: Architecture, graph_form: str = "contracted") -> Architecture:
        """Return the network with each cell pruned and its skip connections contracted, according to `graph_form`."""
        return self._architecture(self._stages(architecture), graph_form)

    def build(
        self,
        architecture: Architecture,
        channels: int = 16,
        cells_per_stage: int = MOST,
        stem_stride: int = 1,
    ) -> Program:
        """Return the network as a Program with at most the first `cells_per_stage` cells of each stage.

        The layers of a stage's i-th cell are at the same position in networks of any depth, so they can run together.
        """
        check_cells_per_stage(cells_per_stage, MOST)
        writer = ProgramWriter(channels, stem_stride)
        x, width, last = writer.stem(), channels, -1
        for position, u in enumerate(architecture.sequence):
            cell = architecture.cells[u]
            if cell.kind == REDUCTION:
                width, last = 2 * width, last + MOST + 1
                writer.position = last
            elif writer.position - last < cells_per_stage:
                writer.position += 1
            else:
                continue
            x = write_cell(writer, cell, position, x, width // 2 if cell.kind == REDUCTION else width, width)
        return writer.finish(x)


def _draw(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(NONE, POOL + 1, len(EDGES))


space = NASBench201Depth()
