"""From published archives to fairseq's data-bin. In reading order:

recipe.py     the [data] section of a recipe file: what is fetched and how it is treated
manifest.py   what is known of each archive (manifest.ini): addresses, bytes, checksums
download.py   fetch an archive, going on where it stopped
formats.py    sentences out of archives: tar, gzip, plain text, TED XML and tags, SGML
text.py       one line of text at a time: tokenise, filter, BPE
parallel.py   lines through several processes, in order, with bounded memory
stages.py     a stage: done only if its output is whole and made of the same input with the same settings
pipeline.py   the stages of a corpus, one after the other
cli.py        the command line of scripts/prepare_*.sh

Nothing here imports torch: worker processes start at once and stay small.
"""
