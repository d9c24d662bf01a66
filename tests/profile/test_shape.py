"""The shape of omega: one measurement, the paper's recursion or one omega a stack."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq import options, rules
from admin_fairseq.checkpoints import load_checkpoint, stored_args
from admin_fairseq.deploy.fold import fold
from admin_fairseq.errors import AdminError
from admin_fairseq.init_types import OMEGA_SHAPES, method_of
from admin_fairseq.profile.data import Profile, SiteProfile
from admin_fairseq.profile.file import load, renew_checksum, save
from admin_fairseq.profile.fill import apply_profile
from admin_fairseq.profile.from_file import check_origin
from admin_fairseq.profile.measure import profile_omega
from admin_fairseq.profile.shape import with_shape
from admin_fairseq.profile.text import format_profile, table
from admin_fairseq.sites import named_omegas, stack_of
from tests import reference
from tests.deploy.test_fold import difference, disturb
from tests.helpers import adaptive, arguments, batch, build, run, train
from tests.profile.test_profiling import perturbed, sentences
from tests.profiles import OLDER, TWO_COLUMNS, made_up


@settings(max_examples=25, deadline=None)
@given(
    layers=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dim=st.sampled_from([8, 16]),
    seed=st.integers(0, 10**6),
    padding=st.booleans(),
)
def test_flat_equals_the_slow_reference(layers, dim, seed, padding):
    """In numpy, sentence by sentence: the omega that the recursion has at a stack's last site."""
    model = perturbed(adaptive(seed=seed, layers=layers, dim=dim), seed)
    sample = batch(padding=padding, seed=seed)
    measured = reference.admin_omegas(model.state_dict(), *sentences(sample), layers, heads=2)
    last = {stack_of(name): omega for name, omega in measured.items()}
    profile = with_shape(profile_omega(model, sample), "flat")
    expected = [last[stack_of(name)] for name in measured]
    np.testing.assert_allclose(list(profile.omega.values()), expected, rtol=2e-5)
    apply_profile(model, profile)
    for name, omega in named_omegas(model).items():
        assert omega.eq(torch.tensor(profile.omega[name])).all()


@settings(max_examples=50, deadline=None)
@given(variances=st.lists(st.floats(0.01, 4), min_size=2, max_size=60))
def test_what_it_does_to_dependency_and_output_change(variances):
    """The claims of ``shape``'s docstring, of a stack whose branches have these variances."""
    n, c = len(variances), 1.5
    sums = np.cumsum([c, *variances])  # S_1 ... S_{n+1}

    def dependencies(squares):
        """Return (beta_i^2 at each site, share of each branch in the output), x_0 having c."""
        own, shares, before = [], [], c
        for i, v in enumerate(variances):
            total = squares[i] * before + v
            own.append(v / total)
            shares = [share * (1 - own[-1]) for share in shares] + [own[-1]]
            before = 1.0  # LayerNorm
        return np.array(own), np.array(shares)

    # the recursion: omega_1 is 1, and x_0 brings c; behind a LayerNorm omega_i^2 is S_i
    own, shares = dependencies([1.0, *sums[1:-1]])
    np.testing.assert_allclose(own, variances / sums[1:])
    np.testing.assert_allclose(shares, variances / sums[-1])
    assert own.sum() <= math.log(sums[-1] / c) + 1e-9
    flat, _ = dependencies([sums[-2]] * n)
    assert flat.sum() <= (sums[-1] - c) / sums[-2]
    assert flat.max() <= max(variances) / sums[-2]
    equal = np.array([1 / (n + 1)] * n)  # all v alike, and c like one of them
    left = [(1 - equal[0]) ** (n - 1 - j) for j in range(n)]
    assert left[-1] / left[0] <= math.e


def test_shapes_are_made_of_one_another(tmp_path):
    recursion = profile_omega(adaptive(layers=(3, 2)), batch())
    flat = with_shape(recursion, "flat")
    assert with_shape(recursion, "recursion") is recursion
    assert with_shape(flat, "recursion") == recursion and flat != recursion
    assert with_shape(with_shape(flat, "flat"), "recursion") == recursion
    for stack, omegas in recursion.stacks.items():
        assert flat.stacks[stack] == [omegas[-1]] * len(omegas)
    for shape, profile in (("recursion", recursion), ("flat", flat)):
        save(profile, tmp_path / shape)
        assert load(tmp_path / shape) == profile
        assert f"# omega shape: {shape}\n" in (tmp_path / shape).read_text()
    with pytest.raises(AdminError, match="--omega-shape round: choose from recursion, flat"):
        with_shape(flat, "round")


def test_the_recursion_is_written_as_before():
    lines = format_profile(made_up()).splitlines()
    assert "encoder.layers.1.ffn_residual\t2.25\t0.5\t5.75" in lines
    assert "#site\tomega\tbranch variance\tshortcut variance" in lines
    assert "omega of the recursion" not in table(made_up())


def test_a_table_has_both_numbers():
    text = table(with_shape(made_up(), "flat"))
    assert text.splitlines()[0].endswith("omega of the recursion")
    assert [line.split()[1] for line in text.splitlines()[1:]] == ["2.250000"] * 4
    assert [line.split()[-1] for line in text.splitlines()[1:]] == [
        "1.000000",
        "1.500000",
        "2.000000",
        "2.250000",
    ]


@pytest.mark.parametrize("text", [OLDER, TWO_COLUMNS], ids=["older", "two columns"])
def test_older_profiles_can_be_flat(tmp_path, text):
    (tmp_path / "p").write_text(text)
    profile = load(tmp_path / "p")
    assert profile.shape == "recursion"
    flat = with_shape(profile, "flat").stacks
    assert flat["encoder"] == [1.4217951511138052] * 4
    assert flat["decoder"] == [1.4971915418060342] * 6


@pytest.mark.parametrize(
    "old, new, problem",
    [
        ("# omega shape: flat", "# omega shape: round", "the omega shape 'round', but this"),
        ("\t0.5\t5.75\t2.25", "\t0.5\t5.75\t-", "the omega of the recursion is missing"),
        ("\t0.5\t5.75\t2.25", "\t0.5\t5.75", "4 columns instead of 5"),
        ("\t0.5\t5.75\t2.25", "\t0.5\t5.75\t1e9", "omega of the recursion 1000000000.0"),
        ("# omega shape: flat\n", "", "5 columns instead of 4"),
    ],
)
def test_damage_is_refused(tmp_path, old, new, problem):
    path = tmp_path / "p"
    save(with_shape(made_up(), "flat"), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(AdminError, match=re.escape(str(path))) as refused:
        renew_checksum(path)
    assert problem in str(refused.value)


def test_an_omega_edited_by_hand_counts_and_is_told(tmp_path, caplog):
    path = tmp_path / "p"
    save(with_shape(made_up(), "flat"), path)
    path.write_text(path.read_text().replace("ffn_residual\t2.25", "ffn_residual\t3.0", 1))
    with pytest.raises(AdminError, match="the checksum is wrong"):
        load(path)
    renew_checksum(path)
    assert load(path).omega["encoder.layers.0.ffn_residual"] == 3.0
    assert "encoder.layers.0.ffn_residual: omega 3.0, and the stack's last is 2.25" in caplog.text


@pytest.mark.parametrize("shape", OMEGA_SHAPES)
def test_numbers_that_cannot_be_written(tmp_path, shape):
    sites = {"encoder.layers.0.ffn_residual": SiteProfile(2.0, 0.5, 0.5, math.nan)}
    with pytest.raises(AdminError, match="omega of the recursion nan is not finite"):
        save(Profile(sites, {}, shape), tmp_path / "p")


@pytest.mark.parametrize("init_type", ["adaptive", "adaptive-auto", "adaptive-profiling"])
def test_a_frozen_first_omega_contradicts_it(init_type):
    args = arguments(init_type=init_type, omega_shape="flat", freeze_first_omega=True)
    with pytest.raises(AdminError, match="--freeze-first-omega: with --omega-shape flat"):
        rules.check(options.complete(args))


def test_words_that_contradict_each_other():
    with pytest.raises(AdminError, match="--init-type admin-flat is --omega-shape flat; leave"):
        build(init_type="admin-flat", omega_shape="recursion")
    model = build(init_type="admin-flat")
    assert model.flags.init_type == "adaptive" and model.flags.omega_shape == "flat"
    assert method_of(model.flags).label == "Admin, flat"


def test_other_methods_do_not_read_it(caplog):
    build(init_type="deepnet", omega_shape="flat")
    assert "--omega-shape does nothing with --init-type deepnet" in caplog.text


def omegas_at_start(folder):
    path = str(folder / "checkpoint_last.pt")
    args = stored_args(load_checkpoint(path), path)
    return args.admin_omega, args.omega_shape


def test_a_flat_profile_and_a_frozen_first_omega():
    """Where no flag says so, the profile does: the way out is the other shape."""
    model = build(init_type="adaptive", freeze_first_omega=True)
    profile = with_shape(profile_omega(model, batch()), "flat")
    with pytest.raises(AdminError, match="--omega-shape recursion has it so"):
        check_origin(profile, model.flags)


@pytest.mark.slow
@pytest.mark.subprocess
def test_stages(data_bin, tmp_path):
    """One profile makes both shapes; with no flag stage 2 does as the profile says."""
    profile = tmp_path / "flat.profile"
    flags = ["--admin-profile", profile]
    shape = ["--omega-shape", "flat", *flags]
    train(data_bin, tmp_path / "p", "--init-type", "adaptive-profiling", *shape)
    flat = load(profile)
    assert flat.shape == "flat"
    recursion = with_shape(flat, "recursion")
    once = ["--max-update", "1", *flags]
    train(data_bin, tmp_path / "a", "--init-type", "adaptive", *once)
    train(data_bin, tmp_path / "b", "--init-type", "admin-flat", "--bf16", "--lr", "1e-9", *once)
    train(data_bin, tmp_path / "c", "--init-type", "adaptive", "--omega-shape", "recursion", *once)
    for name in "ab":
        assert omegas_at_start(tmp_path / name) == (dict(flat.omega), "flat"), name
    assert omegas_at_start(tmp_path / "c") == (dict(recursion.omega), "recursion")
    state = load_checkpoint(str(tmp_path / "b" / "checkpoint_last.pt"))["model"]
    for name, omega in flat.omega.items():
        assert state[f"{name}.omega"].eq(torch.tensor(omega).to(torch.bfloat16)).all(), name
    run("admin-fairseq", "profile", profile, "--plot", tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 0
    profile.unlink()  # resumed, it needs none
    train(data_bin, tmp_path / "a", "--init-type", "adaptive", "--max-update", "2", *flags)


@pytest.mark.parametrize("started", [True, False], ids=["at the start", "trained"])
def test_folded_outputs_are_equal(started):
    model = adaptive(layers=(3, 2), omega_shape="flat", share_all_embeddings=True)
    apply_profile(model, with_shape(profile_omega(model, batch()), "flat"))
    if not started:
        disturb(model)
    model = model.double()
    assert difference(model, fold(model), batch()["net_input"]) < 1e-12
