"""Processes of their own for what is compared: each has its memory and its version of the package.

A worker is a script that calls :func:`serve`.  It stays alive between the rounds, so that rounds of
several workers can take turns without paying for imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).resolve().parent
Answer = dict[str, Any]


class Worker:
    """A script in a process of its own that answers questions.

    Parameters
    ----------
    script : str
        File beside this one, which calls :func:`serve`.
    job : dict
        What it is to measure.
    n_threads : int
        Threads of OpenMP and MKL.
    package : Path, optional
        Folder that ``tawt_sklearn`` is imported from, if not the one installed.
    """

    def __init__(
        self, script: str, job: Answer, *, n_threads: int = 1, package: Path | None = None
    ) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": str(n_threads), "MKL_NUM_THREADS": str(n_threads)}
        if package is not None:
            env["PYTHONPATH"] = os.pathsep.join(
                part for part in (str(package), env.get("PYTHONPATH")) if part
            )
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.ready = self._send(job)

    def ask(self, question: str) -> Answer:
        """Answer to a question; ``{"unavailable": why}`` where there is none."""
        return self.ready if "unavailable" in self.ready else self._send({"question": question})

    def _send(self, message: Answer) -> Answer:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        return {"unavailable": f"its process ended with code {self.process.wait()}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End it: without questions it ends by itself, after an error it is killed."""
        if error[0] is not None:
            self.process.kill()
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.stdout.close()
        self.process.wait()


def serve(start: Callable[[Answer], Callable[[str], Answer]]) -> None:
    """Be a worker: the first line of the input is the job, every further one a question.

    Parameters
    ----------
    start : callable
        From the job to what answers the questions.  A ``NotImplementedError`` says what this
        version of the package cannot do.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # prints must not pass for answers
    respond: Callable[[str], Answer] | None = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if respond is None:
                respond, answer = start(message), {}
            else:
                answer = respond(message["question"])
        except (NotImplementedError, MemoryError) as error:
            answer = {"unavailable": f"{error}" or type(error).__name__}
        answers.write(json.dumps(answer, default=float) + "\n")
        answers.flush()


def once(script: str, job: Answer, *, n_threads: int = 1) -> Answer:
    """The one answer of a worker."""
    with Worker(script, job, n_threads=n_threads) as worker:
        return worker.ask("measure")


def take_turns(
    workers: Mapping[str, Worker],
    n_rounds: int,
    *,
    mirrored: bool = False,
    report: Callable[[str, int, Answer], None] | None = None,
) -> dict[str, list[Answer]]:
    """Answers of all workers, one after the other, round after round.

    Parameters
    ----------
    mirrored : bool
        Whether every second round goes backwards.
    report : callable, optional
        Told the name, the round and the answer of each.
    """
    found: dict[str, list[Answer]] = {name: [] for name in workers}
    for turn in range(n_rounds):
        names = list(workers)
        for name in reversed(names) if mirrored and turn % 2 else names:
            answer = workers[name].ask("measure")
            found[name].append(answer)
            if report is not None:
                report(name, turn, answer)
    return found


def start_all(stack: ExitStack, jobs: Mapping[str, Answer], n_threads: int) -> dict[str, Worker]:
    """Workers over the variants, which end with the stack."""
    return {
        name: stack.enter_context(Worker("_variants.py", job, n_threads=n_threads))
        for name, job in jobs.items()
    }
