"""A loss that is not a number ends in fairseq's message, which names where it began."""

import logging

import pytest
import torch
from fairseq import nan_detector

from admin_fairseq import compat
from tests.helpers import adaptive, batch, build, train


def report(model, caplog):
    """What the detector logs of one forward and backward pass."""
    with (
        caplog.at_level(logging.INFO, logger="fairseq.nan_detector"),
        nan_detector.NanDetector(model),
    ):
        net_output = model(**batch()["net_input"])
        net_output[0].sum().backward()
    return caplog.text


@pytest.mark.parametrize(
    "site", ["encoder.layers.1.ffn_residual", "decoder.layers.0.encoder_attn_residual"]
)
def test_the_site_is_named(caplog, site):
    model = adaptive()
    with torch.no_grad():
        model.get_submodule(site).omega[0] = float("nan")
    text = report(model, caplog)
    assert f"NaN detected in output of {site}, shape: " in text and ", forward" in text
    assert text.index(site) < text.index("Detected nan/inf grad norm")


class NanGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


@pytest.mark.parametrize("arch", ["admin_transformer", "transformer"])
def test_gradients_are_reported_too(caplog, arch):
    """The outputs are finite; a gradient becomes NaN on its way into the encoder's first layer."""
    model = build(arch=arch)
    model.encoder.layers[1].register_forward_pre_hook(
        lambda module, inputs: (NanGradient.apply(inputs[0]), *inputs[1:])
    )
    text = report(model, caplog)
    assert ", forward" not in text
    # of all outputs, the first that a NaN gradient reaches is that of the layer before
    first = text[text.index("NaN detected") :].splitlines()[0]
    assert "output of encoder.layers.0" in first and first.endswith(", backward")


def test_hooks_are_taken_away():
    model = build()
    with nan_detector.NanDetector(model):
        model(**batch()["net_input"])[0].sum().backward()
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


@pytest.mark.subprocess
@pytest.mark.parametrize("arch", ["admin_transformer_tiny", "transformer"])
def test_a_training_that_diverges(data_bin, tmp_path, arch):
    flags = ["--arch", arch, "--optimizer", "adam", "--lr", "1e30", "--lr-scheduler", "fixed"]
    result = train(data_bin, tmp_path, *flags, "--max-update", "9", check=False)
    assert result.returncode != 0
    assert "StopIteration" not in result.stdout
    assert result.stdout.strip().endswith("FloatingPointError: gradients are Nan/Inf")
    assert "detected in output of encoder.layers.0" in result.stdout
    assert (tmp_path / "crash.pt").exists()


def test_a_sound_detector_is_left_alone(monkeypatch):
    class Sound(nan_detector.NanDetector):
        def add_hooks(self, module):
            pass

    monkeypatch.setattr(nan_detector, "NanDetector", Sound)
    before = Sound.add_hooks
    compat.report_nan()
    assert Sound.add_hooks is before
