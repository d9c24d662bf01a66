"""From published archives, or from nothing, to fairseq's data-bin. In reading order:

- ``recipe``      the [data] section of a recipe file: which texts, and how they are treated
- ``command``     ``admin-fairseq prepare``
- ``pipeline``    the stages of a corpus, one after the other
- ``stages``      a stage: done only if its output is whole, of the same input and settings
- ``check``       ``prepare --check``: what preparing would stumble over
- ``fetch``       the files that a recipe names: found or downloaded, and compared
- ``manifest``    what is known of each archive (manifest.ini): addresses, bytes, checksums
- ``download``    fetch an archive, resumed where it stopped
- ``formats``     sentences out of archives: tar, gzip, plain text, TED XML and tags, SGML
- ``generate``    text that is generated instead: ``numbers_and_dates``
- ``text``        one line of text at a time: tokenise, BPE
- ``moses``       what the Perl scripts of Moses make of a line
- ``clean``       which pairs are kept: clean-corpus-n.perl
- ``bpe``         word counts, merges (``merges``), and text split by them
- ``binarise``    data-bin of the newest texts
- ``fairseq_data`` what fairseq-preprocess writes, byte for byte: dictionary, .bin, .idx
- ``machine``     what a machine may lack: room on its disk, Python packages
- ``slices``      texts in slices of whole lines
- ``parallel``    work for several processes, in order, with bounded memory

Nothing here imports torch: worker processes start at once and stay small.
"""
