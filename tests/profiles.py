"""Profiles for tests: small ones made up, and files as older releases and the authors wrote."""

from collections import OrderedDict

from admin_fairseq.profile.data import Profile, SiteProfile

# as written before there were checksums
OLDER = """\
# Admin profile. A residual site computes LayerNorm(f(x) + omega * x); omega is the start of its
# learnable vector. Variances are of the branch f(x) and the shortcut omega * x, in the profiling pass.
# version: 1
# sites: 10
# seed: 1111
# layers: 2-2
# command: fairseq-train data-bin/my_corpus --seed 1111
#site\tomega\tbranch variance\tshortcut variance
encoder.layers.0.self_attn_residual\t1.0\t0.349989116191864\t1.4705960750579834
encoder.layers.0.ffn_residual\t1.3492906251989774\t0.0691477358341217\t1.8205735683441162
encoder.layers.1.self_attn_residual\t1.3746713440594585\t0.1317916214466095\t1.8897098302841187
encoder.layers.1.ffn_residual\t1.4217951511138052\t0.048085760325193405\t2.0214908123016357
decoder.layers.0.self_attn_residual\t1.0\t0.31322866678237915\t1.4696918725967407
decoder.layers.0.encoder_attn_residual\t1.3352604762289342\t0.13408629596233368\t1.7829086780548096
decoder.layers.0.ffn_residual\t1.3845558760906485\t0.05271752551198006\t1.9169849157333374
decoder.layers.1.self_attn_residual\t1.403460879841443\t0.1741708517074585\t1.9696918725967407
decoder.layers.1.encoder_attn_residual\t1.4641935405895627\t0.09773027896881104\t2.1438522338867188
decoder.layers.1.ffn_residual\t1.4971915418060342\t0.07592227309942245\t2.241572380065918
# end of profile
"""  # noqa: E501

# the same omegas in the authors' format
TWO_COLUMNS = "".join(
    f"{number} {omega}\n"
    for stack in ("encoder", "decoder")
    for number, omega in enumerate(
        (line.split("\t")[1] for line in OLDER.splitlines() if line.startswith(stack)), 1
    )
)


def made_up(omegas=(1.0, 1.5, 2.0, 2.25), **provenance):
    """A profile of an encoder whose numbers obey the recursion; every branch has variance 0.5."""
    names = (
        f"encoder.layers.{i}.{kind}"
        for i in range(99)
        for kind in ("self_attn_residual", "ffn_residual")
    )
    following = list(omegas[1:]) + [2.5]
    sites = OrderedDict(
        (name, SiteProfile(omega, 0.5, after**2 - 0.5))
        for name, omega, after in zip(names, omegas, following)
    )
    return Profile(
        sites, OrderedDict(seed="7", command="fairseq-train data --seed 7", **provenance)
    )
