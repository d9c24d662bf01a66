"""Checks that end in every way there is, for the tests of what runs them.

A module of its own, without torch: the processes that run these import it.
"""

import os
import time

from tests.gpu.settings import Result, Skipped, limited


def passes(settings):
    return limited("one with two", 0.5, 1.0, "a figure", ["a detail"])


def exceeds(settings):
    return limited("one with two", float("nan"), 1.0)


def crashes(settings):
    os._exit(7)


def hangs(settings):
    time.sleep(600)


def raises(settings):
    raise ValueError("no\nsuch value")


def spoils(settings):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def has_no_gpu(settings):
    raise Skipped("a GPU is needed")


def says_its_process(settings):
    return Result("process", str(os.getpid()))


STAND_INS = {
    function.__name__: function
    for function in (passes, exceeds, crashes, hangs, raises, spoils, has_no_gpu, says_its_process)
}


def nothing(settings):
    """What these need before."""
