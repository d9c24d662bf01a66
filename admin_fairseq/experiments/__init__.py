"""Experiments: from a recipe to a report. Nothing here imports torch or fairseq.

- ``recipe``    recipe files, ``recipes/*.ini``: what is trained, on what, and what was published;
                ``values`` reads their texts, ``published`` the papers' numbers
- ``corpus``    archives -> data-bin (``admin-fairseq prepare``)
- ``plan``      what a training will take, before it is begun (``admin-fairseq plan``)
- ``runs``      planning, starting, going on with and judging trainings (``admin-fairseq train``,
                ``sweep``), averaging, translating and scoring (``evaluate``, ``score``)
- ``scores``    BLEU and chrF, each with its signature
- ``processes`` commands: where they are, and that they end with us
- ``results``   ``results.tsv``, the one format of results
- ``report``    tables, significance and learning curves of many runs
"""
