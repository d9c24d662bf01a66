"""--store-ema against a slow average of the weights that a training went through."""

import pytest
import torch

from tests.helpers import TRAIN_FLAGS, train

pytestmark = pytest.mark.subprocess

PRE_LN = ("--encoder-normalize-before", "--decoder-normalize-before")
EVERY_UPDATE = (
    "--save-interval-updates",
    "1",
    "--disable-validation",
    "--no-epoch-checkpoints",
    "--batch-size",
    "16",
)


def run_training(data_bin, folder, updates, *flags):
    return train(
        data_bin, folder, *PRE_LN, *EVERY_UPDATE, "--max-update", str(updates), *flags
    ).stdout


def checkpoints(folder, updates):
    return [
        torch.load(folder / f"checkpoint_1_{n}.pt", weights_only=False)
        for n in range(1, updates + 1)
    ]


def averages(states, decay, start=0):
    """The average after each update; fairseq's begins as the weights after the first."""
    average, found = None, []
    for number, state in enumerate(states, 1):
        weights = {
            key: value.double() for key, value in state["model"].items() if not unlike_a_weight(key)
        }
        d = 0.0 if average is None or number < start else decay
        average = {
            key: (d * average[key] if d else 0) + (1 - d) * value for key, value in weights.items()
        }
        found.append(average)
    return found


def unlike_a_weight(key):
    return key.endswith(("version", "_float_tensor"))


def assert_averages(states, expected, entry="ema", tolerance=2e-6):
    for state, average in zip(states, expected):
        stored = state["extra_state"][entry]
        assert average.keys() <= stored.keys(), average.keys() - stored.keys()
        for key, value in average.items():
            assert torch.allclose(stored[key].double(), value, rtol=tolerance, atol=tolerance), key


@pytest.mark.parametrize(
    "flags, start",
    [
        ("--arch admin_transformer_tiny", 0),
        ("--arch transformer", 0),
        ("--arch admin_transformer_tiny --ema-fp32", 0),
        ("--arch admin_transformer_tiny --ema-start-update 3", 3),
    ],
)
def test_the_average_is_that_of_the_weights(data_bin, tmp_path, flags, start):
    run_training(data_bin, tmp_path, 5, "--store-ema", "--ema-decay", "0.7", *flags.split())
    states = checkpoints(tmp_path, 5)
    for state in states:
        assert {"encoder.layer_norm.weight", "decoder.layer_norm.bias"} <= state["extra_state"][
            "ema"
        ].keys()
    assert_averages(states, averages(states, 0.7, start))
    embeddings = states[-1]["model"]["encoder.embed_tokens.weight"]
    assert not torch.equal(
        embeddings, states[-1]["extra_state"]["ema"]["encoder.embed_tokens.weight"]
    )


def test_bf16_with_averages_in_float32(data_bin, tmp_path):
    """The float32 copies are separate for each name of a tied weight; the weights are rounded."""
    run_training(data_bin, tmp_path, 4, "--store-ema", "--ema-decay", "0.7", "--ema-fp32", "--bf16")
    states = checkpoints(tmp_path, 4)
    expected = averages(states, 0.7)
    assert_averages(states, expected, "ema_fp32_params")
    assert_averages(states, expected, "ema", tolerance=1e-2)


@pytest.mark.parametrize("fp32", [[], ["--ema-fp32"]])
def test_a_resumed_average_goes_on(data_bin, tmp_path, fp32):
    flags = ["--store-ema", "--ema-decay", "0.7", *fp32]
    run_training(data_bin, tmp_path, 3, *flags)
    run_training(data_bin, tmp_path, 5, *flags)
    states = checkpoints(tmp_path, 5)
    assert_averages(states, averages(states, 0.7))


def test_an_average_that_lost_its_layer_norms(data_bin, tmp_path):
    """fairseq's checkpoints without the workaround: an average of version 1, no last LayerNorm."""
    flags = ["--store-ema", "--ema-decay", "0.7"]
    run_training(data_bin, tmp_path, 2, *flags)
    last = tmp_path / "checkpoint_last.pt"
    state = torch.load(last, weights_only=False)
    for stack in ("encoder", "decoder"):
        for name in ("weight", "bias"):
            del state["extra_state"]["ema"][f"{stack}.layer_norm.{name}"]
        state["extra_state"]["ema"][f"{stack}.version"] = torch.Tensor([1])
    torch.save(state, last)
    log = run_training(data_bin, tmp_path, 3, *flags)
    assert "the stored average has no encoder.layer_norm.weight" in log
    average = torch.load(tmp_path / "checkpoint_1_3.pt", weights_only=False)["extra_state"]["ema"]
    assert {"encoder.layer_norm.weight", "decoder.layer_norm.bias"} <= average.keys()
    assert average["encoder.version"].item() == 3


def test_an_average_begins_on_a_checkpoint_without_one(data_bin, tmp_path):
    run_training(data_bin, tmp_path, 2)
    log = run_training(data_bin, tmp_path, 3, "--store-ema", "--ema-decay", "0.7")
    assert "the checkpoint has no average: --store-ema starts from its weights" in log
    states = checkpoints(tmp_path, 3)
    assert_averages(states[2:], averages(states[1:], 0.7)[1:])


def test_the_flags_of_these_tests_tie_embeddings():
    assert "--share-all-embeddings" in TRAIN_FLAGS
