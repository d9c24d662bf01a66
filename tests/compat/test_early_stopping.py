"""--patience and the best score belong to one training, and to the whole of it."""

import sys

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq_cli import train as fairseq_train

from admin_fairseq.compat import early_stopping
from tests.helpers import REPOSITORY, TRAIN_FLAGS, USER_DIR, run, train

pytestmark = pytest.mark.subprocess

# a training whose loss falls, told that a higher one is better: nothing improves on the first
NEVER_BETTER = [
    "--maximize-best-checkpoint-metric",
    "--max-tokens",
    "4096",
    "--batch-size",
    "24",
    "--max-epoch",
    "12",
]
STOPPED = "early stop since valid performance hasn't improved"


def updates(folder):
    state = torch.load(folder / "checkpoint_last.pt", weights_only=False)
    return state["optimizer_history"][-1]["num_updates"]


@pytest.fixture(scope="module")
def undisturbed(data_bin, tmp_path_factory):
    """Five updates an epoch; epochs 2 to 4 are three without improvement."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert STOPPED in train(data_bin, folder, *NEVER_BETTER, "--patience", "3").stdout
    assert updates(folder) == 20
    return folder


@pytest.fixture(scope="module")
def half(data_bin, tmp_path_factory):
    """The same, ended after two epochs."""
    folder = tmp_path_factory.mktemp("half")
    train(data_bin, folder, *NEVER_BETTER, "--patience", "3", "--max-epoch", "2")
    return folder / "checkpoint_last.pt"


def test_a_resumed_training_stops_where_an_undisturbed_one_does(
    data_bin, undisturbed, half, tmp_path
):
    state = torch.load(half, weights_only=False)["extra_state"]["early_stopping"]
    assert state["num_runs"] == 1 and type(state["best"]) is float
    (tmp_path / "checkpoint_last.pt").write_bytes(half.read_bytes())
    assert STOPPED in train(data_bin, tmp_path, *NEVER_BETTER, "--patience", "3").stdout
    assert updates(tmp_path) == updates(undisturbed)


def test_where_fairseqs_training_is_the_program(data_bin, undisturbed, half, tmp_path):
    (tmp_path / "checkpoint_last.pt").write_bytes(half.read_bytes())
    command = [sys.executable, "-m", "fairseq_cli.train", data_bin, "--user-dir", USER_DIR, "--cpu"]
    run(*command, "--save-dir", tmp_path, *TRAIN_FLAGS, *NEVER_BETTER, "--patience", "3")
    assert updates(tmp_path) == updates(undisturbed)


def test_resumed_within_an_epoch(data_bin, tmp_path):
    """Validations after updates 2, 4, 5 (the epoch's end), 6, 8: the fourth miss is the last."""
    flags = [*NEVER_BETTER, "--patience", "4", "--save-interval-updates", "2"]
    train(data_bin, tmp_path / "a", *flags)
    train(data_bin, tmp_path / "b", *flags, "--max-update", "4")
    train(data_bin, tmp_path / "b", *flags)
    assert updates(tmp_path / "a") == updates(tmp_path / "b") == 8


def test_a_checkpoint_without_the_entry_resumes_as_before(data_bin, half, tmp_path):
    state = torch.load(half, weights_only=False)
    del state["extra_state"]["early_stopping"]
    torch.save(state, tmp_path / "checkpoint_last.pt")
    train(data_bin, tmp_path, *NEVER_BETTER, "--patience", "3")
    assert updates(tmp_path) == 30, "epoch 3 is the first, 4 to 6 are without improvement"


def test_not_with_reset_meters(data_bin, half, tmp_path):
    (tmp_path / "checkpoint_last.pt").write_bytes(half.read_bytes())
    train(data_bin, tmp_path, *NEVER_BETTER, "--patience", "3", "--reset-meters")
    assert updates(tmp_path) == 30


def test_not_with_finetune_from_model(data_bin, half, tmp_path):
    train(data_bin, tmp_path, *NEVER_BETTER, "--patience", "3", "--finetune-from-model", half)
    assert updates(tmp_path) == 20, "four epochs of its own"


def test_two_trainings_in_one_process(data_bin, tmp_path):
    """The second is worse than the first from its first validation to its last, and improves."""
    program = """if True:
        import sys
        from fairseq import options
        from fairseq.dataclass.utils import convert_namespace_to_omegaconf
        from fairseq_cli import train
        long, short, *words = sys.argv[1:]
        for folder, lr in ((long, "5e-3"), (short, "1e-5")):
            args = options.parse_args_and_arch(
                options.get_training_parser(), words + ["--save-dir", folder, "--lr", lr]
            )
            train.main(convert_namespace_to_omegaconf(args))
    """
    words = [
        data_bin,
        "--user-dir",
        USER_DIR,
        "--cpu",
        *TRAIN_FLAGS,
        "--patience",
        "1",
        "--max-epoch",
        "3",
    ]
    run(
        sys.executable, "-c", program, tmp_path / "long", tmp_path / "short", *words, cwd=REPOSITORY
    )
    assert (tmp_path / "short" / "checkpoint_best.pt").exists()
    assert updates(tmp_path / "short") == updates(tmp_path / "long")
    best = [
        torch.load(tmp_path / name / "checkpoint_best.pt", weights_only=False)
        for name in ("long", "short")
    ]
    assert best[0]["extra_state"]["best"] < best[1]["extra_state"]["best"]


@pytest.fixture
def counters():
    yield
    early_stopping.forget()


def test_the_count_is_kept_and_forgotten(counters):
    early_stopping.restore({"best": 2.5, "num_runs": 3})
    assert fairseq_train.should_stop_early.best == 2.5
    assert early_stopping.state() == {"best": 2.5, "num_runs": 3}
    checkpoint_utils.save_checkpoint.best = 1.0
    early_stopping.forget()
    assert early_stopping.state() is None and not hasattr(checkpoint_utils.save_checkpoint, "best")


@pytest.mark.parametrize(
    "entry",
    [
        None,
        3,
        [1.0, 2],
        {},
        {"best": 1.0},
        {"best": "1", "num_runs": 1},
        {"best": float("nan"), "num_runs": 1},
        {"best": 1.0, "num_runs": -1},
        {"best": 1.0, "num_runs": True},
    ],
)
def test_what_is_no_count_is_not_restored(counters, entry):
    early_stopping.restore(entry)
    assert early_stopping.state() is None
