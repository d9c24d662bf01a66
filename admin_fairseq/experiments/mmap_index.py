"""The index of fairseq's default data, --dataset-impl mmap (``MMapIndexedDataset``): its format.

An ``.idx`` begins with :data:`HEADER`; then come the sentences' sizes, four bytes each, and where
each begins in the ``.bin``, in bytes, eight bytes each.
"""

import struct

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQ")  # magic, version, number of the ids' type, number of sentences
# fairseq's number of a type -> numpy's name; ids are integers
TYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    8: "uint16",
    9: "uint32",
    10: "uint64",
}
