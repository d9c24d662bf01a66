"""``--cpu --amp``: what is bfloat16 and what is not, through fairseq's own Trainer."""

import logging
import warnings

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.trainer import Trainer
from torch.nn import functional

from admin_fairseq import bfloat16, cpu_amp
from admin_fairseq.criterion import NAME
from admin_fairseq.errors import AdminError
from admin_fairseq.profile.measure import profile_omega
from admin_fairseq.sites import named_sites
from tests.helpers import adaptive, batch, task

PLAIN = "label_smoothed_cross_entropy"
DIM = 32
ADMIN = ["--arch", "admin_transformer_tiny", "--init-type", "analytic"]


def configuration(*flags):
    words = ["no-data", "--cpu", *([] if "--arch" in flags else ADMIN)]
    words += ["--criterion", PLAIN, "--label-smoothing", "0.1", "--optimizer", "adam"]
    words += ["--lr", "1e-3", "--lr-scheduler", "fixed", "--max-tokens", "99", "--dropout", "0"]
    words += ["--encoder-layers", "2", "--decoder-layers", "2", "--encoder-embed-dim", str(DIM)]
    words += ["--source-lang", "en", "--target-lang", "de", *flags]
    args = options.parse_args_and_arch(options.get_training_parser(), input_args=words)
    args.tpu = False  # as the plugin's workaround in fairseq-train has it with --bf16
    return convert_namespace_to_omegaconf(args)


def trainer(*flags):
    cfg, on_task = configuration(*flags), task()
    torch.manual_seed(1)
    model, criterion = on_task.build_model(cfg.model), on_task.build_criterion(cfg.criterion)
    made = Trainer(cfg, on_task, model, criterion)
    made.lr_step_begin_epoch(1)
    return made


def gradients(*flags, samples=None):
    """One update's gradients, and its loss; the learning rate is small enough not to matter."""
    made = trainer(*flags)
    log = made.train_step(samples or [batch()])
    found = {}
    for name, weight in made.model.named_parameters():
        assert weight.dtype == torch.float32, name
        if weight.grad is not None:
            assert weight.grad.dtype == torch.float32, name
            found[name] = weight.grad.clone()
    return found, float(log["loss"])


def norm(tensors):
    return torch.stack([tensor.norm() for tensor in tensors]).norm()


def check_close(flags, samples=None):
    """Gradients with and without --amp are as close as bfloat16 is, and not the same."""
    exact, loss = gradients(*flags, samples=samples)
    found, other = gradients(*flags, "--amp", samples=samples)
    assert other == pytest.approx(loss, rel=3e-3)
    assert set(found) == set(exact) and found
    assert any(not torch.equal(found[name], gradient) for name, gradient in exact.items())
    errors = {name: found[name] - gradient for name, gradient in exact.items()}
    total = norm(exact.values())
    # a rounding is 0.4 % at most, and a gradient goes through some tens of them
    assert norm(errors.values()) <= 0.03 * total
    for name, error in errors.items():
        # some are 0 but for rounding, as those of the biases of keys
        assert error.norm() <= 0.15 * exact[name].norm() + 0.001 * total, name


@pytest.mark.parametrize(
    "flags",
    [
        f"--criterion {PLAIN} --clip-norm 0.5",
        f"--criterion {NAME} --optimizer fused_adam --share-all-embeddings",
        f"--criterion {NAME} --optimizer radam --clip-norm 0.5",
        "--init-type pre-ln",
        "--init-type rezero",
        "--init-type deepnet --activation-fn gelu",
        "--arch transformer",
    ],
)
def test_gradients_are_those_of_float32_within_bfloat16(flags):
    check_close(flags.split())


def test_batches_of_an_update_add_up():
    check_close([], samples=[batch(seed=1), batch(seed=2)])


@pytest.mark.parametrize("criterion", [PLAIN, NAME])
def test_checkpointed_activations_are_computed_again_in_bfloat16(criterion):
    """To the bit: fairseq's own way would differentiate a float32 layer."""
    flags = ["--amp", "--criterion", criterion]
    plain, loss = gradients(*flags)
    again, other = gradients(*flags, "--checkpoint-activations")
    assert other == loss
    for name, gradient in plain.items():
        # layers are wrapped one deeper, or by name alone
        assert torch.equal(again[name], gradient), name


@pytest.mark.parametrize("flags", [[], ["--optimizer", "fused_adam", "--criterion", NAME]])
def test_state_and_weights_stay_float32(flags):
    made = trainer("--amp", *flags)
    made.train_step([batch()])
    state = made.optimizer.state_dict()["state"]
    assert len(state) > 20
    for moments in state.values():
        assert moments["exp_avg"].dtype == moments["exp_avg_sq"].dtype == torch.float32
    assert {weight.dtype for weight in made.model.state_dict().values()} == {torch.float32}


def types_at_sites(made, step):
    """The types of branch, shortcut and sum at every site, in what ``step`` runs."""
    seen = {}

    def look(name):
        def hook(site, inputs, output):
            seen[name] = (*(value.dtype for value in inputs), output.dtype)

        return hook

    for name, site in named_sites(made.get_model()).items():
        site.register_forward_hook(look(name))
    step()
    assert len(seen) == 10
    return set(seen.values())


@pytest.mark.parametrize("init_type", ["analytic", "deepnet", "rezero", "default"])
def test_the_residual_stream_is_float32_and_branches_are_not(init_type):
    made = trainer("--amp", "--init-type", init_type)
    found = types_at_sites(made, lambda: made.train_step([batch()]))
    assert found == {(torch.bfloat16, torch.float32, torch.float32)}


def test_validation_is_in_float32():
    made = trainer("--amp")
    made.train_step([batch()])
    assert types_at_sites(made, lambda: made.valid_step(batch())) == {(torch.float32,) * 3}


def test_attention_computes_in_float32(monkeypatch):
    seen = []

    def attention(*inputs, **named):
        seen.extend(value.dtype for value in inputs if torch.is_tensor(value))
        return original(*inputs, **named)

    original = functional.scaled_dot_product_attention
    monkeypatch.setattr(functional, "scaled_dot_product_attention", attention)
    trainer("--amp").train_step([batch()])
    assert seen and set(seen) <= {torch.float32, torch.bool}
    assert functional.scaled_dot_product_attention is attention, "given back"


def test_attention_is_given_back_after_an_error():
    original = functional.scaled_dot_product_attention
    with pytest.raises(KeyError), bfloat16.autocast():
        assert functional.scaled_dot_product_attention is not original
        raise KeyError
    assert functional.scaled_dot_product_attention is original
    assert not torch.is_autocast_enabled("cpu")


def test_attention_of_other_types_is_as_it_was():
    q, k, v = torch.randn(3, 2, 2, 5, 8, dtype=torch.float64)
    plain = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    with bfloat16.autocast():
        wide = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.equal(plain, wide)


def test_profiles_measure_what_trains():
    """Deep: 60-12 differs from float32 by less than 0.2 %."""
    model = adaptive(layers=(60, 12), dim=64)
    sample = batch(sentences=8, source_length=20, target_length=20)
    exact = profile_omega(model, sample).omega
    with bfloat16.autocast():
        found = profile_omega(model, sample).omega
    assert found == pytest.approx(exact, rel=2e-3) and found != exact


def test_a_gradient_that_is_not_finite_stops_the_training(tmp_path):
    """As without --amp; fairseq's would try the batch again, and a scaler that is off fails."""
    made = trainer("--amp", "--save-dir", str(tmp_path))
    with torch.no_grad():
        next(made.get_model().decoder.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError):
        made.train_step([batch()])


def test_optimizers_are_fairseqs_in_name_and_without_a_scale():
    made = trainer("--amp")
    assert isinstance(made.optimizer, AMPOptimizer)
    assert type(made.optimizer).__name__ == AMPOptimizer.__name__
    assert made.optimizer.scaler.get_scale() == 1


def test_on_another_device_fairseqs_optimizer_is_built():
    """There is no GPU: a tensor of the device that stores nothing stands for one."""
    weight = torch.nn.Parameter(torch.empty(2, device="meta"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = AMPOptimizer.build_optimizer(configuration("--amp"), [weight])
    assert type(made) is AMPOptimizer


def said(caplog, *flags):
    with caplog.at_level(logging.INFO, logger="admin_fairseq.cpu_amp"):
        cpu_amp.check(configuration(*flags))
    return [(record.levelname, record.getMessage()) for record in caplog.records]


LARGE = ["--encoder-embed-dim", str(cpu_amp.FASTER_FROM)]


def test_says_what_it_does(caplog, monkeypatch):
    monkeypatch.setattr(cpu_amp, "has_fast_bfloat16", lambda: True)
    assert said(caplog) == []
    [(level, text)] = said(caplog, "--amp", *LARGE)
    assert level == "INFO" and "bfloat16" in text


def test_warns_of_small_models(caplog, monkeypatch):
    monkeypatch.setattr(cpu_amp, "has_fast_bfloat16", lambda: True)
    _, (level, text) = said(caplog, "--amp", "--encoder-embed-dim", "64")
    assert level == "WARNING" and "--encoder-embed-dim 64" in text


@pytest.mark.parametrize("fast,warned", [(False, True), (True, False), (None, False)])
def test_warns_of_cpus_without_instructions(caplog, monkeypatch, fast, warned):
    monkeypatch.setattr(cpu_amp, "has_fast_bfloat16", lambda: fast)
    levels = [level for level, _ in said(caplog, "--amp", *LARGE)]
    assert levels == ["INFO"] + ["WARNING"] * warned


@pytest.mark.parametrize(
    "avx512,amx,expected",
    [(False, False, False), (True, False, True), (False, True, True), (None, None, None)],
)
def test_asks_the_cpu(monkeypatch, avx512, amx, expected):
    monkeypatch.setattr(bfloat16.platform, "machine", lambda: "x86_64")
    for name, answer in (("_is_avx512_bf16_supported", avx512), ("_is_amx_tile_supported", amx)):
        if answer is None:  # a torch that cannot be asked
            monkeypatch.delattr(torch.cpu, name)
        else:
            monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer)
    assert bfloat16.has_fast_bfloat16() is expected


def test_asks_other_cpus(monkeypatch):
    monkeypatch.setattr(bfloat16.platform, "machine", lambda: "aarch64")
    assert bfloat16.has_fast_bfloat16() in (True, False)


@pytest.mark.parametrize("flag", ["--bf16", "--fp16", "--memory-efficient-bf16"])
def test_half_precision_weights_are_refused(flag):
    with pytest.raises(AdminError, match="weights would be in half precision"):
        trainer("--amp", flag)
