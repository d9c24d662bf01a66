"""Experiments: from a recipe to a report. Nothing here imports torch or fairseq.

- ``recipe``    recipe files, ``recipes/*.ini``: what is trained, on what, and what was published;
                ``values`` reads their texts, ``published`` the papers' numbers
- ``corpus``    archives -> data-bin (``admin-fairseq prepare``)
- ``runs``      planning, starting, going on with and judging trainings (``train``, ``sweep``, ``evaluate``)
- ``results``   ``results.tsv``, the one format of results
- ``report``    tables, significance and learning curves of many runs
"""
