"""Two revisions of the package, measured alternately: paired ratios with their spread."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from _measure import describe, machine, markdown, short, write_json
from _workers import Answer, Worker, take_turns

ROOT = Path(__file__).resolve().parents[2]
WORKING_TREE = (".", "WORK")


def compare(options: argparse.Namespace, jobs: dict[str, Answer]) -> None:
    """Measure variants of both revisions in turns (A B, B A, ...) and print ratios.

    Each revision makes its own tokens.
    """
    found = machine(options.device, options.threads)
    print(f"{describe(found)}; {options.rounds} pairs, {options.basis} time\n")
    results = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = ("A", "B")
        packages = [
            checked_out(revision, folder / side)
            for side, revision in zip(sides, options.compare, strict=True)
        ]
        for name, job in jobs.items():
            with ExitStack() as pair:
                workers = {
                    side: pair.enter_context(
                        Worker(
                            "_variants.py",
                            job,
                            n_threads=options.threads,
                            package=package,
                        )
                    )
                    for side, package in zip(sides, packages, strict=True)
                }
                for side, package in zip(sides, packages, strict=True):
                    _require(workers[side], package)
                rounds = take_turns(workers, options.rounds, mirrored=True, report=_progress)
            results[name] = pairs_of(rounds, options.basis)
    print(text_of(results, options.compare))
    if options.json:
        write_json(
            options.json, {"machine": found, "revisions": options.compare, "figures": results}
        )


def checked_out(revision: str, folder: Path) -> Path:
    """The folder that holds ``tawt_sklearn`` as it was in a revision of git.

    By ``git archive``: unlike a worktree it leaves no trace in the repository, however the
    benchmark ends.
    """
    if revision in WORKING_TREE:
        return ROOT
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", revision, "tawt_sklearn"],
        check=True,
        capture_output=True,
    ).stdout
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _require(worker: Worker, package: Path) -> None:
    """That a worker has the revision it is named after."""
    folder = worker.ask("package").get("folder")
    if folder is not None and Path(folder) != package.resolve():
        raise RuntimeError(f"Expected the package to be imported from {package}. Got {folder}.")


def pairs_of(rounds: dict[str, list[Answer]], basis: str) -> dict[str, Any]:
    """Time and memory of B over A, pair by pair."""
    for side, answers in rounds.items():
        if "unavailable" in answers[0]:
            return {"unavailable": f"{side}: {answers[0]['unavailable']}"}
    found = {}
    for kind in ("train", "infer"):
        a, b = (
            np.array([answer[kind][basis] / answer["n_events"] for answer in rounds[side]])
            for side in ("A", "B")
        )
        found[f"{kind} time"] = _paired(a, b)
        key = "gpu_memory" if rounds["A"][0]["gpu_memory"]["train"] else "memory"
        a, b = (np.array([x[key][kind] for x in rounds[side][:1]]) for side in ("A", "B"))
        found[f"{kind} memory"] = _paired(a, b)
    return found


def _paired(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    return {
        "A": a.tolist(),
        "B": b.tolist(),
        "ratio": float(np.median(b / a)),
        "quartiles": np.quantile(b / a, [0.25, 0.75]).tolist(),
        "n_lower": int((b < a).sum()),
        "n_pairs": len(a),
    }


def text_of(results: dict[str, Any], revisions: list[str]) -> str:
    """A table of ratios, and what they mean."""
    rows = []
    for name, found in results.items():
        if "unavailable" in found:
            rows.append([f"{name}: {found['unavailable']}", *[""] * 5])
            continue
        for what, pair in found.items():
            unit = 1e6 if "time" in what else 1e-6
            rows.append(
                [
                    f"{name}, {what}",
                    short(unit * float(np.median(pair["A"]))),
                    short(unit * float(np.median(pair["B"]))),
                    f"{pair['ratio']:.3f}",
                    " to ".join(f"{q:.3f}" for q in pair["quartiles"]),
                    f"{pair['n_lower']} of {pair['n_pairs']}",
                ]
            )
    header = ["us/event, MB", f"A: {revisions[0]}", f"B: {revisions[1]}", "B / A, median of pairs"]
    header += ["quartiles", "B is lower in"]
    note = "Memory is of the first pair alone, when the processes are fresh."
    return f"{markdown(header, rows)}\n\n{note}"


def _progress(side: str, turn: int, answer: Answer) -> None:
    what = answer.get("unavailable") or f"{answer['train']['wall']:.2f} s an epoch"
    if turn and "unavailable" in answer:
        return
    print(f"pair {turn + 1}: {side}: {what}", file=sys.stderr, flush=True)
