"""Training and inference of the engine beside padded transformers: one table, one plot, a profile.

    python benchmarks/speed/engine.py --json engine.json --plot engine.svg
    python benchmarks/speed/engine.py --device cuda --rounds 3
    python benchmarks/speed/engine.py --only bucketed dual --rounds 3 --no-profile
    python benchmarks/speed/engine.py --compare main . --only dual      # two revisions, alternating

PhysioNet 2012, set a, width 64, two layers, four heads.  What the variants are, and where they
differ from each other beyond what their names say, is written in ``_variants.py``.  Each runs in a
process of its own, on the same tokenised stays; rounds take turns (A B C A B C ...).  What to know
when reading the result:

- Events per second are events of the stays, padding not counted.  An epoch is batches, forward,
  loss, backward, optimiser and what skorch does around them; the first epoch is not counted.
- Slow variants see fewer stays, spread evenly over all lengths, so that the mean length is that of
  the data; in ``padded`` every stay costs what the longest of all 4,000 costs.
- Ratios are of medians over rounds; behind them the smallest and largest ratio within a round.  On
  a CPU with one thread they are of CPU time, which other load on the machine hardly changes, else
  of wall-clock time (``--basis``).
- A ``fit`` of ours takes one thread for each network, whatever ``--threads`` says.  On a CPU our
  predictions are computed in double precision, those of the peers in single precision.
- Memory is the peak over what the process held before, so data and imports are not in it; MB are
  10^6 bytes.  In a round of training it includes what an estimator prepares in ``fit``.
- MFU is the floating point operations of matrix products, counted in a run on the CPU, over the
  time they take and the best rate of ``F.linear`` on this machine, with the precision that is
  stated.  Work that is no matrix product counts as time only.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from _compare import compare
from _measure import describe, machine, short, usual_basis, write_json
from _report import KINDS, LABELS, plot, profile_text, summarise, table
from _stays import stays
from _workers import Answer, Worker, start_all, take_turns

from tawt_sklearn import TripletSequencer


def main() -> None:
    options = parse()
    jobs = {name: job(options, name) for name in options.only}
    if options.compare:
        compare(options, jobs)
        return
    found = machine(options.device, options.threads)
    print(f"{describe(found)}; ratios of {options.basis} time, {options.rounds} rounds\n")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tokens = tokenise(folder)
        workers = start_all(
            stack, {name: {**j, "tokens": tokens} for name, j in jobs.items()}, options.threads
        )
        rounds = take_turns(workers, options.rounds, report=progress)
        profiles = {} if options.no_profile else ask_profiles(workers)
    figures = summarise(rounds, options.basis)
    print("\n" + table(figures) + "\n")
    for name, profile in profiles.items():
        print(profile_text(name, profile, figures, options.basis))
    if options.json:
        settings = {k: v for k, v in vars(options).items() if not isinstance(v, Path)}
        results = {"machine": found, "options": settings, "figures": figures}
        write_json(options.json, {**results, "profiles": profiles, "rounds": rounds})
    if options.plot:
        plot(figures, profiles, options.basis, describe(found), options.plot)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [name for name in LABELS if name != "bucketed-off"]
    parser.add_argument("--only", nargs="+", choices=names, metavar="VARIANT", help=f"of {names}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1, help="timed epochs in a round")
    parser.add_argument("--stays", type=int, help="the same number for all variants")
    parser.add_argument("--d-model", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", help="of the estimators and of (b)")
    parser.add_argument(
        "--params", type=json.loads, default={}, help='further ones of them, {"compile": true}'
    )
    parser.add_argument("--peer-batch", type=int, help="stays in a batch of (b)")
    parser.add_argument("--basis", choices=("cpu", "wall"), help="clock that ratios are taken from")
    parser.add_argument("--no-profile", action="store_true")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--plot", type=Path, help="draw them here")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="REVISION",
        help='two revisions of git instead, "." being the working tree',
    )
    options = parser.parse_args()
    options.basis = options.basis or usual_basis(options.device, options.threads)
    options.only = options.only or (["dual", "event"] if options.compare else names)
    return options


def job(options: argparse.Namespace, name: str) -> Answer:
    """What the worker of a variant is told."""
    return {
        "variant": name,
        "device": options.device,
        "n_threads": options.threads,
        "precision": options.precision,
        "d_model": options.d_model,
        "epochs": options.epochs,
        "n_rows": options.stays,
        "peer_batch": options.peer_batch,
        "params": options.params,
        "tokens": None,
    }


def tokenise(folder: Path) -> str:
    """The stays that all variants are given, in a file that only this run reads."""
    path = folder / "tokens.pickle"
    X, y = stays(True)
    path.write_bytes(pickle.dumps((TripletSequencer().fit_transform(X), y)))
    return str(path)


def progress(name: str, turn: int, answer: Answer) -> None:
    """One line for each measurement, as it comes."""
    if "unavailable" in answer:
        if turn:
            return
        text = answer["unavailable"]
    else:
        text = ", ".join(
            f"{kind} {short(answer['n_events'] / answer[kind]['wall'])} events/s "
            f"({1e6 * answer[kind]['cpu'] / answer['n_events']:.1f} us CPU an event)"
            for kind in KINDS
        )
    print(f"round {turn + 1}: {name}: {text}", file=sys.stderr, flush=True)


def ask_profiles(workers: dict[str, Worker]) -> dict[str, Answer]:
    """Profiles of the variants that have one."""
    answers = {n: workers[n].ask("profile") for n in ("event", "dual") if n in workers}
    return {name: answer for name, answer in answers.items() if "unavailable" not in answer}


if __name__ == "__main__":
    main()
