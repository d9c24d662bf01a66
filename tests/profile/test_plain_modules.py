"""Profiling modules that are not this plugin's: batches in every form, and padding that is told."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from admin_fairseq import (
    AdminError,
    OmegaResidual,
    apply_profile,
    load_profile,
    profile_omega,
    save_profile,
)
from admin_fairseq.sites import named_sites, stack_of
from tests import reference
from tests.helpers import adaptive, batch

CHANNELS = 6


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(CHANNELS, 2 * CHANNELS)
        self.fc2 = nn.Linear(2 * CHANNELS, CHANNELS)
        self.residual = OmegaResidual(CHANNELS)
        self.norm = nn.LayerNorm(CHANNELS)

    def forward(self, x):
        return self.norm(self.residual(self.fc2(self.fc1(x).relu()), x))


class Plain(nn.Module):
    """Two inputs, so that a batch can have several parts; ``swap`` computes T x B x C inside."""

    def __init__(self, layers=5, swap=False):
        super().__init__()
        self.swap = swap
        self.layers = nn.ModuleList(Block() for _ in range(layers))

    def forward(self, x, offset=0.0):
        x = x + offset
        if self.swap:
            x = x.transpose(0, 1)
        for layer in self.layers:
            x = layer(x)
        return x


def make(**kwargs):
    torch.manual_seed(3)
    return Plain(**kwargs)


def padded():
    """B x T x C with garbage at padding, and the mask, B x T."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(4, 7, CHANNELS, generator=generator)
    mask = torch.arange(7) >= torch.tensor([7, 5, 3, 6])[:, None]
    return x.masked_fill(mask[..., None], 50.0), mask


def slow_omegas(model, sequences):
    """The recursion in numpy, float64, on sequences without padding (each T x C)."""
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    xs, square, omegas = [x.double().numpy() for x in sequences], 1.0, []
    for layer in range(len(model.layers)):
        omega = math.sqrt(square)
        omegas.append(omega)
        outs = [reference.feed_forward(x, weights, f"layers.{layer}") for x in xs]
        square = np.var(np.concatenate(outs)) + np.var(omega * np.concatenate(xs))
        xs = [
            reference.layer_norm(out + omega * x, weights, f"layers.{layer}.norm")
            for out, x in zip(outs, xs)
        ]
    return omegas


def omegas(profile):
    return list(profile.omega.values())


@pytest.mark.parametrize("swap", [False, True])
def test_padding_does_not_count_where_it_is_told(swap):
    x, mask = padded()
    model = make(swap=swap)
    expected = slow_omegas(model, [row[~cut] for row, cut in zip(x, mask)])
    told = mask.t() if swap else mask
    profile = profile_omega(model, x, padding=told)
    assert list(profile.sites) == [f"layers.{i}.residual" for i in range(5)]
    np.testing.assert_allclose(omegas(profile), expected, rtol=1e-5)
    assert profile_omega(model, x, padding={"layers": told}) == profile


def test_without_it_all_positions_count(caplog):
    x, _ = padded()
    model = make()
    with caplog.at_level("INFO"):
        profile = profile_omega(model, x)
    np.testing.assert_allclose(omegas(profile), slow_omegas(model, list(x)), rtol=1e-5)
    assert "no padding was given, so all positions of the batch count" in caplog.text
    assert profile_omega(model, x, count_padding=True) == profile


@pytest.mark.parametrize(
    "form",
    [
        lambda x: (x + 1, -1.0),
        lambda x: [x + 1, -1.0],
        lambda x: {"x": x + 1, "offset": -1.0},
        lambda x: {"net_input": {"x": x}, "target": None},
    ],
    ids=["tuple", "list", "dictionary", "fairseq's"],
)
def test_a_batch_in_any_form(form):
    x, mask = padded()
    model = make()
    expected = omegas(profile_omega(model, x, padding=mask))
    np.testing.assert_allclose(
        omegas(profile_omega(model, form(x), padding=mask)), expected, rtol=1e-5
    )


def test_the_padding_of_a_fairseq_batch_can_be_told_too():
    model, sample = adaptive(), batch()
    told = {
        "encoder": sample["net_input"]["src_tokens"].eq(1).t(),
        "decoder": sample["net_input"]["prev_output_tokens"].eq(1).t(),
    }
    assert profile_omega(model, sample, padding=told) == profile_omega(model, sample)


def test_a_site_may_be_called_by_names():
    class Named(Block):
        def forward(self, x):
            return self.norm(self.residual(shortcut=x, branch=self.fc2(self.fc1(x).relu())))

    x, _ = padded()
    model = make()
    expected = profile_omega(model, x)
    named = make()
    named.layers = nn.ModuleList(Named() for _ in range(5))
    named.load_state_dict(model.state_dict())
    assert profile_omega(named, x) == expected


def test_what_does_not_fit_is_said_at_once():
    x, mask = padded()
    model = make()
    with pytest.raises(AdminError, match="mask is 7 x 4, but what layers.0.residual adds is 4 x 7"):
        profile_omega(model, x, padding=mask.t())
    with pytest.raises(AdminError) as error:
        profile_omega(model, x, padding={"encoder": mask, "layers": mask.long()})
    assert "encoder is not a stack of the model, which has layers" in str(error.value)
    assert "the mask of layers must be a bool tensor, True where padding is" in str(error.value)
    with pytest.raises(AdminError, match="either count_padding or padding"):
        profile_omega(model, x, count_padding=True, padding=mask)
    with pytest.raises(AdminError, match="OmegaResidual sites"):
        profile_omega(nn.Linear(CHANNELS, CHANNELS), x)
    assert all(site.omega.eq(1).all() for site in named_sites(model).values())


def test_buffers_and_modes_stay_as_they_were():
    """A BatchNorm counts every pass in training mode; one that is frozen stays frozen."""
    model = nn.Sequential(Block(), nn.BatchNorm1d(7), Block(), nn.BatchNorm1d(7).eval())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, _ = padded()
    assert list(profile_omega(model, x).omega) == ["0.residual", "2.residual"]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [part.training for part in model] == [True, True, True, False]


def test_a_site_that_runs_twice_is_refused():
    x, _ = padded()
    block = Block()
    with pytest.raises(AdminError, match="residual runs more than once in a forward pass"):
        profile_omega(nn.Sequential(block, block), x)
    assert block.residual.omega.eq(1).all() and not block.residual._forward_pre_hooks


def test_stacks_are_told_by_paths():
    names = ["encoder.layers.3.ffn_residual", "layers.0.ffn", "text.0.ffn", "0.ffn", "ffn"]
    assert [stack_of(name) for name in names] == ["encoder", "layers", "text", "model", "model"]
    x, _ = padded()
    model = make()
    in_a_row = nn.Sequential(*model.layers)
    profile = profile_omega(in_a_row, x)
    assert omegas(profile) == omegas(profile_omega(model, x))
    assert list(profile.stacks) == ["model"]


def test_omegas_are_filled_and_filed(tmp_path):
    x, mask = padded()
    model = make()
    profile = profile_omega(model, x, padding=mask)
    save_profile(profile, tmp_path / "p")
    assert load_profile(tmp_path / "p").sites == profile.sites
    apply_profile(model, load_profile(tmp_path / "p"))
    for name, site in named_sites(model).items():
        assert torch.equal(site.omega.detach(), torch.full((CHANNELS,), profile.omega[name]))
    with pytest.raises(AdminError, match="in the model but not in the profile: layers.5.residual"):
        apply_profile(make(layers=6), profile)
