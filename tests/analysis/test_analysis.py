"""The probes: against slow references, exact identities, published values and the theory."""

import copy
import math
import re
import statistics

import numpy as np
import pytest
import torch
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.analysis import (
    dependency,
    gradients,
    growth,
    output_change,
    probe,
    stability,
    updates,
)
from admin_fairseq.analysis.findings import format_report
from admin_fairseq.errors import AdminError
from admin_fairseq.profile.fill import apply_profile
from admin_fairseq.profile.measure import profile_omega
from admin_fairseq.sites import named_sites
from admin_fairseq.weights import differences
from tests.helpers import adaptive, batch, build, task

MODELS = {
    "post-ln": {},
    "pre-ln": {"encoder_normalize_before": True, "decoder_normalize_before": True},
    "admin": {"init_type": "adaptive", "admin_omega": {}},
    "analytic": {"init_type": "analytic"},
    "deepnet": {"init_type": "deepnet"},
    "rezero": {"init_type": "rezero"},
    "rezero_postln": {"init_type": "rezero_postln"},
    "looklinear": {"init_type": "looklinear"},
    "layernorm-embedding": {"layernorm_embedding": True},
    "unequal depth": {"layers": (1, 3)},
}
CRITERION = CrossEntropyCriterion(task(), False)


def make(name, trained=False, **flags):
    """A model in float64; ``trained``: every weight moved, LayerNorms and scales included."""
    model = build(**{**MODELS[name], **flags}).double().eval()
    if trained:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(
                    0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.double)
                )
    return model


def admin_at_its_start(sample, **flags):
    model = build(init_type="adaptive", admin_omega={}, **flags).double().eval()
    apply_profile(model, profile_omega(model, sample))
    return model


# dependency


def reference_beta(sites, inputs):
    """beta of Post-LN in numpy, position by position: x_j enters, later sites scale it."""
    rows = []
    for i in range(len(sites)):
        parts = []
        for j in range(i + 2):
            if j == 0:
                part = inputs[sites[0].name][1].numpy().copy()
            else:
                part = inputs[sites[j - 1].name][0].numpy().copy()
            for k in range(max(j - 1, 0), i + 1):
                branch, shortcut = (x.numpy() for x in inputs[sites[k].name])
                omega = (
                    torch.as_tensor(sites[k].residual.shortcut_scale, dtype=torch.double)
                    .detach()
                    .numpy()
                )
                gamma = sites[k].norm_after.weight.detach().numpy()
                for p in range(len(part)):
                    total = branch[p] + omega * shortcut[p]
                    mine = part[p] if k == j - 1 else omega * part[p]
                    part[p] = (mine - mine.mean()) / np.sqrt(total.var() + 1e-5) * gamma
            parts.append(part)
        whole = sum(parts).std()
        rows.append([part.std() / whole for part in parts])
    return rows


@pytest.mark.parametrize("name", ["post-ln", "admin", "deepnet"])
@pytest.mark.parametrize("trained", [False, True])
def test_beta_against_a_slow_reference(name, trained):
    model, sample = make(name, trained), batch()
    found = probe.run_forward(model, sample)
    for stack, sites in probe.sites_of(model).items():
        expected = reference_beta(sites, found.inputs)
        for row, values in zip(dependency.dependency(model, sample)[stack], expected):
            np.testing.assert_allclose(row.beta, values, rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("trained", [False, True])
def test_components_add_up_to_the_output(name, trained):
    rows = dependency.dependency(make(name, trained), batch())
    for stack in ("encoder", "decoder"):
        assert max(row.error for row in rows[stack]) < 1e-12
        assert [len(row.beta) for row in rows[stack]] == list(range(2, len(rows[stack]) + 2))


def test_a_wrong_scale_is_noticed(monkeypatch):
    """What multiplies by gamma and omega alone, or forgets a scale, does not add up."""
    model = make("deepnet")
    monkeypatch.setattr(dependency, "_channel_std", lambda x, eps: torch.ones_like(x[..., :1]))
    with pytest.raises(AdminError, match="do not|miss the output"):
        dependency.dependency(model, batch())


def test_what_cannot_be_decomposed_is_refused():
    model = make("post-ln", scale_resids=True)
    with torch.no_grad():
        model.decoder.layers[0].w_resid.fill_(0.5)
    with pytest.raises(AdminError, match="cannot be decomposed"):
        dependency.dependency(model, batch())


@pytest.mark.parametrize("name", ["post-ln", "pre-ln"])
def test_padding_does_not_count(name):
    """The same sentence with and without fifty positions of padding."""
    model, sample = make(name), batch(sentences=1, padding=False)
    padded = {key: value.clone() for key, value in sample["net_input"].items()}
    padded["src_tokens"] = torch.cat([torch.full((1, 50), 1), padded["src_tokens"]], 1)
    padded["prev_output_tokens"] = torch.cat(
        [padded["prev_output_tokens"], torch.full((1, 50), 1)], 1
    )
    two = [
        dependency.dependency(model, {**sample, "net_input": n})
        for n in (sample["net_input"], padded)
    ]
    for stack in ("encoder", "decoder"):
        for plain, with_padding in zip(two[0][stack], two[1][stack]):
            np.testing.assert_allclose(plain.beta, with_padding.beta, rtol=1e-6)


def test_dropout_is_off_unless_asked_and_repeats():
    model = make("post-ln", dropout=0.3)
    plain, again = (dependency.dependency(model, batch())["encoder"][-1].beta for _ in range(2))
    assert plain == again
    dropped = [
        dependency.dependency(model, batch(), dropout=True, seed=s)["encoder"][-1].beta
        for s in (1, 1, 2)
    ]
    assert dropped[0] == dropped[1] != dropped[2] and dropped[0] != plain
    assert not model.training


def test_long_batches_are_thinned(monkeypatch):
    """What is kept is bounded, and what is kept still adds up."""
    model, sample = make("admin", trained=True), batch(sentences=30)
    whole = dependency.dependency(model, sample)
    monkeypatch.setattr(probe, "MAX_POSITIONS", 40)
    assert {
        len(x) for inputs in probe.run_forward(model, sample).inputs.values() for x in inputs
    } == {40}
    thin = dependency.dependency(model, sample)
    for stack in ("encoder", "decoder"):
        assert max(row.error for row in thin[stack]) < 1e-12
        np.testing.assert_allclose(thin[stack][-1].beta, whole[stack][-1].beta, rtol=0.2)
        assert thin[stack][-1].beta != whole[stack][-1].beta


# Liu et al., EMNLP 2020: beta at initialisation of a 6-layer encoder. The dims are those of the
# IWSLT'14 recipe: with ffn 2048 the feed-forward entries come out at .49 (2 C F / (C + F)^2 of
# variance), with 1024 at .55
PUBLISHED_POST_LN = [0.40, 0.54, 0.38, 0.54, 0.43, 0.55, 0.50, 0.53, 0.50, 0.55, 0.54, 0.55]
PUBLISHED_ROW_12 = [0.07, 0.12, 0.09, 0.15, 0.13, 0.20, 0.22, 0.27, 0.29, 0.39, 0.45, 0.55]
PUBLISHED_PRE_LN = [0.27, 0.45, 0.27, 0.40, 0.25, 0.36, 0.27, 0.32, 0.25, 0.31, 0.23, 0.28]
IWSLT = dict(
    layers=(6, 1), dim=512, encoder_ffn_embed_dim=1024, encoder_attention_heads=4, xavier_ffn=True
)


def test_published_beta_at_the_start():
    """On random tokens: attention depends a little on how alike the tokens of a sentence are."""
    sample = batch(types=1000, sentences=8, source_length=25, target_length=4, padding=False)
    rows = {}
    for name in ("post-ln", "pre-ln"):
        model = build(on_task=task(1000), **{**MODELS[name], **IWSLT}).double().eval()
        rows[name] = dependency.dependency(model, sample)["encoder"]
    np.testing.assert_allclose(
        [row.beta[-1] for row in rows["post-ln"]], PUBLISHED_POST_LN, atol=0.1
    )
    np.testing.assert_allclose(rows["post-ln"][-1].beta[1:], PUBLISHED_ROW_12, atol=0.1)
    np.testing.assert_allclose([row.beta[-1] for row in rows["pre-ln"]], PUBLISHED_PRE_LN, atol=0.1)
    assert all(abs(row.sum_of_squares - 1) < 0.1 for name in rows for row in rows[name])


# output change


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("perturbation", output_change.STEPS)
def test_output_change_against_moving_the_weights_by_hand(name, perturbation):
    sample = batch()
    model, moved = make(name, trained=True), make(name, trained=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    changes = output_change.output_change(model, sample, CRITERION, perturbation, seed=4)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items()), (
        "the model is as it was"
    )

    if perturbation == "gradient":
        loss, size, _ = CRITERION(moved, sample)
        (loss / size).backward()
    generator = torch.Generator().manual_seed(4)
    for stack in ("encoder", "decoder"):
        originals = {}
        for site in probe.sites_of(moved)[stack]:
            layer = moved.get_submodule(site.name.rsplit(".", 1)[0])
            parts = {"self_attn_residual": ["self_attn"], "encoder_attn_residual": ["encoder_attn"]}
            for part in parts.get(site.name.rsplit(".", 1)[1], ["fc1", "fc2"]):
                for key, weight in getattr(layer, part).named_parameters():
                    if key.endswith("bias"):
                        continue
                    originals[weight] = weight.detach().clone()
                    if perturbation == "gradient":
                        step = 1e-6 * weight.grad.sign()
                    else:
                        step = 1e-4 * torch.randn(weight.shape, generator=generator).double().sign()
                    weight.data -= step
        x, y = (run_stack(one, sample, stack) for one in (make(name, trained=True), moved))
        expected = float((x - y).pow(2).sum(-1).mean())
        for weight, original in originals.items():
            weight.data.copy_(original)
        assert changes[stack] == pytest.approx(expected, rel=1e-6)
        assert expected > 0


def run_stack(model, sample, stack):
    net_input = sample["net_input"]
    with torch.no_grad():
        encoder_out = model.encoder(net_input["src_tokens"], net_input["src_lengths"])
        if stack == "encoder":
            return encoder_out["encoder_out"][0][net_input["src_tokens"].ne(1).t()]
        features = model.decoder(net_input["prev_output_tokens"], encoder_out, features_only=True)[
            0
        ]
        return features[net_input["prev_output_tokens"].ne(1)]


def test_the_relative_change_does_not_depend_on_the_size_of_the_output():
    """A larger gamma of the last LayerNorm, undone by what reads it, is the same model."""
    model, sample = make("post-ln", trained=True), batch()
    kinds = {relative: [] for relative in (False, True)}
    for _ in range(2):
        for relative, found in kinds.items():
            found.append(
                output_change.output_changes(
                    model, sample, CRITERION, "random", [3], relative=relative
                )[0]
            )
        with torch.no_grad():
            last = model.encoder.layers[-1].final_layer_norm
            last.weight.mul_(4), last.bias.mul_(4)
            for layer in model.decoder.layers:
                layer.encoder_attn.k_proj.weight.div_(4), layer.encoder_attn.v_proj.weight.div_(4)
    assert kinds[True][1]["encoder"] == pytest.approx(kinds[True][0]["encoder"])
    assert kinds[False][1]["encoder"] == pytest.approx(16 * kinds[False][0]["encoder"])


def test_rezero_does_not_move_at_the_start():
    for perturbation in output_change.STEPS:
        assert set(
            output_change.output_change(make("rezero"), batch(), CRITERION, perturbation).values()
        ) == {0.0}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-6, 1e3), min_size=3, max_size=8))
def test_fits_against_numpy(changes):
    numbers = [2 * 2**k for k in range(len(changes))]
    laws = growth.fit(numbers, changes)
    for law, x in (("O(N)", np.array(numbers, float)), ("O(log N)", np.log(numbers))):
        slope, intercept = np.polyfit(x, changes, 1)
        got_intercept, got_slope, r_squared = laws[law]
        scale = max(changes)
        assert got_slope * x[-1] == pytest.approx(slope * x[-1], abs=1e-6 * scale)
        assert got_intercept == pytest.approx(intercept, abs=1e-6 * scale)
        if np.ptp(changes) > 1e-3 * scale:
            residual = np.sum((np.array(changes) - intercept - slope * x) ** 2)
            assert r_squared == pytest.approx(
                1 - residual / np.sum((changes - np.mean(changes)) ** 2), abs=1e-6
            )
    assert math.isnan(growth.fit(numbers, [0.0] * len(numbers))["O(N)"][2])


def test_depth_check():
    """The theory, as a test: Post-LN's output change exceeds Admin's, the more the deeper it is."""
    depths, seeds = (3, 6, 12, 24, 48), range(1, 5)
    sample = batch(types=200, sentences=8, source_length=20, target_length=4, padding=False)
    margins = []
    for depth in depths:
        flags = dict(layers=(depth, 1), dim=64, xavier_ffn=True)
        changes = {"post-ln": [], "admin": []}
        for seed in seeds:
            plain = build(on_task=task(200), seed=seed, **flags).double().eval()
            ours = admin_at_its_start(sample, on_task=task(200), seed=seed, **flags)
            for name, model in (("post-ln", plain), ("admin", ours)):
                change = output_change.output_change(model, sample, CRITERION, "random", seed=seed)[
                    "encoder"
                ]
                changes[name].append(change)
        margins.append(statistics.mean(changes["post-ln"]) - statistics.mean(changes["admin"]))
    assert margins[0] > 0 and margins == sorted(margins), margins


# gradients


@pytest.mark.parametrize("name", MODELS)
def test_gradient_norms_against_autograd(name):
    model, sample = make(name, trained=True), batch()
    loss, rows = gradients.gradient_norms(model, sample, CRITERION)
    assert all(weight.grad is None for weight in model.parameters())
    log_probs = torch.log_softmax(model(**sample["net_input"])[0].float(), -1)
    real = sample["target"].ne(1)
    expected = -log_probs.gather(-1, sample["target"][..., None])[..., 0][real].mean()
    assert loss == pytest.approx(float(expected), rel=1e-6)
    for row in rows:
        layer, role = row["site"].rsplit(".", 1)
        parts = {"self_attn_residual": "self_attn", "encoder_attn_residual": "encoder_attn"}.get(
            role, "fc"
        )
        weights = [
            w
            for n, w in model.named_parameters()
            if n.startswith(f"{layer}.{parts}") and n.endswith("weight")
        ]
        weights = [w for w in weights if w.dim() == 2]
        found = torch.autograd.grad(expected, weights, retain_graph=True)
        assert row["weights"] == pytest.approx(
            math.sqrt(sum(float(g.double().pow(2).sum()) for g in found)), rel=1e-5
        )
    layers = gradients.by_layer(rows)
    assert sum(v**2 for v in layers.values()) == pytest.approx(
        sum(row["weights"] ** 2 for row in rows)
    )


def test_gradient_of_the_output_is_the_derivative():
    model, sample = make("post-ln", trained=True), batch()
    site = named_sites(model)["encoder.layers.1.self_attn_residual"]
    _, rows = gradients.gradient_norms(model, sample, CRITERION)
    norm = next(
        row["output"] for row in rows if row["site"] == "encoder.layers.1.self_attn_residual"
    )

    captured = {}
    handle = site.register_forward_hook(lambda module, inputs, out: captured.update(x=out))
    log_probs = torch.log_softmax(model(**sample["net_input"])[0], -1)
    handle.remove()
    nll = -log_probs.gather(-1, sample["target"][..., None])[..., 0][sample["target"].ne(1)].mean()
    (expected,) = torch.autograd.grad(nll, captured["x"])
    assert norm == pytest.approx(float(expected.norm()), rel=1e-5)


def test_gradients_vanish_in_the_decoder_of_deep_post_ln_only():
    """Liu et al., EMNLP 2020, section 3: not in the encoder, and not with Admin."""
    flags, sample = dict(layers=(18, 18), dim=32, xavier_ffn=True), batch(sentences=8)
    spreads = {}
    for name, model in (
        ("post-ln", make("post-ln", **flags)),
        ("admin", admin_at_its_start(sample, **flags)),
    ):
        layers = gradients.by_layer(gradients.gradient_norms(model, sample, CRITERION)[1])
        for stack in ("encoder", "decoder"):
            spreads[name, stack] = layers[stack, 17] / layers[stack, 0]
    assert spreads["post-ln", "decoder"] > 10
    assert all(value < 10 for key, value in spreads.items() if key != ("post-ln", "decoder")), (
        spreads
    )


# updates


MATRIX = re.compile(
    r"((encoder|decoder)\.layers\.\d+)\."
    r"(self_attn|encoder_attn|fc1|fc2)(?:\.[qkv]_proj|\.out_proj)?\.weight"
)
SITE_OF = {"self_attn": "self_attn", "encoder_attn": "encoder_attn", "fc1": "ffn", "fc2": "ffn"}


def stepped(model, sample, optimizer, **settings):
    """The model after one step of an optimizer on a batch."""
    later = copy.deepcopy(model)
    loss, size, _ = CRITERION(later, sample)
    (loss / size).backward()
    optimizer(later.parameters(), **settings).step()
    return later


@pytest.mark.parametrize("name", MODELS)
def test_update_norms_against_plain_loops(name):
    model, sample = make(name, trained=True), batch()
    later = stepped(model, sample, torch.optim.SGD, lr=0.7, weight_decay=0.2).float()
    loss, rows = updates.update_norms(model, later, sample, CRITERION)
    assert all(weight.grad is None for weight in model.parameters())

    log_probs = torch.log_softmax(model(**sample["net_input"])[0].float(), -1)
    nll = -log_probs.gather(-1, sample["target"][..., None])[..., 0][sample["target"].ne(1)].mean()
    assert loss == pytest.approx(float(nll), rel=1e-6)
    before, after = model.state_dict(), later.state_dict()
    expected = {}
    for key, weight in model.named_parameters():
        match = MATRIX.fullmatch(key)
        if match is None:
            continue
        (gradient,) = torch.autograd.grad(nll, weight, retain_graph=True)
        w, w_after = before[key].flatten().tolist(), after[key].flatten().tolist()
        expected[key] = {
            "site": f"{match[1]}.{SITE_OF[match[3]]}_residual",
            "stack": match[2],
            "gradient": math.sqrt(math.fsum(g**2 for g in gradient.flatten().tolist())),
            "update": math.sqrt(math.fsum((b - a) ** 2 for a, b in zip(w, w_after))),
            "weight": math.sqrt(math.fsum(a**2 for a in w)),
        }
    assert {row["matrix"] for row in rows} == set(expected) and len(rows) == len(expected)
    for row in rows:
        mine = expected[row["matrix"]]
        assert (row["site"], row["stack"]) == (mine["site"], mine["stack"])
        assert row["site"].startswith(f"{row['stack']}.layers.{row['layer']}.")
        for what in ("gradient", "update", "weight"):
            assert row[what] == pytest.approx(mine[what], rel=1e-5) and row[what] > 0
            if what != "weight":
                unit = max(one[what] for one in expected.values())
                assert row[f"relative_{what}"] == pytest.approx(mine[what] / unit, rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_plain_sgd_moves_weights_as_far_as_their_gradients_are_long(name):
    model, sample = make(name, trained=True), batch()
    later = stepped(model, sample, torch.optim.SGD, lr=0.1)
    _, rows = updates.update_norms(model, later, sample, CRITERION)
    for row in rows:
        assert row["update"] == pytest.approx(0.1 * row["gradient"], rel=1e-9)
        assert row["relative_update"] == pytest.approx(row["relative_gradient"], rel=1e-9)
    norms = [[row[what] for row in rows] for what in updates.NORMS]
    of_gradients, of_updates = (updates.balance(values) for values in norms)
    assert of_updates == pytest.approx(of_gradients) and of_gradients["largest/smallest"] > 1.5
    assert updates.rank_correlation(*norms) == pytest.approx(1)


def test_the_first_step_of_adam_knows_no_gradient_but_its_sign():
    """The papers' finding at its plainest: gradients of Post-LN are unbalanced, updates are not."""
    flags, sample = dict(layers=(1, 12), dim=32, xavier_ffn=True), batch(sentences=8)
    model = make("post-ln", **flags)
    later = stepped(model, sample, torch.optim.Adam, lr=1e-3, eps=1e-30)
    _, rows = updates.update_norms(model, later, sample, CRITERION)
    for row in rows:
        # weights of units that the batch never wakes have no gradient, and stay
        moved = int(later.get_parameter(row["matrix"]).grad.count_nonzero())
        assert row["update"] == pytest.approx(1e-3 * math.sqrt(moved), rel=1e-6)
    found = [[row[what] for row in rows if row["stack"] == "decoder"] for what in updates.NORMS]
    of_gradients, of_updates = (updates.balance(values) for values in found)
    assert of_gradients["largest/smallest"] > 20 and of_updates["largest/smallest"] < 1.5


def test_gradients_of_zero_have_no_ratio_and_no_place():
    """ReZero's branches at the first step, where nothing that is drawn or printed may break."""
    model = make("rezero")
    _, rows = updates.update_norms(model, make("rezero", seed=2), batch(), CRITERION)
    assert {row["relative_gradient"] for row in rows} == {0.0}
    assert max(row["relative_update"] for row in rows) == 1
    found = updates.balance([row["gradient"] for row in rows])
    assert math.isnan(found["largest/smallest"]) and found["zeros"] == len(rows)
    assert updates.balance([0.0, 8.0, 2.0, 1.0]) == {
        "largest/smallest": 8.0,
        "largest/median": 4.0,
        "zeros": 1,
    }


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_rank_correlation_by_counting(pairs):
    """Against ranks by counting, and Pearson's coefficient of numpy; ties included."""
    x, y = zip(*pairs)
    found = updates.rank_correlation(x, y)
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert math.isnan(found)
        return
    ranks = []
    for values in (x, y):
        ranks.append([sum(b < a for b in values) + sum(b == a for b in values) / 2 for a in values])
    assert found == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)


def test_updates_of_gradients_that_are_not_finite():
    model = make("post-ln", trained=True)
    with torch.no_grad():
        model.decoder.layers[0].fc2.weight[0, 0] = float("inf")
    with pytest.raises(AdminError, match="not finite"):
        updates.update_norms(model, make("post-ln"), batch(), CRITERION)
    assert all(weight.grad is None for weight in model.parameters())


# stability


def examine(model, sample, **flags):
    return stability.examine(
        model, "mine", lambda: admin_at_its_start(sample, **flags), sample, CRITERION
    )


def patterns(report):
    return " | ".join(finding.pattern for finding in report.findings)


def test_deep_post_ln_is_recognised_and_admin_is_not_blamed():
    flags, sample = (
        dict(layers=(18, 18), dim=32, xavier_ffn=True),
        batch(sentences=8, source_length=12, target_length=12),
    )
    report = examine(make("post-ln", **flags), sample, **flags)
    assert "the encoder depends on its last branches only" in patterns(report)
    assert "gradients vanish towards the input of the decoder" in patterns(report)
    assert "--init-type adaptive-auto" in format_report(
        report
    ) and "training anew" not in format_report(report)
    good = examine(admin_at_its_start(sample, **flags), sample, **flags)
    assert good.findings == [] and "Nothing stands out" in format_report(good)
    assert good.changes["mine"] == good.changes["Admin"]


def test_advice_fits_the_model():
    """Admin is not advised to Admin; who has trained hears that it means to start anew."""
    plain = make("post-ln")
    assert "adaptive-auto" in stability.advise_init(plain) and "anew" not in stability.advise_init(
        plain
    )
    plain.load_state_dict(plain.state_dict())
    assert "training anew" in stability.advise_init(plain)
    for name in ("admin", "deepnet", "analytic"):
        assert "--init-type" not in stability.advise_init(make(name))


def test_non_finite_weights_and_where_they_show():
    model, sample = make("admin", layers=(3, 3)), batch()
    with torch.no_grad():
        model.encoder.layers[1].fc2.weight[0, 0] = float("nan")
    report = examine(model, sample)
    assert patterns(report) == "weights are not finite" and report.gradients == []
    assert "encoder.layers.1.fc2.weight" in format_report(report)
    assert "encoder.layers.1.ffn_residual (branch)" in format_report(report)


def test_overflow_in_the_forward_pass():
    model, sample = make("rezero", trained=True), batch()
    with torch.no_grad():
        model.encoder.layers[1].fc1.weight.fill_(1e200)
        model.encoder.layers[1].fc2.weight.fill_(1e200)
    text = format_report(examine(model, sample))
    assert (
        "the forward pass is not finite" in text
        and "encoder.layers.1.ffn_residual (branch)" in text
    )


def test_large_activations_branches_that_do_nothing_and_omegas_that_turned():
    sample, flags = batch(), {}
    big = make("admin", trained=True)
    with torch.no_grad():
        big.decoder.layers[0].fc2.weight.mul_(1e6)
        named_sites(big)["encoder.layers.0.ffn_residual"].omega[3] = -0.5
    report = examine(big, sample, **flags)
    assert "activations near the end of float16" in patterns(report)
    assert "omegas changed sign" in patterns(report)
    assert "the encoder's branches contribute nothing" in patterns(examine(make("rezero"), sample))


def test_one_branch_that_dominates():
    model = make("rezero", trained=True)
    with torch.no_grad():
        model.decoder.layers[1].fc2.weight.mul_(1000)
    assert "one branch dominates the decoder" in patterns(examine(model, batch()))


# subjects


def test_differences_are_all_listed_and_not_too_many():
    ours = {
        "a": torch.zeros(2),
        "encoder.embed_tokens.weight": torch.zeros(5, 2),
        "c": torch.zeros(1),
    }
    theirs = {
        "encoder.embed_tokens.weight": torch.zeros(6, 2),
        "c": torch.zeros(1),
        "d": torch.zeros(1),
    }
    problems = differences(ours, theirs)
    assert len(problems) == 3 and any("dictionary is another" in problem for problem in problems)
    many = differences({f"w{i}": torch.zeros(1) for i in range(30)}, {})
    assert len(many) == 11 and many[-1] == "... and 20 more"


def test_one_layer_models():
    rows = dependency.dependency(adaptive(layers=(1, 1)).double().eval(), batch())
    assert [len(rows[stack]) for stack in rows] == [2, 3]
