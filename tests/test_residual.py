import torch

from admin_fairseq.residual import OmegaResidual, Residual
from admin_fairseq.sites import first_sites, named_sites
from tests.helpers import adaptive, build


def test_computes_branch_plus_omega_times_shortcut():
    site = OmegaResidual(3)
    with torch.no_grad():
        site.omega.copy_(torch.tensor([2.0, -1.0, 0.5]))
    branch, shortcut = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    expected = branch.numpy() + site.omega.detach().numpy() * shortcut.numpy()
    torch.testing.assert_close(site(branch, shortcut).detach(), torch.from_numpy(expected))


def test_starts_at_one_which_is_the_plain_sum_bit_for_bit():
    branch, shortcut = torch.randn(50, 8, 16), torch.randn(50, 8, 16)
    scaled, plain = OmegaResidual(16), Residual()
    assert torch.equal(scaled(branch, shortcut), shortcut + branch)
    assert torch.equal(plain(branch, shortcut), shortcut + branch)
    assert list(plain.parameters()) == []


def test_half_precision_stays_half():
    for dtype in (torch.float16, torch.bfloat16):
        site = OmegaResidual(4).to(dtype)
        assert (
            site(torch.ones(2, 1, 4, dtype=dtype), torch.ones(2, 1, 4, dtype=dtype)).dtype == dtype
        )


def test_sites_are_named_by_module_path_in_forward_order():
    names = list(named_sites(adaptive(layers=(1, 1))))
    assert names == [
        "encoder.layers.0.self_attn_residual",
        "encoder.layers.0.ffn_residual",
        "decoder.layers.0.self_attn_residual",
        "decoder.layers.0.encoder_attn_residual",
        "decoder.layers.0.ffn_residual",
    ]
    assert first_sites(names) == [names[0], names[2]]


def test_default_has_the_same_sites_without_parameters():
    plain, scaled = build(init_type="default"), adaptive()
    assert list(named_sites(plain)) == list(named_sites(scaled))
    assert not [name for name, _ in plain.named_parameters() if "residual" in name]
