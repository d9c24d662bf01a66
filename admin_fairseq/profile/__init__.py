"""Profiles: site -> omega and variances, with where they come from.

- ``data``            a profile in memory
- ``text``            profile <-> a text that a person can read; ``two_columns``: the authors' text
- ``shape``           how omega runs through a stack: the paper's recursion, or one omega
- ``checks``          what of a profile is refused
- ``file``            reading and writing the text's file
- ``measure``         one forward pass over the sites -> ``Profile``
- ``fill``            ``Profile`` -> the model's omegas
- ``master_weights``  the same for the float32 copies that fairseq trains
- ``from_file``       stage 2, ``--init-type adaptive``: the file -> the model
- ``first_step``      stage 1 and ``--init-type adaptive-auto``: the first step of fairseq-train
- ``command``         ``admin-fairseq profile``

``data``, ``shape``, ``text``, ``two_columns``, ``checks``, ``file`` and ``command`` import neither
torch nor fairseq.
"""
