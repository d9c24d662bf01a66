"""Trainings of a recipe: planned, started, watched, judged, and evaluated.

Read the modules in this order:

1. ``settings``     what is chosen for one run beside its recipe
2. ``batch``        how many batches are added up for one update
3. ``command``      recipe + settings -> the words of fairseq-train
4. ``checks``       settings that cannot be trained
5. ``runs``         one training from start to end: ``finish``
6. ``record``       a run's files: run.json, sessions.tsv, outcome.json
7. ``children``     the commands that a run starts, and their end
8. ``watching``     a training's log while it is written
9. ``restart``      checkpoints that a killed training left behind
10. ``outcome``     done or diverged: the rules
11. ``unigram``     the yardstick of the rules
12. ``machine``     GPUs, commit, versions; ``devices``: which GPUs a training gets
13. ``train``, ``sweep``, ``evaluate``, ``score``   the subcommands of ``admin-fairseq``
14. ``side_by_side``  several runs at a time
15. ``translation`` means of checkpoints, and translations of test sets
"""
