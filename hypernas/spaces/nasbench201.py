"""NAS-Bench-201: six edges between four nodes, five operations, one cell stacked 3 x 5 times (Dong & Yang 2020)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from hypernas.data import Table, find, load_npz, read_analog
from hypernas.errors import MissingTable, UserError
from hypernas.graph import REDUCTION, Architecture, GraphBatch
from hypernas.method.target_network import Program
from hypernas.spaces.base import SearchSpace, check_cells_per_stage, check_operation, with_second_cell
from hypernas.spaces.edge_cells import (
    CONV1,
    CONV3,
    EDGES,
    NONE,
    OPS,
    POOL,
    REDUCTION_CELL,
    SKIP,
    cell_graphs,
    change_edge,
    format_cell,
    parse_cell,
    read_cell,
    write_cell,
)
from hypernas.spaces.programs import ProgramWriter

# The order of NASLib, in which analog-nasbench writes its cells too.
NASLIB_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
# Its number of an operation -> ours.
NASLIB_OPS = (SKIP, NONE, CONV3, CONV1, POOL)
# The network that the table trained.
STAGES, CELLS_PER_STAGE = 3, 5
# Datasets of which NAS-Bench-Suite-Zero has scores, in the order of its axis.
SCORED = ("cifar10", "ImageNet16-120")


class NASBench201(SearchSpace):
    """The search space of NAS-Bench-201."""

    name = "nasbench201"
    ops = OPS
    datasets = ("cifar10", "cifar100", "ImageNet16-120")
    accepts = (object,)
    macro = "stem, 3 stages of 5 cells with a residual reduction block between, classifier"
    defaults: ClassVar[dict[str, Any]] = {"n_layers": 6, "width": 72, "hyper_layers": 3, "hyper_width": 96}
    _sequence = ((0,) * CELLS_PER_STAGE + (1,)) * (STAGES - 1) + (0,) * CELLS_PER_STAGE

    def encode(
        self,
        edge_ops: np.ndarray,
        graph_form: str,
    ) -> GraphBatch:
        """Return a GraphBatch from the operations (B, 6) of the edges, as ids into `ops`."""
        cells = cell_graphs(edge_ops, graph_form)
        return with_second_cell(*cells, REDUCTION_CELL, self._sequence, self)

    def parse(self, notation: str | Mapping[Any, str]) -> Architecture:
        """`|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|` -> the raw Architecture.

        A dictionary with the operation of each edge, `{(0, 1): "nor_conv_3x3", ...}`, is read too.
        """
        if isinstance(notation, Mapping):
            return self._architecture(_edges_in_order(notation)[None], "raw")
        if not isinstance(notation, str):
            rule = "a nasbench201 architecture must be written as text or as a dictionary of its edges"
            remedy = "six operations in a row have two orders (see from_naslib), an index has several"
            raise UserError(f"{rule}, got {repr(notation)[:80]}: {remedy}")
        return self._architecture(parse_cell(notation, self.name)[None], "raw")

    def from_naslib(self, op_indices: Sequence[int]) -> Architecture:
        """Return the architecture from NASLib's six numbers: 0 skip, 1 none, 2 conv 3x3, 3 conv 1x1, 4 pool.

        NASLib orders the edges as (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3).
        """
        numbers = list(op_indices)
        known = set(range(len(NASLIB_OPS)))
        if len(numbers) != len(EDGES) or not set(numbers) <= known:
            rule = f"op_indices of NASLib must be {len(EDGES)} numbers from 0 to {len(NASLIB_OPS) - 1}"
            raise UserError(f"{rule}, got {repr(numbers)[:80]}")
        ordered = [NASLIB_OPS[numbers[NASLIB_EDGES.index(edge)]] for edge in EDGES]
        return self._architecture(np.array([ordered]), "raw")

    def _architecture(
        self,
        edge_ops: np.ndarray,
        graph_form: str,
    ) -> Architecture:
        architecture = self.encode(edge_ops, graph_form).architecture(0)
        return Architecture(architecture.cells, architecture.sequence, format_cell(edge_ops[0]))

    def _edge_ops(self, architecture: Architecture) -> np.ndarray:
        if architecture.notation:
            return parse_cell(architecture.notation, self.name)[None]
        return read_cell(architecture.cells[0], self.name)[None]

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self._architecture(rng.integers(NONE, POOL + 1, (1, 6)), "raw")

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
    ) -> Architecture:
        """Change the operation of one edge."""
        return self._architecture(change_edge(self._edge_ops(architecture)[0], rng)[None], "raw")

    def canonical(
        self,
        architecture: Architecture,
        graph_form: str = "contracted",
    ) -> Architecture:
        """Return the architecture pruned and with skip connections contracted, according to `graph_form`."""
        return self._architecture(self._edge_ops(architecture), graph_form)

    def graphs(
        self,
        table: Table,
        graph_form: str,
    ) -> GraphBatch:
        return self.encode(table.columns["edge_ops"], graph_form)

    def build(
        self,
        architecture: Architecture,
        channels: int = 16,
        cells_per_stage: int = 5,
        stem_stride: int = 1,
    ) -> Program:
        """Return the network as a Program. With fewer than 5 cells a stage, each stage keeps its first ones."""
        check_cells_per_stage(cells_per_stage, CELLS_PER_STAGE)
        writer = ProgramWriter(channels, stem_stride)
        x = writer.stem()
        for stage in range(STAGES):
            start = stage * (CELLS_PER_STAGE + 1)
            width = channels * 2**stage
            # From the second stage on the reduction block stands one place before the first cell.
            for writer.position in range(start - (stage > 0), start + cells_per_stage):
                cell = architecture.cells[architecture.sequence[writer.position]]
                c_in = width // 2 if cell.kind == REDUCTION else width
                x = write_cell(writer, cell, writer.position, x, c_in, width)
        return writer.finish(x)

    def table(self, dataset: str) -> Table:
        """Return the official table if it is installed, or else the embedded table of re-trained networks."""
        path = find("nasbench201")
        if path is not None:
            return self._official(path, dataset)
        if dataset != "cifar10":
            raise MissingTable(
                f"the embedded nasbench201 table holds cifar10 only, got {dataset!r}; "
                "put nasbench201/nasbench201.npz under $HYPERNAS_DATA, see `hypernas data list`"
            )
        return self.embedded()

    def embedded(self) -> Table:
        """Return the re-trained table of the package analog-nasbench, which every installation has."""
        path = find("analog-nasbench")
        if path is None:
            raise MissingTable("no nasbench201 table is present; `pip install analog-nasbench==0.1.3` brings one")
        ids, accuracy = read_analog(path)
        order = [NASLIB_EDGES.index(edge) for edge in EDGES]
        edge_ops = np.array(NASLIB_OPS)[ids][:, order]
        source = "embedded table of the package analog-nasbench 0.1.3 (all 15,625 cells re-trained on CIFAR-10)"
        return Table(source, "re-trained", {"edge_ops": edge_ops}, accuracy, accuracy)

    def _official(
        self,
        path: Any,
        dataset: str,
    ) -> Table:
        arrays = load_npz(path, ("ops", "op_names", "test200", "val200_cifar10", "val200_in16_partial"))
        ids = np.array([self.ops.index(str(name)) for name in arrays["op_names"]])
        test = arrays["test200"][:, self.datasets.index(dataset)].astype(np.float64)
        validation = arrays["val200_cifar10"].astype(np.float64) if dataset == "cifar10" else test
        # Only CIFAR-10 has a validation accuracy of its own at 200 epochs.
        note = "validation accuracy" if dataset == "cifar10" else "test accuracy, the table has no validation accuracy"
        source = f"official NAS-Bench-201 accuracies after 200 epochs (label for training: {note})"
        columns = {"edge_ops": ids[arrays["ops"]]}
        if dataset == "ImageNet16-120":  # not of all cells, so that it is shown and no label
            columns["validation"] = arrays["val200_in16_partial"].astype(np.float64)
        return Table(source, "measured", columns, validation, test)

    def published_scores(self, dataset: str) -> dict[str, np.ndarray]:
        """Return the zero-cost scores (B,) of NAS-Bench-Suite-Zero by name, NaN where unknown; empty if none."""
        path = find("nasbench201")
        if path is None or dataset not in SCORED:
            return {}
        arrays = load_npz(path, ("zc", "zc_names"))
        scores = arrays["zc"][:, :, SCORED.index(dataset)].astype(np.float64)
        return {str(name): scores[:, i] for i, name in enumerate(arrays["zc_names"])}

    def hardware(self, dataset: str) -> dict[str, np.ndarray]:
        """Return latencies and energies (B,) measured by HW-NAS-Bench, by name; empty if they are not installed."""
        path = find("nasbench201")
        if path is None or dataset not in self.datasets:
            return {}
        arrays = load_npz(path, ("hw", "hw_names"))
        costs = arrays["hw"][:, :, self.datasets.index(dataset)].astype(np.float64)
        return {str(name): costs[:, i] for i, name in enumerate(arrays["hw_names"])}


def _edges_in_order(operations: Mapping[Any, str]) -> np.ndarray:
    """The operations (6,) of a dictionary whose keys are edges of nodes 0 to 3, or 1 to 4: pairs or text as `0->1`."""
    named = {}
    for edge, op in operations.items():
        nodes = map(int, re.findall(r"\d", str(edge)))
        named[tuple(nodes)] = op
    # Some write the nodes as 1 to 4.
    first = 1 if any(4 in edge for edge in named) else 0
    if set(named) != {(source + first, target + first) for source, target in EDGES}:
        rule = f"a dictionary must give the operation of the edges {', '.join(map(str, EDGES))}"
        raise UserError(f"{rule}, got {', '.join(map(str, operations)) or 'none'}")
    for op in named.values():
        check_operation(op, OPS[NONE:])
    return np.array([OPS.index(named[source + first, target + first]) for source, target in EDGES])


space = NASBench201()
