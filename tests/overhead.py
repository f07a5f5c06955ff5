"""What the runner costs: 40 rows of `trees` by a plain loop, by one worker and by two.

`python tests/overhead.py [ROWS]` prints seconds by the clock and of the processors, and both as shares of the plain
loop's. On a machine that others use too, only the processors' seconds mean something: the loop's share of them that two
workers take, divided by two, is the least that their clock can show on two idle cores.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PLACE = ("--space", "nasbench201", "--dataset", "cifar10", "--method", "trees", "--n-train", "78")
LOOP = """
import sys
from hypernas.lab.experiment import Experiment
from hypernas.lab.recording import run
for seed in range(int(sys.argv[1])):
    run(Experiment("few_shot", "nasbench201", "cifar10", "trees", 78, 1000 + seed, "standard"), progress=False)
"""
# Seconds between two looks at what the processes have used.
LOOK_SECONDS = 0.1


def processor_seconds(session):
    """By process of a session: what it has used so far."""
    used = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = stat.read_text().rpartition(")")
            values = fields.split()
        except OSError:
            continue
        if int(values[3]) == session:
            used[int(name.split()[0])] = (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
    return used


def measured(words, folder):
    """Seconds by the clock, and of the processors by process."""
    environment = {**os.environ, "HYPERNAS_RESULTS": str(folder), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    used, over = {}, threading.Event()

    def look():
        while not over.wait(LOOK_SECONDS):
            used.update(processor_seconds(process.pid))

    thread = threading.Thread(target=look)
    thread.start()
    process.communicate()
    clock = time.perf_counter() - start
    over.set()
    thread.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    return clock, sorted(used.values(), reverse=True)


def main():
    rows = sys.argv[1] if len(sys.argv) > 1 else "40"
    command = [sys.executable, "-m", "hypernas", "experiment", *PLACE, "--seed", f"1000:{1000 + int(rows)}"]
    ways = {
        "plain loop": [sys.executable, "-c", LOOP, rows],
        "1 worker": [*command, "--workers", "1"],
        "2 workers": [*command, "--workers", "2"],
    }
    first = None
    for name, words in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            clock, used = measured(words, folder)
            first = first or (clock, sum(used))
            each = ", ".join(f"{seconds:.1f}" for seconds in used if seconds >= 0.1)
            shares = f"{clock / first[0]:.2f} and {sum(used) / first[1]:.2f} times the loop's"
            print(
                f"{name:<11} {clock:6.1f} s by the clock, {sum(used):6.1f} s of processors ({each}); {shares}",
                flush=True,
            )


if __name__ == "__main__":
    main()
