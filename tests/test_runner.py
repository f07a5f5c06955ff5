"""Claims about the runner: every job is done once and told once, wherever it runs and whatever happens to a worker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hypernas.errors import UserError
from hypernas.lab.leases import Leases
from hypernas.lab.runner import Runner, Workers


def work(job):
    number, folder = job
    marks = Path(folder)
    with (marks / f"{number}").open("a") as file:
        file.write("x")
    if number == 3:
        raise ValueError("no luck")
    if number == 5 and len((marks / "5").read_text()) == 1:
        os.kill(os.getpid(), 9)
    return number * number


@pytest.fixture(scope="module")
def two_workers():
    with Runner(Workers(2)) as runner:
        yield runner


def told(runner, jobs):
    return {done.job[0]: done for done in runner.map(work, jobs)}


def test_a_killed_worker_loses_no_job_and_a_failure_is_told(two_workers, tmp_path):
    done = told(two_workers, [(number, str(tmp_path)) for number in range(8)])
    assert sorted(done) == list(range(8))
    assert isinstance(done[3].error, ValueError)
    assert done[3].where.partition(" ")[2] in ("0", "1")
    assert done[3].seconds > 0
    assert {number: each.result for number, each in done.items() if number != 3} == {
        n: n * n for n in range(8) if n != 3
    }
    assert (tmp_path / "5").read_text() == "xx"


def test_the_workers_of_a_running_scheduler_do_the_work(two_workers, tmp_path):
    with Runner(Workers(scheduler=two_workers._client.scheduler.address)) as runner:
        done = told(runner, [(number, str(tmp_path)) for number in (2, 4)])
        assert {number: each.result for number, each in done.items()} == {2: 4, 4: 16}


def test_jobs_are_drawn_when_there_is_room_for_them(two_workers, tmp_path):
    drawn = []

    def jobs():
        for number in range(10, 70):
            drawn.append(number)
            yield number, str(tmp_path)

    outcomes = two_workers.map(work, jobs())
    next(outcomes)
    assert len(drawn) <= 32
    assert len(list(outcomes)) == 59


def test_one_job_runs_in_this_process_as_it_is_drawn(tmp_path):
    with Runner() as runner:
        outcomes = runner.map(work, ((number, str(tmp_path)) for number in (2, 3)))
        assert next(outcomes).result == 4
        assert not (tmp_path / "3").exists()
        assert str(next(outcomes).error) == "no luck"


def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr("hypernas.lab.runner.ANSWER_SECONDS", 0.2)
    with pytest.raises(UserError, match="the scheduler must be the address of a running one"):
        Runner(Workers(scheduler="tcp://127.0.0.1:1")).__enter__()


def test_work_is_taken_by_one_and_free_when_its_holder_gives_it_back_or_is_gone(tmp_path):
    with Leases(tmp_path) as first, Leases(tmp_path) as second:
        assert first.take(["a", "b"])
        assert not second.take(["b", "c"])
        assert second.take(["c"])
        first.give_back(["a", "b"])
        assert second.take(["b"])
    assert list(tmp_path.glob("*.lease")) == []


TAKE = """
import sys
from pathlib import Path
from hypernas.lab.leases import Leases
with Leases(Path(sys.argv[1])) as leases:
    print(leases.take(["work"]), flush=True)
    sys.stdin.read()
"""


def test_the_lease_of_a_killed_process_is_free_at_once(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", TAKE, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process, Leases(tmp_path) as other:
        assert process.stdout.readline() == b"True\n"
        assert not other.take(["work"])
        process.kill()
        process.wait()
        assert other.take(["work"])
        other.clean()
        assert len(list(tmp_path.glob("*.holder"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
