"""Diverse beam search: a sentence's hypotheses do not depend on its number or on its batch."""

import argparse

import pytest
import torch
from fairseq import search
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq import compat
from tests.helpers import USER_DIR, adaptive, batch, run, task, train


def generator_for(model, on_task, beam, groups, strength=0.7):
    flags = argparse.Namespace(
        beam=beam, diverse_beam_groups=groups, diverse_beam_strength=strength, max_len_b=25
    )
    return on_task.build_generator([model], flags)


def lively(seed, on_task):
    """A random model that ends its sentences at different lengths."""
    model = adaptive(seed=seed, on_task=on_task).eval()
    with torch.no_grad():
        model.decoder.output_projection.weight.mul_(2)
    return model


def decode(generator, model, on_task, sample):
    return on_task.inference_step(generator, [model], sample)


def rows(sample, wanted, ids):
    """Some sentences of a batch, with their numbers in the data set."""
    net_input = {key: value[wanted] for key, value in sample["net_input"].items()}
    return {"id": torch.tensor(ids), "net_input": net_input, "target": sample["target"][wanted]}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    ids=st.lists(st.integers(0, 400), min_size=1, max_size=6, unique=True),
    beam_and_groups=st.sampled_from([(2, 2), (4, 2), (6, 3), (4, 4), (3, 1)]),
)
def test_a_batch_is_its_sentences_alone(seed, ids, beam_and_groups):
    on_task = task(16)
    model = lively(seed, on_task)
    generator = generator_for(model, on_task, *beam_and_groups)
    sample = batch(types=16, sentences=len(ids), padding=False, seed=seed)
    together = decode(generator, model, on_task, rows(sample, list(range(len(ids))), ids))
    for row, found in enumerate(together):
        [alone] = decode(generator, model, on_task, rows(sample, [row], [0]))
        assert [hypothesis["tokens"].tolist() for hypothesis in found] == [
            h["tokens"].tolist() for h in alone
        ]
        scores = [
            torch.stack([hypothesis["score"] for hypothesis in found_ones])
            for found_ones in (found, alone)
        ]
        assert torch.allclose(*scores, atol=1e-4)


def test_sentences_leave_the_batch(monkeypatch):
    """The models of the test above end some sentences early: fairseq drops them from the batch."""
    left = []
    monkeypatch.setattr(
        search.DiverseBeamSearch, "prune_sentences", lambda self, kept: left.append(len(kept))
    )
    on_task = task(16)
    for seed in range(8):
        model = lively(seed, on_task)
        sample = rows(
            batch(types=16, sentences=5, padding=False, seed=seed),
            [0, 1, 2, 3, 4],
            [30, 2, 9, 1, 0],
        )
        decode(generator_for(model, on_task, 4, 2), model, on_task, sample)
    assert left


def test_prefixes_are_still_constrained_by_number():
    """A function that constrains prefixes is asked with the sentences' numbers, as before."""
    asked = set()

    def allowed(number, prefix):
        asked.add(number)
        return list(range(4, 16)) + [2]

    on_task = task(16)
    model = lively(3, on_task)
    flags = argparse.Namespace(beam=2, max_len_b=5)
    generator = on_task.build_generator([model], flags, prefix_allowed_tokens_fn=allowed)
    sample = rows(batch(types=16, sentences=2, padding=False), [0, 1], [17, 5])
    decode(generator, model, on_task, sample)
    assert asked == {17, 5}


def test_a_sound_search_is_left_alone(monkeypatch):
    from fairseq.sequence_generator import SequenceGenerator

    class Sound:
        def __init__(self, *args, **kwargs):
            pass

        def step(self, *args):
            pass

    def generate(self, models, sample):
        pass

    monkeypatch.setattr(search, "DiverseBeamSearch", Sound)
    monkeypatch.setattr(SequenceGenerator, "generate", generate)
    compat.count_diversity_by_row()
    assert SequenceGenerator.generate is generate


@pytest.fixture(scope="module")
def checkpoint(data_bin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("diverse")
    train(data_bin, folder, "--max-update", "3", "--disable-validation", "--no-epoch-checkpoints")
    return folder / "checkpoint_last.pt"


def test_diverse_beams_on_the_command_line(data_bin, checkpoint):
    command = [
        "fairseq-generate",
        data_bin,
        "--path",
        checkpoint,
        "--user-dir",
        USER_DIR,
        "--batch-size",
        8,
    ]
    flags = """
        --beam 4 --diverse-beam-groups 2 --diverse-beam-strength 0.5 --max-len-b 8 --num-workers
        0 --cpu
    """.split()
    result = run(*command, *flags)
    assert len([line for line in result.stdout.splitlines() if line.startswith("H-")]) == 27
