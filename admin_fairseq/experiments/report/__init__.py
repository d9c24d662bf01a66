"""From results.tsv to tables and pages: ours beside the papers', over seeds, with paired significance."""
