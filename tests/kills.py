"""Kill each long command at random moments, run it again, and compare: `python tests/kills.py [kills] [command ...]`.

What the second run leaves must equal an undisturbed run in all but seconds and dates, with no file more or less.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import official

SMALL = ["--set", "n_layers=1", "--set", "width=8", "--epochs", "6", "--threads", "1"]
GENOTYPE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"
)
COMMANDS = {
    "experiment": [
        "experiment", "--space", "nasbench201_depth", "--dataset", "digits", "--method", "hypernas-p", "--n-train",
        "30", "--seed", "100:103", *SMALL,
    ],
    "grid": ["grid", "peers", "--only", "method=trees", "--only", "space=nasbench201", "--only", "n_train=78"],
    "label": [
        "label", "--space", "nasbench201", "--images", "digits", "--n", "4", "--epochs", "1", "--seed", "0",
        "--channels", "4", "--cells-per-stage", "1", "--out", "table.parquet",
    ],
    "search": [
        "search", "--space", "nasbench201_depth", "--method", "guided", "--queries", "40", "--seed", "100:102",
        "--oracle", "table", "--threads", "1", "--set", "epochs=4", "--set", "width=8", "--set", "n_layers=1",
    ],
    "zero-cost": ["zero-cost", "--space", "nasbench201_depth", "--methods", "params,synflow", "--n", "6",
                  "--seed", "100"],
    "train": [
        "train", "--arch", "arch.txt", "--images", "digits", "--epochs", "2", "--channels", "4", "--n-images", "200",
        "--batch", "50", "--auxiliary", "0", "--threads", "1",
    ],
    "run": ["run", "page.ipynb", "-o", "out"],
    "fetch": ["data", "fetch", "nasbench101"],
}  # fmt: skip
# What tells one run from another of the same thing.
UNEQUAL = ("seconds", "seconds_per_architecture", "started", "device", "commit")


def notebook() -> str:
    """A notebook of a few cells that takes a second."""
    sources = ["profile = 'quick'", "import time\ntime.sleep(0.5)", "print(6 * 7)"]
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["parameters"] if i == 0 else []}, "source": source, "outputs": [],
         "execution_count": None, "id": f"cell{i}"}
        for i, source in enumerate(sources)
    ]  # fmt: skip
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def folder_of(name: str) -> Path:
    """An empty place with what the command reads."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    (folder / "arch.txt").write_text(GENOTYPE, encoding="utf-8")
    (folder / "page.ipynb").write_text(notebook(), encoding="utf-8")
    return folder


# The command line with the address and the checksum of the test's own server in place of the official file's.
OWN_SERVER = """
import json, os, sys
from dataclasses import replace
from hypernas.cli import main
from hypernas.data import catalogue, fetch
name, changed = json.loads(os.environ["KILLS_SOURCE"])
known = tuple(replace(one, **changed) if one.name == name else one for one in catalogue.sources())
catalogue.sources = fetch.sources = lambda: known
main()
"""


class SlowServer(BaseHTTPRequestHandler):
    """Serves `server.content`, from the byte that is asked for, in pieces that take their time."""

    def do_GET(self) -> None:
        content = self.server.content  # type: ignore[attr-defined]
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        step = len(content) // 20
        with suppress(ConnectionError):
            for i in range(start, len(content), step):
                self.wfile.write(content[i : i + step])
                time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def own_server() -> Iterator[None]:
    """A server of an official file of some modules, which the commands that are started know."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowServer) as server:
        content = b"".join(map(official.frame, official.modules(400)[0]))
        server.content = content  # type: ignore[attr-defined]
        address = f"http://127.0.0.1:{server.server_port}/nasbench_only108.tfrecord"
        changed = {"url": address, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        os.environ["KILLS_SOURCE"] = json.dumps(["nasbench101-official-108", changed])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def started(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    own = {"HYPERNAS_RESULTS": str(folder / "results"), "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    program = ["-c", OWN_SERVER] if words == COMMANDS["fetch"] else ["-m", "hypernas"]
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *program, *words],
            cwd=folder, env=os.environ | own, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def rows_of(folder: Path) -> list[str]:
    """The rows of all results files without what may differ, and how tables and notebooks look."""
    rows = []
    for path in sorted((folder / "results").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows.append(json.dumps({key: value for key, value in row.items() if key not in UNEQUAL}, sort_keys=True))
    if (folder / "table.parquet").exists():
        import pandas as pd

        rows.append(pd.read_parquet(folder / "table.parquet").to_csv())
    for path in sorted((folder / "cache").rglob("nasbench101_official.npz")):
        rows.append(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return sorted(rows)


def files_of(folder: Path) -> list[str]:
    """All files below a folder; locks may stay."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def tried(name: str, kills: int) -> tuple[int, list[str]]:
    """Kill a command at so many random moments -> how many died before their end, and what was wrong afterwards."""
    words, rng, wrong, died = COMMANDS[name], random.Random(name), [], 0
    reference = folder_of(name)
    start = time.perf_counter()
    if started(words, reference).wait() != 0:
        return 0, [f"the undisturbed run fails, see {reference}.log"]
    seconds = time.perf_counter() - start
    for _ in range(kills):
        folder = folder_of(name)
        process = started(words, folder)
        moment = rng.uniform(0.15, 1.0) * seconds
        time.sleep(moment)
        if process.poll() is None:
            died += 1
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        code = started(words, folder).wait()
        if code != 0:
            wrong.append(f"{moment:.1f} s: exit code {code}, see {folder}.log")
        elif rows_of(folder) != rows_of(reference):
            wrong.append(f"{moment:.1f} s: other rows, see {folder}")
        elif files_of(folder) != files_of(reference):
            more = sorted({*files_of(folder)} ^ {*files_of(reference)})
            wrong.append(f"{moment:.1f} s: other files: {more}")
    return died, wrong


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    for one in sys.argv[2:] or COMMANDS:
        with own_server() if one == "fetch" else nullcontext():
            killed, problems = tried(one, number)
        print(f"{one}: {number} tried, {killed} killed before the end, {len(problems)} wrong", flush=True)
        for problem in problems:
            print(f"  {problem}", flush=True)
