"""NAS-Bench-101: a cell of at most 7 vertices and 9 edges, stacked 3 x 3 times (Ying et al. 2019)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from hypernas.canonical import simplify
from hypernas.data import Table, find, load_npz
from hypernas.errors import MissingTable, UserError
from hypernas.graph import REDUCTION, Architecture, Cell, GraphBatch
from hypernas.method.target_network import Program
from hypernas.spaces.base import SearchSpace, check_cells_per_stage, check_operation, with_second_cell
from hypernas.spaces.programs import ProgramWriter, count

# The most of each that a cell may have.
VERTICES, EDGES = 7, 9
INPUT, OUTPUT, CONV3, CONV1, POOL, DOWNSAMPLE = range(6)
# Side of the kernel of each operation, 0 where it is no convolution.
KERNELS = (0, 0, 3, 1, 0, 0)
# The network that the table trained.
STACKS, CELLS_PER_STACK, STEM_CHANNELS = 3, 3, 128
# Images behind an accuracy of the table, which holds counts of right answers.
TEST_IMAGES = 9984
# The whole table made from the official file comes first, the compact one else.
SOURCES = ("nasbench101-fetched", "nasbench101")
# The operations of a cell share its channels: of the usual four each would have one, and nothing is learned.
ON_DIGITS = {"channels": 8, "image_batch": 64}

# Max pooling of 2 x 2 with stride 2 between two stacks.
DOWNSAMPLING = Cell((INPUT, DOWNSAMPLE, OUTPUT), ((0, 1, 0), (0, 0, 1), (0, 0, 0)), REDUCTION)


def alive(edges: np.ndarray) -> np.ndarray:
    """Return the edges (N, N) that lie on paths from the first vertex to the last.

    Raise UserError if there is no path.
    """
    # Powers of A + I count walks of up to so many edges, so a positive entry means: reached.
    steps = np.eye(len(edges), dtype=np.int64) + edges
    reach = np.linalg.matrix_power(steps, len(edges)) > 0
    kept = reach[0] & reach[:, -1]
    if not kept[0]:
        raise UserError("a cell must lead from its input to its output, got a disconnected one")
    return edges & kept[:, None] & kept


def vertex_channels(
    adjacency: np.ndarray,
    last: np.ndarray,
    c_out: int,
) -> np.ndarray:
    """Return the channels (B, N) of inner vertices, given adjacency (B, N, N) and output vertex `last` (B,).

    The vertices that feed the output share its `c_out` channels, and the first ones get the remainder. Every other
    vertex has as many channels as the widest vertex it feeds (`compute_vertex_channels` of NAS-Bench-101's code).
    Input, output and vertices that lead nowhere get 0.

    >>> edges = np.zeros((1, 4, 4), bool)
    >>> edges[0, [0, 0, 1, 1, 2], [1, 2, 2, 3, 3]] = True
    >>> vertex_channels(edges, np.array([3]), 5)
    array([[0, 3, 2, 0]])
    """
    into_output = np.take_along_axis(adjacency, last[:, None, None], 2)
    to_output = into_output[..., 0].astype(bool)
    to_output[:, 0] = False
    sharing = np.maximum(to_output.sum(1), 1)[:, None]
    share, remainder = np.divmod(c_out, sharing)
    # The first vertices that feed the output get one channel more until the remainder is used up.
    one_more = np.cumsum(to_output, 1) <= remainder
    channels = np.where(to_output, share + one_more, 0)
    for v in range(adjacency.shape[1] - 2, 0, -1):
        widest = (adjacency[:, v] * channels).max(1)
        channels[:, v] = np.where(to_output[:, v], channels[:, v], widest)
    return channels


def cell_parameters(
    adjacency: np.ndarray,
    last: np.ndarray,
    kernel: np.ndarray,
    c_in: int,
    c_out: int,
) -> np.ndarray:
    """Return the trainable parameters (B,) of pruned cells with convolutions of size `kernel` (B, N), 0 for none.

    Every convolution, projections included, has c_in * c_out * k * k weights and a batch normalisation with scale and
    shift. Vertices fed by the input read it through a 1 x 1 projection.
    """
    channels = vertex_channels(adjacency, last, c_out)
    rows = np.arange(len(adjacency))
    from_input = adjacency[:, 0].astype(bool)
    projected = np.where(from_input, channels, 0)
    projected[rows, last] = np.where(from_input[rows, last], c_out, 0)
    # Weights, and a scale and a shift a channel.
    convolution = channels**2 * kernel**2 + 2 * channels
    inner = np.where(kernel > 0, convolution, 0)
    return (inner + projected * (c_in + 2)).sum(1)


def write_cell(
    writer: ProgramWriter,
    edges: np.ndarray,
    kernels: Sequence[int],
    x: int,
    c_in: int,
    c_out: int,
) -> int:
    """Write one cell that reads value `x` and has `alive` edges (N, N). Return its value.

    An inner vertex sums its inputs, then applies a convolution of size `kernels[v]`, or max pooling for 0. The output
    joins its inputs. Vertices fed by the input read it through a 1 x 1 convolution. All convolutions are
    conv-norm-ReLU.

    NOTE[PAPER]: paper says nothing of the 1 x 1 projections that NAS-Bench-101 puts on the edges from the input; we
    make their weights from the mean of the features of both ends; because an edge has no node of its own.
    """
    last, position = len(kernels) - 1, writer.position
    width = vertex_channels(edges[None], np.array([last]), c_out)[0].tolist()
    width[last] = c_out
    used = [v for v in range(1, last) if edges[0][v] or edges[1:, v].any()]
    if 0 in [width[v] for v in used]:
        joined = edges[1:, last].sum()
        raise UserError(f"channels must be at least the {joined} vertices that the output joins, got {c_out}")
    conv = partial(writer.conv, stride=1, relu=False, relu_after=True)
    nothing = -1
    values = [x]
    for v in range(1, last + 1):
        inputs = tuple(values[u] for u in range(1, v) if edges[u, v])
        if v == last and inputs:
            inputs = (writer.concat(inputs, c_out),)
        if edges[0, v]:
            inputs += (conv((x,), c_in, width[v], 1, weight=(position, 0, v)),)
        if not inputs:
            value = nothing
        elif v == last:
            value = writer.add(inputs, c_out)
        elif kernels[v]:
            value = conv(inputs, width[v], width[v], kernels[v], weight=(position, v))
        else:
            value = writer.max_pool(inputs, width[v], kernel=3, stride=1, padding=1)
        values.append(value)
    return values[last]


class NASBench101(SearchSpace):
    """The search space of NAS-Bench-101."""

    name = "nasbench101"
    ops = ("input", "output", "conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3", "maxpool2x2")
    datasets = ("cifar10",)
    macro = "stem, 3 stacks of 3 cells with max pooling between, classifier"
    defaults: ClassVar[dict[str, Any]] = {"n_layers": 6, "width": 72, "hyper_layers": 3, "hyper_width": 96}
    profiles: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"cells_per_stage": CELLS_PER_STACK}}
    networks: ClassVar[dict[str, dict[str, Any]]] = {"quick": ON_DIGITS, "standard": ON_DIGITS}
    _sequence = ((0,) * CELLS_PER_STACK + (1,)) * (STACKS - 1) + (0,) * CELLS_PER_STACK
    _short = tuple(name.removesuffix("-bn-relu") for name in ops)
    # The 26 choices of the benchmark's own searches by hyperparameter: an edge or none for every pair of the seven
    # vertices, an operation for every inner vertex.
    choices: ClassVar[dict[str, Sequence[Any]]] = {
        **{f"edge {x}-{y}": (0, 1) for y in range(VERTICES) for x in range(y)},
        **{f"vertex {v}": ("conv3x3", "conv1x1", "maxpool3x3") for v in range(1, VERTICES - 1)},
    }

    def encode(
        self,
        n_vertices: np.ndarray,
        adj_bits: np.ndarray,
        ops: np.ndarray,
        graph_form: str,
    ) -> GraphBatch:
        """Return a GraphBatch from the columns of the table.

        They are n_vertices (B,), adj_bits (B,), whose bit x + y(y-1)/2 is the edge x -> y, and inner operations (B, 5)
        with 0 conv3x3, 1 conv1x1, 2 maxpool3x3. Graphs are pruned as in the official code. Nothing is left to contract,
        so `contracted` equals `pruned`.
        """
        b = len(n_vertices)
        last = n_vertices.astype(np.int64) - 1
        adjacency = np.zeros((b, VERTICES, VERTICES), np.uint8)
        for y in range(VERTICES):
            for x in range(y):
                adjacency[:, x, y] = (adj_bits >> (x + y * (y - 1) // 2)) & 1
        nodes = np.full((b, VERTICES), INPUT)
        inner = np.arange(1, VERTICES - 1) < last[:, None]
        nodes[:, 1:-1] = np.where(inner, ops + np.int64(CONV3), 0)
        mask = np.arange(VERTICES) <= last[:, None]
        nodes[np.arange(b), last] = OUTPUT
        if graph_form != "raw":
            # Few cells have something to prune, and pruning is slow: it is done for these alone. All vertices lie on
            # paths where each but the first has an edge in and each but the last an edge out, as edges only go upwards.
            fed = adjacency.max(1)[:, 1:] == mask[:, 1:]
            read = adjacency.max(2)[:, :-1] == mask[:, 1:]
            whole = (fed & read).all(1)
            self._prune(np.flatnonzero(~whole), last, nodes, adjacency, mask)
        return self._stack(nodes, adjacency, mask)

    def _prune(
        self,
        rows: np.ndarray,
        last: np.ndarray,
        nodes: np.ndarray,
        adjacency: np.ndarray,
        mask: np.ndarray,
    ) -> None:
        """Prune the cells `rows` where they are. Raises UserError where nothing is left."""
        if len(rows) == 0:
            return
        # `simplify` wants the output as the last node of all.
        ends = last[rows]
        into = adjacency[rows, :, ends]
        nodes[rows, ends] = 0
        nodes[rows, -1] = OUTPUT
        adjacency[rows, :, ends] = 0
        adjacency[rows, :, -1] = into
        pruned = simplify(nodes[rows], adjacency[rows], None, None, "pruned")
        nodes[rows], adjacency[rows], mask[rows] = pruned
        if not adjacency[rows].any((1, 2)).all():
            raise UserError("a nasbench101 cell must lead from input to output, got a disconnected one")

    def _stack(
        self,
        ops: np.ndarray,
        adjacency: np.ndarray,
        mask: np.ndarray,
    ) -> GraphBatch:
        """Cells (B, N) -> the whole networks, the downsampling between."""
        return with_second_cell(ops, adjacency, mask, DOWNSAMPLING, self._sequence, self)

    def _columns(self, architecture: Architecture) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The columns of one architecture. Raises UserError for a cell outside the space."""
        cell = architecture.cells[0]
        n = len(cell.ops)
        edges = [(x, y) for y in range(n) for x in range(y) if cell.adjacency[x][y]]
        if not 2 <= n <= VERTICES:
            raise UserError(f"a nasbench101 cell must have from 2 to {VERTICES} vertices, got {n}")
        if len(edges) > EDGES:
            raise UserError(f"a nasbench101 cell must have at most {EDGES} edges, got {len(edges)}")
        inner = cell.ops[1:-1]
        if cell.ops[0] != INPUT or cell.ops[-1] != OUTPUT or set(inner) - {CONV3, CONV1, POOL}:
            searched = ", ".join(self.ops[CONV3:DOWNSAMPLE])
            named = [self.ops[op] if op < len(self.ops) else str(op) for op in cell.ops]
            rule = f"a nasbench101 cell must be input, operations among {searched}, output"
            raise UserError(f"{rule}, got {', '.join(named)}")
        ops = np.zeros((1, VERTICES - 2), np.int64)
        ops[0, : n - 2] = np.array(inner) - CONV3
        bits = 0
        for x, y in edges:
            bits |= 1 << (x + y * (y - 1) // 2)
        return np.array([n]), np.array([bits]), ops

    def _architecture(self, graphs: GraphBatch) -> Architecture:
        plain = graphs.architecture(0)
        return Architecture(plain.cells, plain.sequence, self.format(plain.cells[0]))

    def canonical(
        self,
        architecture: Architecture,
        graph_form: str = "contracted",
    ) -> Architecture:
        """Return the architecture without vertices that lie on no path from input to output."""
        return self._architecture(self.encode(*self._columns(architecture), graph_form))

    def format(self, cell: Cell) -> str:
        """Return each vertex after the input with the vertices it reads: `conv3x3(0)|maxpool3x3(0,1)|output(1,2)`."""
        vertices = []
        for y, op in enumerate(cell.ops):
            sources = [str(x) for x in range(y) if cell.adjacency[x][y]]
            if op != INPUT:
                vertices.append(f"{self._short[op]}({','.join(sources)})")
        return "|".join(vertices)

    def parse(self, notation: str) -> Architecture:
        """`conv3x3(0)|maxpool3x3(0,1)|output(1,2)` -> the raw Architecture; vertex 0 is the input."""
        ops, n = [INPUT], notation.count("|") + 2
        adjacency = np.zeros((n, n), int)
        for y, part in enumerate(notation.split("|"), 1):
            vertex = re.fullmatch(r"([\w-]+)\(((?:\d{1,9}(?:,\d{1,9})*)?)\)", part.strip())
            if vertex is None:
                form = "conv3x3(0)|conv1x1(0,1)|output(1,2)"
                raise UserError(f"a nasbench101 cell lists its vertices as {form}, got {notation!r}")
            name, sources = vertex[1].removesuffix("-bn-relu"), vertex[2]
            check_operation(name, self._short[OUTPUT:DOWNSAMPLE])
            ops.append(self._short.index(name))
            for x in map(int, filter(None, sources.split(","))):
                if x >= y:
                    raise UserError(f"vertex {y} must read vertices before it, got {x} in {notation!r}")
                adjacency[x, y] = 1
        cell = Cell.with_edges(ops, adjacency)
        columns = self._columns(Architecture((cell,), (0,)))
        self.encode(*columns, "pruned")
        return self._architecture(self.encode(*columns, "raw"))

    def assignment(self, architecture: Architecture) -> dict[str, Any]:
        """Return the architecture as `choices`. The output is vertex 6; vertices that it lacks have no edges."""
        cell = self.canonical(architecture).cells[0]
        assignment: dict[str, Any] = {name: values[0] for name, values in self.choices.items()}
        # The places of the vertices among seven.
        place = [*range(len(cell.ops) - 1), VERTICES - 1]
        for y in range(len(cell.ops)):
            for x in range(y):
                assignment[f"edge {place[x]}-{place[y]}"] = int(cell.adjacency[x][y])
        for v, op in enumerate(cell.ops[1:-1], 1):
            assignment[f"vertex {v}"] = self._short[op]
        return assignment

    def architecture(self, assignment: Mapping[str, Any]) -> Architecture:
        """Return the pruned architecture of `choices`. Raise UserError if it is disconnected or has over 9 edges."""
        bits = 0
        for y in range(VERTICES):
            for x in range(y):
                bits |= assignment[f"edge {x}-{y}"] << (x + y * (y - 1) // 2)
        named = [assignment[f"vertex {v}"] for v in range(1, VERTICES - 1)]
        ops = np.array([[self._short.index(name) - CONV3 for name in named]])
        architecture = self._inside(np.array([VERTICES]), np.array([bits]), ops)
        if architecture is None:
            raise UserError(f"a nasbench101 cell must be connected and have at most {EDGES} edges, got {assignment}")
        return architecture

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw a random matrix of 7 vertices and random operations, prune it, and repeat until it is in the space."""
        while True:
            # 7 vertices have 21 pairs; each bit is an edge or none.
            bits = rng.integers(1 << 21, size=1)
            ops = rng.integers(3, size=(1, VERTICES - 2))
            architecture = self._inside(np.array([VERTICES]), bits, ops)
            if architecture is not None:
                return architecture

    def _inside(
        self,
        n_vertices: np.ndarray,
        bits: np.ndarray,
        ops: np.ndarray,
    ) -> Architecture | None:
        """The pruned architecture, None where it is disconnected or has too many edges."""
        try:
            architecture = self._architecture(self.encode(n_vertices, bits, ops, "pruned"))
            self._columns(architecture)
        except UserError:
            return None
        return architecture

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
    ) -> Architecture:
        """Add or remove one edge, change one operation, or insert a new vertex between two vertices.

        This repeats until the pruned result is another architecture inside the space.
        """
        architecture = self.canonical(architecture)
        cell = architecture.cells[0]
        while True:
            ops, edges = list(cell.ops), np.array(cell.adjacency)
            change, n = rng.integers(3), len(ops)
            x, y = np.sort(rng.choice(n, 2, replace=False))
            if change == 0:
                edges[x, y] ^= 1
            elif change == 1 and n > 2:
                v = int(rng.integers(1, n - 1))
                shift = int(rng.integers(1, 3))
                ops[v] = CONV3 + (ops[v] - CONV3 + shift) % 3
            elif change == 2 and n < VERTICES:
                ops.insert(y, int(rng.integers(CONV3, POOL + 1)))
                # A row and a column for the new vertex, which x feeds and which feeds what stood at its place.
                edges = np.insert(np.insert(edges, y, 0, 0), y, 0, 1)
                edges[x, y] = edges[y, y + 1] = 1
            cell_after = Cell.with_edges(ops, edges)
            try:
                other = self.canonical(Architecture((cell_after,), (0,)))
            except UserError:
                continue
            if other.notation != architecture.notation:
                return other

    def graphs(
        self,
        table: Table,
        graph_form: str,
    ) -> GraphBatch:
        columns = table.columns
        return self.encode(columns["n_vertices"], columns["adj_bits"], columns["ops"], graph_form)

    def build(
        self,
        architecture: Architecture,
        channels: int = 16,
        cells_per_stage: int = 3,
        stem_stride: int = 1,
    ) -> Program:
        """Return the network as a Program. With fewer than 3 cells a stack, each stack keeps its first ones."""
        check_cells_per_stage(cells_per_stage, CELLS_PER_STACK)
        self._columns(architecture)
        cell = architecture.cells[0]
        edges = alive(np.array(cell.adjacency, bool))
        kernels = [KERNELS[op] for op in cell.ops]
        writer = ProgramWriter(channels, stem_stride, position=0)
        x, c_in = writer.plain("relu", writer.stem(), channels), channels
        for stack in range(STACKS):
            start = stack * (CELLS_PER_STACK + 1)
            width = channels * 2**stack
            if stack:
                writer.position = start - 1
                x = writer.max_pool((x,), c_in, kernel=2, stride=2, padding=0)
            for writer.position in range(start, start + cells_per_stage):
                x = write_cell(writer, edges, kernels, x, c_in, width)
                c_in = width
        return writer.finish(x, norm_last=False)

    def count(self, architecture: Architecture) -> tuple[int, int]:
        """Return trainable parameters and multiply-adds of the table's network: 128-channel stem, 32 x 32 images."""
        return count(self.build(architecture, STEM_CHANNELS), image=(3, 32, 32), n_classes=10)

    def trainable_parameters(self, graphs: GraphBatch) -> np.ndarray:
        """Return the parameters (B,) of the network of each pruned architecture with the table's 128-channel stem."""
        ops = graphs.ops[:, 0].numpy()
        adjacency = graphs.adjacency[:, 0].numpy()
        last = graphs.mask[:, 0].sum(1).numpy() - 1
        kernel = np.array(KERNELS)[ops]
        stem = (3 * 3 * 3 + 2) * STEM_CHANNELS
        total, c_in = np.full(len(ops), stem), STEM_CHANNELS
        for stack in range(STACKS):
            width = STEM_CHANNELS * 2**stack
            first = cell_parameters(adjacency, last, kernel, c_in, width)
            # The first cell of a stack widens what it reads; the others keep the width.
            others = cell_parameters(adjacency, last, kernel, width, width)
            total = total + first + (CELLS_PER_STACK - 1) * others
            c_in = width
        return total + (c_in + 1) * 10

    def check(self, table: Table) -> str:
        """Recompute what the table states about every architecture. Raise UserError for the first row that differs."""
        stated = table.columns.get("trainable_parameters")
        if stated is None:
            raise UserError(f"a table to check must state trainable parameters, this one does not: {table.source}")
        counted = self.trainable_parameters(self.graphs(table, "pruned"))
        wrong = np.flatnonzero(counted != stated)
        if len(wrong):
            row = wrong[0]
            raise UserError(f"row {row} must have {counted[row]} trainable parameters, the table says {stated[row]}")
        return f"trainable parameters equal those recomputed from the graph in all {len(stated):,} rows"

    def table(self, dataset: str) -> Table:
        """Return the table that `hypernas data fetch` converted from the official file, or else the compact one."""
        path = next((path for path in map(find, SOURCES) if path is not None), None)
        if path is None:
            raise MissingTable("no nasbench101 table is present; `hypernas data fetch nasbench101` brings one")
        encodings = (
            "n_vertices",
            "adj_bits",
            "ops",
            "trainable_parameters",
        )
        accuracies = (
            "test_correct_sum3",
            "val_index",
            "val_correct",
        )
        arrays = load_npz(path, encodings + accuracies)
        rows = {len(arrays[name]) for name in (*encodings, "test_correct_sum3")}
        # The table that `fetch` makes has no known checksum.
        if len(rows) > 1 or arrays["val_correct"].shape != (len(arrays["val_index"]), 4):
            raise UserError(f"{path} must have a row for each cell, got columns that differ: fetch it again")
        # The sum of three runs, and one run at 4, 12, 36 and 108 epochs.
        test = arrays["test_correct_sum3"] / (3 * TEST_IMAGES) * 100
        validation = np.full(len(test), np.nan)
        validation[arrays["val_index"]] = arrays["val_correct"][:, 3] / TEST_IMAGES * 100
        columns = {name: arrays[name] for name in encodings}
        labelled = f"{len(test):,} cells, {np.isfinite(validation).sum():,} of them with validation accuracy"
        source = f"official NAS-Bench-101 accuracies after 108 epochs ({labelled})"
        return Table(source, "measured", columns, validation, test)


space = NASBench101()
