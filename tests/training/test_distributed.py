"""Two processes train one net: the same curve, the same weights, one writer, and no hanging."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tawt_sklearn import TimeAwareClassifier
from tawt_sklearn.exceptions import DeviceError, TrainingError
from tawt_sklearn.training import processes
from tawt_sklearn.training.distributed import joined, launched, rank_here
from tawt_sklearn.training.processes import (
    INTERRUPTED,
    TIMEOUT,
    TIMEOUT_VARIABLE,
    CtrlC,
    Several,
    waiting_time,
)
from tawt_sklearn.training.shares import SharedRows

SCRIPT = Path(__file__).with_name("job.py")
CPU = torch.device("cpu")
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def environment(**more: str) -> dict[str, str]:
    """That of a process which no launcher has started."""
    plain = {name: value for name, value in os.environ.items() if name not in LAUNCHER}
    return {**plain, "OMP_NUM_THREADS": "1", TIMEOUT_VARIABLE: "60", **more}


def run_two(what: str, folder: Path) -> list[subprocess.CompletedProcess]:
    """Two processes that find each other by themselves, without a launcher that watches them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    files = [folder / f"{rank}.err" for rank in range(2)]
    job = []
    for number, file in enumerate(files):
        rank = {"RANK": str(number), "LOCAL_RANK": str(number), "MASTER_PORT": port}
        with file.open("w") as said:
            job.append(
                subprocess.Popen(
                    [sys.executable, str(SCRIPT), what, str(folder)],
                    env=environment(**here, **rank),
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                )
            )
    try:
        codes = [process.wait(timeout=240) for process in job]
    finally:
        for process in job:
            process.kill()
            process.wait()
    return [
        subprocess.CompletedProcess([], code, "", file.read_text())
        for code, file in zip(codes, files, strict=True)
    ]


@pytest.fixture(scope="module")
def job() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("tawt_job", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["tawt_job"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> list[dict[str, Any]]:
    """What each of two processes has found, and how it ended."""
    pytest.importorskip("accelerate")
    folder = tmp_path_factory.mktemp("job")
    done = run_two("all", folder)
    files = [folder / f"{rank}.json" for rank in range(2)]
    assert all(file.exists() for file in files), "".join(one.stderr[-2000:] for one in done)
    answers = [json.loads(file.read_text()) for file in files]
    return [
        {**answer["random"], "runs": answer["certain"], "code": end.returncode, "said": end.stderr}
        for answer, end in zip(answers, done, strict=True)
    ]


# ---- the same as one process -------------------------------------------------------------------


def test_the_loss_curves_are_those_of_a_single_process(told, job):
    alone = job.certain_runs()
    assert told[0]["runs"] == told[1]["runs"]
    assert len(alone["classifier"]["train_loss"]) == 3
    for name, expected in alone.items():
        found = told[0]["runs"][name]
        for column in expected if isinstance(expected, dict) else [None]:
            one, two = (run if column is None else run[column] for run in (expected, found))
            tolerance = 1e-3 if column == "effective_rank" else 1e-5
            np.testing.assert_allclose(two, one, rtol=0, atol=tolerance, err_msg=f"{name} {column}")


def test_memory_that_runs_out_in_one_process_changes_nothing(told):
    runs = [answer["short of memory"] for answer in told]
    assert [run["parts"] for run in runs] == [1, 2]
    assert runs[0]["digest"] == runs[1]["digest"]
    expected = told[0]["runs"]["classifier"]["train_loss"]
    np.testing.assert_allclose(runs[0]["curve"]["train_loss"], expected, rtol=0, atol=1e-5)


# ---- together ----------------------------------------------------------------------------------


def test_processes_see_and_draw_other_things_and_end_with_the_same_weights(told):
    one, two = told
    assert one["drawn"] != two["drawn"] and one["events"] != two["events"]
    assert one["once"] == one["again"] == two["once"] == two["again"]
    for name in ("seedless", "encoder", "encoder curve", "several"):
        assert one[name] == two[name], name


def test_shares_are_disjoint_and_complete():
    class Rows:
        def __len__(self):
            return 100

        def __getitems__(self, rows):
            return np.array(rows), (np.array(rows),)

    asked = [7, 3, 50, 99, 4, 8, 1]
    for number in (2, 3, 8):
        shares = [SharedRows(Rows(), rank, number).__getitems__(asked) for rank in range(number)]
        assert np.concatenate([share.own for share, _ in shares]).tolist() == asked
        assert all(len(share) == 7 for share, _ in shares)
        assert len({share.key for share, _ in shares}) == 1
        assert max(len(share.own) for share, _ in shares) <= -(-7 // number)


def test_one_process_that_stops_takes_the_other_with_it(told):
    for name, n_epochs in (("early", 2), ("cut", 1)):
        assert told[0][name] == told[1][name]
        assert told[0][name][1] == n_epochs


def test_only_the_first_one_writes_and_warns(told):
    for answer in told:
        assert answer["written"]["files"] == ["saved-by-0.tawt"]
    assert [answer["written"]["checkpoints"] for answer in told] == [1, 0]
    assert [answer["warned"] for answer in told] == [["TrainingWarning"], []]
    assert ["3/3" in answer["said"] for answer in told] == [True, False]  # a progress bar


def test_a_run_goes_on_where_it_ended(told):
    for answer in told:
        assert answer["written"]["resumed"] == answer["written"]["found"] == answer["once"]
    assert len(told[0]["written"]["after_crash"]) == 1


def test_an_error_in_one_process_ends_both(told):
    first, second = (answer["written"]["said"] for answer in told)
    assert second == "RuntimeError: crash"
    assert first.startswith("OtherFailedError") and "look for it in the output" in first


def test_what_differs_between_processes_is_told_to_both(told):
    for answer in told:
        odd = answer["odd"]
        assert "Got different rows" in odd["rows"]
        assert "Got different vocabulary or scaling. Give the same rows" in odd["units"]
        assert "Got different labels" in odd["names"]
        assert "Got dropout: 0.1 or 0.6." in odd["parameters"]
        assert "Got d_model: 16 or 8." in odd["architecture"]
        assert "one fit at a time" in odd["beside"]
        assert odd["first"] == "no error"  # the processes still go together
    assert told[0]["odd"]["one refuses"].startswith("OtherFailedError")
    assert told[1]["odd"]["one refuses"].startswith("ValueError: Expected 2D array")


def test_a_killed_process_ends_the_other_with_a_clear_error(told):
    first, second = told
    assert (first["code"], second["code"]) == (1, -signal.SIGKILL)
    assert "TrainingError: Expected 2 processes to train together" in first["said"]
    assert "out of memory" in first["said"] and TIMEOUT_VARIABLE in first["said"]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["curves", "killed"])
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_launchers_start_it(launcher, what, tmp_path):
    pytest.importorskip("accelerate")
    commands = {
        "torchrun": "torch.distributed.run --standalone --nproc-per-node 2",
        "accelerate": "accelerate.commands.launch --multi_gpu --num_processes 2 "
        "--num_machines 1 --mixed_precision no --dynamo_backend no",  # on CPUs, too
    }
    done = subprocess.run(
        [sys.executable, "-m", *commands[launcher].split(), str(SCRIPT), what, str(tmp_path)],
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode == 0) == (what == "curves"), done.stderr[-3000:]
    if what == "killed":
        assert "SIGKILL" in done.stderr
    else:
        answers = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
        assert answers[0] == answers[1]


# ---- alone -------------------------------------------------------------------------------------


@pytest.fixture
def no_launcher(monkeypatch):
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)


def test_a_process_alone_never_imports_accelerate(no_launcher, monkeypatch, job):
    monkeypatch.setitem(sys.modules, "accelerate", None)  # an import raises
    X, y, _ = job.histories()
    fitted = TimeAwareClassifier(**job.ONE | {"max_epochs": 1}).fit(X, y)
    assert joined(CPU).number == 1 and rank_here() == 0
    assert "processes" not in vars(fitted.nets_[0])


def test_several_processes_need_accelerate(no_launcher, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched() and rank_here() == 1
    with pytest.raises(ImportError, match=r"tawt_sklearn\[distributed\]"):
        joined(CPU)
    with pytest.raises(DeviceError, match="CPUs or CUDA"):
        joined(torch.device("mps"))


def test_a_job_whose_processes_cannot_find_each_other(no_launcher, monkeypatch):
    pytest.importorskip("accelerate")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="unset RANK and WORLD_SIZE"):
        joined(CPU)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"RANK": "first", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "many"},
    ],
    ids=str,
)
def test_what_is_not_a_job(no_launcher, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert not launched()


def test_workers_of_a_process_are_not_processes_of_the_job(no_launcher, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched()
    worker = type("LokyProcess", (), {"daemon": False})()
    monkeypatch.setattr(multiprocessing, "current_process", lambda: worker)
    assert not launched()


def test_the_waiting_time_is_a_number_of_seconds(monkeypatch):
    monkeypatch.delenv(TIMEOUT_VARIABLE, raising=False)
    assert waiting_time().total_seconds() == TIMEOUT
    monkeypatch.setenv(TIMEOUT_VARIABLE, "2.5")
    assert waiting_time().total_seconds() == 2.5
    for wrong in ("soon", "0", "-1", "nan", "inf"):
        monkeypatch.setenv(TIMEOUT_VARIABLE, wrong)
        with pytest.raises(ValueError, match=TIMEOUT_VARIABLE):
            waiting_time()


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_waits_until_all_can_be_told(monkeypatch):
    ctrl_c = CtrlC()
    with ctrl_c.held():
        signal.raise_signal(signal.SIGINT)
        assert ctrl_c.waiting
        signal.raise_signal(signal.SIGINT)  # the launcher sends it, too
        ctrl_c.done()
        signal.raise_signal(signal.SIGINT)
        assert not ctrl_c.waiting
        monkeypatch.setattr(processes, "SAME_PRESS", 0.0)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):  # the user does not want to wait
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_pickled_net_is_alone():
    process = Several.__new__(Several)
    process.rank, process.number = 1, 2
    copy = pickle.loads(pickle.dumps(process))
    assert (copy.rank, copy.number) == (0, 1)
    assert copy.stop(INTERRUPTED) == INTERRUPTED
