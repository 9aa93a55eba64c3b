"""Checks of untrusted zip archives."""

import struct
import zipfile

_SIGNATURE, _HEADER = b"PK\x03\x04", struct.Struct("<26xHH")  # a member's local header
_OVERLAP = "members that overlap: each must have bytes of its own; write the archive again"


def check_disjoint(archive: zipfile.ZipFile, refusal: type[ValueError] = ValueError) -> None:
    """Raise an error if members of an archive overlap each other or the central directory.

    Such an archive can decompress to many times its size. Not all versions of Python detect it,
    and the newest only warn about members that begin at the same position.

    Args:
        archive: open for reading.
        refusal: the exception type to raise.

    Raises:
        refusal: members overlap, or a member has no valid header.
    """
    end = archive.start_dir
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset, reverse=True):
        if _end(archive, info, refusal) > end:
            raise refusal(_OVERLAP)
        end = info.header_offset


def _end(archive: zipfile.ZipFile, info: zipfile.ZipInfo, refusal: type[ValueError]) -> int:
    """Return the end of a member's content, by the actual length of its local header."""
    file = archive.fp
    assert file is not None
    file.seek(info.header_offset)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_SIGNATURE):
        raise refusal("a member without a header")
    return info.header_offset + _HEADER.size + sum(_HEADER.unpack(header)) + info.compress_size


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a member's content, whose size the directory states.

    `ZipFile.read` unpacks up to 2 GB at once, whatever the directory states.

    Args:
        archive: open for reading.
        info: the member.

    Raises:
        BadZipFile: the content is not the stated one.
    """
    with archive.open(info) as member:
        return member.read(info.file_size)
