"""The shape of omega: how it runs through the sites of a stack (``--omega-shape``).

``recursion`` is the paper's, and the default: omega starts at 1 and grows from site to site.
``flat`` is ours and in no paper: every site of a stack has the omega that the recursion gives its
last one. One profiling pass measures both, so that either is made of one profile.

What they do, in the terms of the paper (Liu et al., EMNLP 2020, section 4). Let v_j be the variance
of branch j of n, and c that of x_0, the stack's input. Behind each LayerNorm the variance is 1. Of
the variance of the sum at site i, the site's own branch makes up

    beta_i^2 = v_i / (omega_i^2 + v_i)

and every later site k leaves 1 - beta_k^2 of what is there. So branch j has the share
beta_j^2 prod_{k>j} (1 - beta_k^2) in the stack's output. When all branches move a little, the
output moves by an amount that grows with B = sum_i beta_i^2 (theorem 2 and corollary 1). With
S_i = c + sum_{j<i} v_j, the sum that the recursion takes:

    recursion   omega_i^2 = S_i (omega_1 = 1, over a shortcut of variance c)
                beta_i^2 = v_i / S_{i+1}; the products telescope: every branch has the share
                v_j / S_{n+1} in the output, the first as much as the last.
                B is about ln(S_{n+1} / c): O(log n). Most of it lies in the first sites: they
                lean on their branches as in Post-LN, whatever the depth.
    flat        omega^2 = S_n
                beta_i^2 = v_i / (S_n + v_i) at every site. The share of the last branch is about e
                times that of the first, at most: (1 - 1/n)^n is 1/e.
                B is about (S_n - c) / S_n, below 1 at any depth: O(1). No site leans on its branch
                by more than about 1/n.

Two other statistics for one omega a stack:

    fixed point       S_n once more, of variances measured with omega in effect, until it gives
                      itself. The v_j depend on omega: branches of inputs that have gone through
                      less are smaller. Some six passes; 0.80 and 0.85 of ``flat`` at 18L-18L.
    root mean square  of the recursion's omegas: omega^2 is about S_n / 2, and B is about 2.

The closed form ``analytic`` has one omega too, of n alone: (n + 1) / ln(n + 1) - 1, which takes
every v_j as 1 and puts B at about ln n. nmt-experiments/omega_shape.md compares them in training.

After training omegas are vectors that differ from channel to channel, and from site to site: to
fold a model they need as many changed weights as those of the recursion. Only equal constants
cancel between sites, as those of ``--analytic-constant`` do.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import Optional

from ..errors import AdminError
from ..init_types import OMEGA_SHAPES
from ..sites import stack_of
from .data import Profile, SiteProfile


def with_shape(profile: Profile, shape: Optional[str]) -> Profile:
    """Return a profile of the same measurements, whose omegas have another shape.

    Args:
        profile: of any shape.
        shape: one of :data:`~admin_fairseq.init_types.OMEGA_SHAPES`; None for that of the profile.

    Raises:
        AdminError: if it is none.
    """
    if shape is None:
        return profile
    if shape not in OMEGA_SHAPES:
        raise AdminError(f"--omega-shape {shape}: choose from {', '.join(OMEGA_SHAPES)}")
    if shape == profile.shape:
        return profile
    last: dict[str, float] = {}
    for name, site in profile.sites.items():
        last[stack_of(name)] = site.of_recursion
    sites: OrderedDict[str, SiteProfile] = OrderedDict()
    for name, site in profile.sites.items():
        if shape == "recursion":
            sites[name] = replace(site, omega=site.of_recursion, recursion=None)
        else:
            sites[name] = replace(site, omega=last[stack_of(name)], recursion=site.of_recursion)
    return Profile(sites, profile.provenance, shape)
