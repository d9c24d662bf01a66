"""From results.tsv to a report: ours beside the papers', over seeds, with paired significance.

- ``command``       the flags of ``admin-fairseq report``
- ``sections``      results.tsv -> sections: what may stand in one table, and what belongs to it
- ``tables``        the lines of one table: means over seeds, counts, the best
- ``curves``        learning curves from the runs' logs, and updates to the common loss
- ``significance``  paired bootstrap between translations of one test set
- ``rates``         runs at several rates, and each method at its best
- ``no_warmup``     grids without warm-up, whose figures ``heatmaps`` draws
- ``variants``      variants of one method, as in ablations
- ``blocks``        headings, texts, tables and pictures, without a format
- ``document``      sections -> blocks: order and words of the report
- ``markdown``, ``html_page``, ``latex``  blocks -> text
- ``csv_lines``     the lines of all tables as plain numbers
- ``write``         all of it into a folder
"""
