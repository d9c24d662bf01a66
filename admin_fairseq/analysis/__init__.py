"""What a model depends on, how far it moves, and where its gradients go: ``admin-fairseq analyze``.

Probes look at the residual sites of any model here, and of stock fairseq ``transformer``s. They run
in float64, with dropout off unless asked. Read the modules in this order:

1. ``words``          what ``--models`` takes: methods, checkpoints, pairs of checkpoints
2. ``subject``        flags and words -> data, batch, models; ``pairs``: two checkpoints of one run
3. ``probe``          one forward pass -> what enters every site; which weights belong to it
4. ``dependency``     which branches an output is made of (beta)
5. ``output_change``  how far the last output moves when weights do; ``growth``: laws of depth
6. ``gradients``      gradient norms by site and layer
7. ``updates``        how far weights moved between two checkpoints, against their gradients
8. ``stability``      what one model alone can tell, with an opinion; ``findings``: the opinion
9. ``tables``         rows -> TSV and JSON, and back
10. ``figures``       rows -> PNG and PDF
11. ``kinds``         which probe makes up each kind of analysis
12. ``measure``       one run of the command, from flags to files
13. ``command``       the flags; ``trace`` reads what a training logged

Light, which is without torch and fairseq, are ``words``, ``growth``, ``tables``, ``figures``,
``trace`` and ``command``.
"""
