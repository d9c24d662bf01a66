"""--trace-interval: it logs what the sites do, changes nothing, and costs nothing when off."""

import json
import math
import re

import pytest
import torch
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from fairseq.logging import metrics

from admin_fairseq.analysis import dependency, gradients
from admin_fairseq.checkpoints import load_checkpoint
from admin_fairseq.trace import trace_training
from tests.helpers import adaptive, batch, build, task, train


class Optimizer:
    def backward(self, loss):
        loss.backward()

    def step(self):
        pass


def traced_step(model, sample, updates=(0,), interval=1, log_interval=1, optimizer=None):
    """Run training steps as the trainer does; returns what was logged."""
    job, args = task(), type("Args", (), {"trace_interval": interval, "log_interval": log_interval})
    criterion = CrossEntropyCriterion(job, False)
    trace_training(model, args, job)
    with metrics.aggregate(new_root=True) as log:
        for update in updates:
            model.zero_grad()
            job.train_step(
                sample=sample,
                model=model,
                criterion=criterion,
                optimizer=Optimizer(),
                update_num=update,
            )
            job.optimizer_step(optimizer or Optimizer(), model=model, update_num=update)
        return dict(log.get_smoothed_values())


def test_the_figures_are_those_of_the_analysis():
    sample = batch()
    model = adaptive(omegas=[1, 1.2, 1.5, 0.7, 1, 1.1, 1.3, 0.5, 2, 3])
    logged = traced_step(model, sample)
    exact = model.double()
    rows = dependency.dependency(exact, sample)
    for row in rows["encoder"] + rows["decoder"]:
        # beta is over all channels here; the analysis takes each component's own mean off first
        assert logged[f"beta/{row.site.name}"] == pytest.approx(row.beta[-1], rel=0.15), (
            row.site.name
        )
    _, norms = gradients.gradient_norms(exact, sample, CrossEntropyCriterion(task(), False))
    for row in norms:  # the trainer divides by the number of tokens, which this test leaves out
        norm = logged[f"gradient_norm/{row['site']}"] / sample["ntokens"]
        assert norm == pytest.approx(row["weights"], rel=1e-3)
    assert logged["omega_mean/decoder.layers.1.ffn_residual"] == 3
    assert logged["omega_min/encoder.layers.1.ffn_residual"] == pytest.approx(0.7)
    assert logged["traced_update"] == 1


def test_padding_does_not_count():
    plain, padded = batch(sentences=1, padding=False), batch(sentences=1, padding=False)
    net_input = padded["net_input"]
    net_input["src_tokens"] = torch.cat([torch.full((1, 30), 1), net_input["src_tokens"]], 1)
    first, second = (traced_step(build(), sample) for sample in (plain, padded))
    name = "output_std/encoder.layers.1.ffn_residual"
    assert first[name] == pytest.approx(second[name], rel=1e-4)
    assert not any(key.startswith("omega") for key in first), "plain sites have none"


def test_lines_show_the_latest_measurement():
    model = adaptive()
    logged = traced_step(model, batch(), updates=range(3), interval=2, log_interval=3)
    assert any(key.startswith("beta/") for key in logged) and logged["traced_update"] == 2
    assert traced_step(model, batch(), updates=range(3), interval=2, log_interval=10) == {}
    assert traced_step(model, batch(), updates=range(1), interval=2, log_interval=None) == {}
    assert (
        traced_step(model, batch(), updates=range(2), interval=2, log_interval=None)[
            "traced_update"
        ]
        == 2
    )
    assert not any(module._forward_hooks for module in model.modules())


def test_what_is_not_finite_is_left_out_and_zeros_are_zeros():
    still = traced_step(build(init_type="rezero"), batch())
    assert (
        still["beta/encoder.layers.0.ffn_residual"]
        == still["gradient_norm/encoder.layers.0.ffn_residual"]
        == 0
    )
    model = build()
    with torch.no_grad():
        model.decoder.layers[1].fc1.weight.fill_(float("inf"))
    broken = traced_step(model, batch())
    assert all(math.isfinite(value) for value in broken.values())
    assert (
        "beta/encoder.layers.0.ffn_residual" in broken
        and "beta/decoder.layers.1.ffn_residual" not in broken
    )


def test_gradients_that_the_optimizer_still_has_to_scale():
    """fairseq's half-precision optimizers divide by loss scale and tokens when they step."""
    scaled = Optimizer()
    scaled._multiply_factor = 0.125
    one, other = traced_step(build(), batch()), traced_step(build(), batch(), optimizer=scaled)
    name = "gradient_norm/decoder.layers.0.ffn_residual"
    assert other[name] == pytest.approx(one[name] / 8) and one[name] > 0


def records(output):
    found = re.findall(r"\| train_inner \| (\{.*\})", output)
    return [json.loads(text) for text in found]


@pytest.mark.parametrize("init_type", ["adaptive-auto", "rezero"])
def test_through_fairseq_train(init_type, data_bin, tmp_path):
    flags = [
        "--init-type",
        init_type,
        "--max-update",
        "4",
        "--log-format",
        "json",
        "--no-epoch-checkpoints",
    ]
    off = train(data_bin, tmp_path / "off", *flags).stdout
    on = train(
        data_bin,
        tmp_path / "on",
        *flags,
        "--trace-interval",
        "2",
        "--log-interval",
        "2",
        "--update-freq",
        "1",
        "--tensorboard-logdir",
        tmp_path / "tb",
    ).stdout
    assert "beta/" not in off
    assert len([key for key in records(on)[-1] if key.startswith("beta/")]) == 10
    states = [
        load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"] for name in ("off", "on")
    ]
    assert all(torch.equal(weight, states[1][name]) for name, weight in states[0].items()), (
        "it changes nothing"
    )
    resumed = train(
        data_bin,
        tmp_path / "on",
        *flags,
        "--max-update",
        "6",
        "--trace-interval",
        "1",
        "--update-freq",
        "2",
    )
    assert "beta/encoder.layers.0.ffn_residual" in records(resumed.stdout)[-1]


@pytest.mark.parametrize("precision", [[], ["--bf16"], ["--clip-norm", "0.1"]])
def test_gradient_norms_are_those_of_the_trainer(precision, data_bin, tmp_path):
    """Those of all branches together are most of gnorm, which fairseq logs from before clipping."""
    flags = [
        "--init-type",
        "deepnet",
        "--max-update",
        "2",
        "--no-save",
        "--log-format",
        "json",
        "--trace-interval",
        "1",
    ]
    line = records(train(data_bin, tmp_path, *flags, *precision, "--update-freq", "2").stdout)[-1]
    squares = [float(value) ** 2 for key, value in line.items() if key.startswith("gradient_norm")]
    whole = min(float(line["gnorm"]), 0.1) if "--clip-norm" in precision else float(line["gnorm"])
    assert len(squares) == 10 and 0.2 * whole < math.sqrt(sum(squares)) < 1.01 * whole


def test_tensorboard_shows_it(data_bin, tmp_path):
    pytest.importorskip("tensorboardX")
    train(
        data_bin,
        tmp_path / "run",
        "--init-type",
        "adaptive-auto",
        "--max-update",
        "2",
        "--trace-interval",
        "1",
        "--no-save",
        "--tensorboard-logdir",
        tmp_path / "tb",
    )
    events = b"".join(path.read_bytes() for path in (tmp_path / "tb").rglob("*tfevents*"))
    assert b"omega_mean/encoder.layers.1.ffn_residual" in events
