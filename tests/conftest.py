"""Random architectures of any size, and their isomorphic twins."""

import gc
import os
import shutil
import signal
import sys
import threading

import numpy as np
import pytest
import torch

from hypernas.graph import Architecture, Cell
from hypernas.lab.benchmark import Benchmark

# Rows are those of $HYPERNAS_RESULTS alone, or the shipped ones: what a user of this machine recorded is no part of it.
os.environ["HYPERNAS_LAYERED"] = "0"
# Only jsonschema wants it, for a check that no notebook needs, and the grammar that it builds takes seconds.
sys.modules.setdefault("rfc3987_syntax", None)
# What is imported and collected stays to the end; to look through it for garbage took a third of the collection.
gc.disable()
# A shell starts what it runs in the background with Ctrl-C ignored, and tests that press it would wait for nothing.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def random_cell(rng, n_nodes, n_ops=5, kind=0):
    """A cell of `n_nodes` whose input feeds all and whose output reads all, other edges by a coin."""
    adjacency = np.triu(rng.integers(2, size=(n_nodes, n_nodes)), 1)
    adjacency[0, 1:] = adjacency[:-1, -1] = 1
    ops = (0, *rng.integers(2, n_ops, n_nodes - 2).tolist(), 1)
    return Cell(ops, tuple(map(tuple, adjacency.tolist())), kind)


def shuffled_cell(rng, cell):
    """The same cell with its nodes between input and output in another topological order."""
    adjacency, n = np.array(cell.adjacency), len(cell.ops)
    order, waiting = [0], set(range(1, n - 1))
    while waiting:
        ready = [i for i in sorted(waiting) if not any(adjacency[j, i] for j in waiting)]
        order.append(ready[rng.integers(len(ready))])
        waiting.remove(order[-1])
    order.append(n - 1)
    rows = tuple(map(tuple, adjacency[np.ix_(order, order)].tolist()))
    return Cell(tuple(cell.ops[i] for i in order), rows, cell.kind)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def architecture(rng):
    """A function (sequence, n_nodes) -> random architecture with a normal and a reduction cell."""

    def make(sequence=(0, 0, 1, 0), n_nodes=(6, 4)):
        cells = tuple(random_cell(rng, n, kind=kind) for kind, n in enumerate(n_nodes))
        return Architecture(cells, tuple(sequence))

    return make


@pytest.fixture
def twin(rng):
    """A function architecture -> the same with the nodes of its cells in another order."""
    return lambda a: Architecture(tuple(shuffled_cell(rng, cell) for cell in a.cells), a.sequence)


@pytest.fixture(scope="session")
def nasbench201():
    """The whole space with the labels that are at hand, at least the embedded ones."""
    return Benchmark("nasbench201", "cifar10")


@pytest.fixture
def double():
    """Tensors and models of the test are float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium that can resolve no name, one for all tests of a process."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("chromium and its driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    blocked = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", blocked):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()
