"""One model, trained by several processes; the script is the one for a single process.

    python examples/distributed.py                                 # one process
    torchrun --nproc-per-node 2 examples/distributed.py            # two, on GPUs or CPUs
    accelerate launch --num_processes 2 examples/distributed.py    # two, on GPUs

Each process works on its own share of every batch.  The curve of the loss is that of a single
process but for what is drawn at random, and only the first process writes.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from tawt_sklearn import TimeAwareClassifier, TripletSequencer
from tawt_sklearn.datasets import make_icu_stays


def main() -> None:
    X, y = make_icu_stays(600, random_state=0)  # the same in all processes
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    model = TimeAwareClassifier(
        sequencer=TripletSequencer(), max_epochs=5, n_ensemble=1, random_state=0, verbose=1
    )
    model.fit(X_train, y_train)

    path = Path(tempfile.gettempdir()) / "icu.tawt"
    model.save(path)  # by the first process
    if os.environ.get("RANK", "0") == "0":
        auroc = roc_auc_score(y_test, model.predict_proba(X_test)[:, 1])
        print(model.history_.tail(3).to_string(index=False))
        print(f"AUROC on held-out stays {auroc:.3f}; saved as {path}")


if __name__ == "__main__":
    main()
