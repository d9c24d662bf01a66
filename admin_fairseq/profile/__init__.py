"""Profiles: site -> omega and variances, with where they come from.

- ``data``         a profile in memory
- ``file``         profile <-> a text file that a person can read; ``checks``: what is refused; ``two_columns``: the authors'
- ``measure``      one forward pass over the sites -> ``Profile``
- ``fill``         ``Profile`` -> the model's omegas
- ``first_step``   stage 1 inside ``fairseq-train``, and ``--init-type adaptive-auto``

``data``, ``file``, ``checks`` and ``two_columns`` import neither torch nor fairseq.
"""
