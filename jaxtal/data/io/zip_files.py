"""Zip archives of strangers."""

import struct
import zipfile

_SIGNATURE, _HEADER = b"PK\x03\x04", struct.Struct("<26xHH")  # of a member's own header
_OVERLAP = "members that overlap: each must have bytes of its own; write the archive again"


def check_disjoint(archive: zipfile.ZipFile, refusal: type[ValueError] = ValueError) -> None:
    """Refuse an archive two of whose members share bytes, or that reach into its list of members.

    Such an archive unpacks to many times its size. Not every version of Python notices it, and the
    newest only warn of members that begin at the same place.

    Args:
        archive: open for reading.
        refusal: what is raised.

    Raises:
        refusal: members overlap, or one's header is none.
    """
    end = archive.start_dir
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset, reverse=True):
        if _end(archive, info, refusal) > end:
            raise refusal(_OVERLAP)
        end = info.header_offset


def _end(archive: zipfile.ZipFile, info: zipfile.ZipInfo, refusal: type[ValueError]) -> int:
    """Where a member's content ends; its header may be longer than the list says."""
    file = archive.fp
    assert file is not None
    file.seek(info.header_offset)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_SIGNATURE):
        raise refusal("a member without a header")
    return info.header_offset + _HEADER.size + sum(_HEADER.unpack(header)) + info.compress_size
