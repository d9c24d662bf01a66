"""--criterion fused_label_smoothed_cross_entropy against fairseq's label_smoothed_cross_entropy."""

import socket

import pytest
import torch
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.distributed import ModuleProxyWrapper
from fairseq.models.transformer import TransformerModel

from admin_fairseq.criterion import NAME, obstacles
from admin_fairseq.errors import AdminError
from tests.helpers import adaptive, batch, build, task

PLAIN = "label_smoothed_cross_entropy"
TYPES = 40


def criterion(name=NAME, smoothing=0.1, **flags):
    flags = {"sentence_avg": False, "label_smoothing": smoothing, **flags}
    return CRITERION_REGISTRY[name](task(TYPES), **flags)


def step(model, name, sample, **flags):
    """Loss, sample size, log and gradients of one step."""
    model.zero_grad()
    torch.manual_seed(3)
    loss, sample_size, log = criterion(name, **flags)(model, sample)
    loss.backward()
    gradients = {}
    for key, weight in model.named_parameters():
        if weight.grad is not None:
            gradients[key] = weight.grad.clone()
    return loss.detach(), sample_size, log, gradients


def check_same(model, sample, rtol=2e-6, **flags):
    loss, sample_size, log, gradients = step(model, NAME, sample, **flags)
    plain = step(model, PLAIN, sample, **flags)
    # fairseq's log-probabilities are in float32 at most
    assert loss.dtype == (torch.float64 if model_dtype(model) == torch.float64 else torch.float32)
    torch.testing.assert_close(loss, plain[0], rtol=rtol, atol=0, check_dtype=False)
    assert sample_size == plain[1]
    assert list(log) == list(plain[2])
    for key, value in plain[2].items():
        assert type(log[key]) is type(value), key
        assert float(log[key]) == pytest.approx(float(value), rel=rtol), key
    assert set(gradients) == set(plain[3])
    # that of a key projection's bias is nothing but rounding
    largest = max(float(value.abs().max()) for value in plain[3].values())
    for key, value in plain[3].items():
        torch.testing.assert_close(gradients[key], value, rtol=rtol, atol=rtol * largest, msg=key)


def model_dtype(model):
    return next(model.parameters()).dtype


FLAGS = [
    {},
    {"smoothing": 0.0},
    {"smoothing": 1.0},
    {"report_accuracy": True},
    {"sentence_avg": True},
    {"ignore_prefix_size": 2},
    {"ignore_prefix_size": 99, "report_accuracy": True},
    {"ignore_prefix_size": 1, "report_accuracy": True, "sentence_avg": True},
]


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("padding", [True, False])
def test_equals_fairseqs(flags, padding):
    model = adaptive(share_decoder_input_output_embed=True, dropout=0.1)
    check_same(model, batch(TYPES, padding=padding), **flags)


@pytest.mark.parametrize(
    "flags",
    [
        {"share_all_embeddings": True},
        {"share_decoder_input_output_embed": False},
        {"checkpoint_activations": True},
        {"decoder_output_dim": 8},
        {"encoder_layerdrop": 0.3, "decoder_layerdrop": 0.3},
    ],
    ids=str,
)
def test_models_of_every_kind(flags):
    check_same(adaptive(**flags), batch(TYPES))


@pytest.mark.parametrize(
    "dtype,rtol", [(torch.bfloat16, 1e-2), (torch.float16, 2e-3), (torch.float64, 1e-6)]
)
def test_other_precisions(dtype, rtol):
    check_same(adaptive(share_all_embeddings=True).to(dtype), batch(TYPES), rtol)


def test_under_autocast():
    model = adaptive(share_all_embeddings=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check_same(model, batch(TYPES), 1e-2)


def test_a_loss_per_token_is_fairseqs():
    model, sample = adaptive().eval(), batch(TYPES)
    with torch.no_grad():
        ours = criterion()(model, sample, reduce=False)[0]
        theirs = criterion(PLAIN)(model, sample, reduce=False)[0]
    assert torch.equal(ours, theirs) and ours.numel() == sample["target"].numel()


def test_validation_equals_fairseqs():
    model, sample = adaptive().eval(), batch(TYPES)
    with torch.no_grad():
        ours = criterion(report_accuracy=True)(model, sample)
        theirs = criterion(PLAIN, report_accuracy=True)(model, sample)
    assert not ours[0].requires_grad
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=0)
    assert ours[2]["n_correct"] == theirs[2]["n_correct"]


def test_a_batch_of_nothing_but_padding():
    model, sample = adaptive(), batch(TYPES)
    sample["target"].fill_(1)
    loss, _, _, gradients = step(model, NAME, sample, report_accuracy=True)
    assert loss == 0
    assert all(not gradient.any() for gradient in gradients.values())


def test_the_forward_of_others_is_fairseqs():
    model, sample = adaptive().eval(), batch(TYPES)
    logits, extra = model(**sample["net_input"])
    inner, _ = TransformerModel.forward(model, **sample["net_input"])
    assert torch.equal(logits, inner) and set(extra) == {"attn", "inner_states"}


def test_the_projection_runs_inside_the_models_forward():
    """Where wrappers for several processes look for the weights that a step used."""
    model, inside = adaptive(), []
    model.register_forward_hook(lambda module, inputs, out: inside.append(out))
    loss = criterion()(ModuleProxyWrapper(torch.nn.DataParallel(model)), batch(TYPES))[0]
    assert inside[0][0].loss is loss


def test_watched_modules_are_called_as_ever():
    """fairseq's search for a NaN hooks every module; it would miss the projection."""
    model, seen = adaptive(), []
    handle = model.decoder.output_projection.register_forward_hook(lambda *_: seen.append(1))
    watched = criterion()(model, batch(TYPES))[0]
    handle.remove()
    plain = criterion(PLAIN)(model, batch(TYPES))[0]
    assert seen == [1] and torch.equal(watched, plain)


def with_bias(model):
    model.decoder.output_projection = torch.nn.Linear(16, TYPES)
    return model


def with_other_logits(model):
    model.decoder.output_layer = lambda features: features
    return model


def of_a_subclass(model):
    class Cooler(type(model)):
        def get_normalized_probs(self, net_output, *rest, **named):
            return super().get_normalized_probs((net_output[0] / 2, net_output[1]), *rest, **named)

    model.__class__ = Cooler
    return model


@pytest.mark.parametrize(
    "make,reason",
    [
        (lambda: build("transformer"), "TransformerModel, not an --arch admin_transformer"),
        (lambda: adaptive(adaptive_softmax_cutoff="8,16"), "--adaptive-softmax-cutoff"),
        (lambda: with_bias(adaptive()), "has a bias"),
        (lambda: with_other_logits(adaptive()), "has a output_layer"),
        (lambda: of_a_subclass(adaptive()), "Cooler has a get_normalized_probs"),
    ],
)
def test_other_models_are_refused_with_the_way_out(make, reason):
    with pytest.raises(AdminError, match="--criterion label_smoothed_cross_entropy") as error:
        criterion()(make(), batch(TYPES))
    assert reason in str(error.value)


def test_a_subclass_that_changes_nothing_of_it_is_taken():
    class Own(type(adaptive())):
        def max_positions(self):
            return (5, 5)

    model = adaptive()
    model.__class__ = Own
    assert not obstacles(model)


def test_checkpoints_name_fairseqs_criterion():
    """fairseq does not go on with a criterion of another name."""
    assert CRITERION_REGISTRY[NAME].__name__ == CRITERION_REGISTRY[PLAIN].__name__
    assert CRITERION_REGISTRY[NAME] is not CRITERION_REGISTRY[PLAIN]


def one_of_two(rank, port, name, folder):
    """A step of torch's own DistributedDataParallel, which looks for unused weights."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    model = adaptive(share_all_embeddings=True, decoder_layerdrop=0.5)
    wrapped = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    for seed in (1, 2):  # the second would fail, had the first not found every weight
        torch.manual_seed(seed)
        loss = criterion(name)(ModuleProxyWrapper(wrapped), batch(TYPES, seed=10 * rank + seed))[0]
        loss.backward()
    gradients = {}
    for key, weight in model.named_parameters():
        if weight.grad is not None:
            gradients[key] = weight.grad.clone()
    torch.save(gradients, folder / f"{name}-{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_torchs_own_wrapper_for_several_processes(tmp_path):
    found = {}
    for name in (NAME, PLAIN):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        torch.multiprocessing.spawn(one_of_two, (port, name, tmp_path), nprocs=2)
        found[name], other = (torch.load(tmp_path / f"{name}-{rank}.pt") for rank in range(2))
        assert all(torch.equal(gradient, other[key]) for key, gradient in found[name].items())
    assert set(found[NAME]) == set(found[PLAIN])
    for key, gradient in found[PLAIN].items():
        torch.testing.assert_close(found[NAME][key], gradient, rtol=1e-4, atol=1e-4, msg=key)
