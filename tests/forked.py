"""Processes that are copies of one which has imported the library: they start in a tenth of the time."""

import os
import signal
import time
from multiprocessing import get_context
from multiprocessing.reduction import DupFd

# Not Matplotlib, which asks for its backend when it is imported, and a kernel says which.
# A process of tests has one such parent, whichever of them asks first, so the list serves all of them.
IMPORTED = ["forked", "hypernas.lab.pages", "pandas", "scipy.stats", "ipykernel.kernelapp"]
IMPORTED += ["hypernas.search.ask_tell", "hypernas.spaces.nasbench201", "sklearn.linear_model"]


def forked(work, *arguments):
    """A started process of its own that does `work`."""
    context = get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def run_kernel(arguments, environment, errors):
    """What `python -m ipykernel_launcher` does, in a process that has imported everything."""
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(errors.detach(), 2)
    launch_new_instance(argv=arguments)


class ForkedKernel:
    """In place of the `Popen` of a kernel that Jupyter's client starts with these words."""

    stdin = stdout = stderr = None

    def __init__(self, command, env, stderr, **_):
        arguments = command[command.index("-f") :]
        self.process = forked(run_kernel, arguments, env, DupFd(stderr.fileno()))
        self.pid = self.process.pid
        # Until it leads a group of its own, a signal to its group would reach the tests.
        while self.poll() is None and os.getpgid(self.pid) != self.pid:
            time.sleep(0.01)

    def poll(self):
        return self.process.exitcode

    def wait(self):
        self.process.join()
        return self.poll()

    def send_signal(self, number):
        os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)
