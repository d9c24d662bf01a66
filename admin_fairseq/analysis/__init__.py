"""What a model depends on, how far it moves, and where its gradients go: ``admin-fairseq analyze``.

Probes look at the residual sites of any model here, and of stock fairseq ``transformer``s. They run
in float64, with dropout off unless asked. Read the modules in this order:

1. ``subject``        flags and words -> data, batch and models to look at
2. ``probe``          one forward pass -> what enters every site; which weights belong to it
3. ``dependency``     which branches an output is made of (beta)
4. ``output_change``  how far the last output moves when weights do, against depth
5. ``gradients``      gradient norms by site and layer
6. ``stability``      all of them on one model, with an opinion
7. ``tables``         rows -> TSV and JSON
8. ``figures``        rows -> PNG and PDF; no torch
9. ``kinds``          which probe and figure make up each kind of analysis
10. ``command``       the flags; ``trace`` reads what a training logged
"""
