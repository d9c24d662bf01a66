"""What a model depends on, how far it moves, and where its gradients go: ``admin-fairseq analyze``.

Probes look at the residual sites of any model here, and of stock fairseq ``transformer``s. They run
in float64, with dropout off unless asked. Read the modules in this order:

1. ``words``          what ``--models`` takes: methods and checkpoints
2. ``subject``        flags and words -> data, batch and models to look at
3. ``probe``          one forward pass -> what enters every site; which weights belong to it
4. ``dependency``     which branches an output is made of (beta)
5. ``output_change``  how far the last output moves when weights do; ``growth``: laws of depth
6. ``gradients``      gradient norms by site and layer
7. ``stability``      all of them on one model, with an opinion; ``findings``: the opinion
8. ``tables``         rows -> TSV and JSON, and back
9. ``figures``        rows -> PNG and PDF
10. ``kinds``         which probe makes up each kind of analysis
11. ``measure``       one run of the command, from flags to files
12. ``command``       the flags; ``trace`` reads what a training logged

Light, which is without torch and fairseq, are ``words``, ``growth``, ``tables``, ``figures``,
``trace`` and ``command``.
"""
