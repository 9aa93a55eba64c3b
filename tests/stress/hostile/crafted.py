"""Contents of hostile files: altered bytes, and attacks on each format."""

import dataclasses
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy

CANARY = "canary"  # file that a payload creates if it is executed


_EXTREMES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**20)


def altered(content: bytes, other: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Alter `content` one to three times; return the names of the alterations, and the bytes."""
    names = []
    for _ in range(1 + int(rng.random() < 0.3) + int(rng.random() < 0.2)):
        name = str(rng.choice(list(_ALTERATIONS)))
        content = _ALTERATIONS[name](content, other, rng)
        names.append(name)
    return " + ".join(names), content


def _place(content: bytes, rng: np.random.Generator) -> int:
    """Draw a position, in a quarter of the cases within the first 150 bytes, the header."""
    size = len(content) if rng.random() < 0.75 else min(len(content), 150)
    return int(rng.integers(size + 1))


def _cut(content: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    return content[: _place(content, rng)]


def _cut_at_structure(content: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    marks = (b"\n", b"PK", b"}", b"]", b'"', b",", b".", b"tb", b"\x94NUMPY")
    mark = marks[rng.integers(len(marks))]
    ends = [at for at in range(len(content)) if content.startswith(mark, at)] or [0]
    at = int(rng.choice(ends)) + (len(mark) if rng.random() < 0.5 else 0)
    return content[:at]


def _flip(content: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _index in range(int(rng.integers(1, 9)) if changed else 0):
        changed[min(_place(content, rng), len(changed) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _insert(content: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    at = _place(content, rng)
    return content[:at] + rng.bytes(int(rng.integers(1, 20))) + content[at:]


def _delete(content: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    at = _place(content, rng)
    return content[:at] + content[at + int(rng.integers(1, 20)) :]


def _repeat(content: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted((_place(content, rng), _place(content, rng)))
    return content[:end] + content[start:end] * int(rng.integers(1, 4)) + content[end:]


def _splice(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return content[: _place(content, rng)] + other[_place(other, rng) :]


def _extreme(content: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    at = _place(content, rng)
    number = struct.pack("<I", _EXTREMES[rng.integers(len(_EXTREMES))])
    return content[:at] + number + content[at + 4 :]


def _blank(content: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted((_place(content, rng), _place(content, rng)))
    return content[:start] + rng.bytes(1) * (end - start) + content[end:]


def _append(content: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 200)))


_ALTERATIONS: dict[str, Callable[[bytes, bytes, np.random.Generator], bytes]] = {
    "cut short": _cut,
    "cut at a mark": _cut_at_structure,
    "bits flipped": _flip,
    "bytes put in": _insert,
    "bytes left out": _delete,
    "a part repeated": _repeat,
    "spliced": _splice,
    "an extreme number": _extreme,
    "a part blanked": _blank,
    "bytes appended": _append,
}


def npy_file(header: bytes, body: bytes, version: bytes = b"\x01\x00", size: int = -1) -> bytes:
    """Return a .npy file with this header; `size` is the length of the header that it claims."""
    form = "<H" if version == b"\x01\x00" else "<I"
    size = len(header) if size < 0 else size
    return b"\x93NUMPY" + version + struct.pack(form, size % 256 ** struct.calcsize(form)) + (
        header + body
    )  # fmt: skip


_DESCRIPTIONS = (
    "'<f4'", "'|O'", "'<f8'", "'>f4'", "'<f16'", "'<c16'", "'<M8[s]'", "'<m8[D]'", "'|V8'", "'|V0'",
    "'|S0'", "'<U0'", "'<U3'", "'|S999999999'", "'<U999999999'", "'|b1'", "'|i1'", "'<i8'", "'O'",
    "[('a', '<f4'), ('b', '<f4')]", "('<f4', (2,))", "('<f4', (1000000000, 1000000000))",
    "[('a', '|O')]", "('|O', (2,))", "'f4,f4'", "{'names': ['a'], 'formats': ['f4']}", "'x'", "3",
    "None", "[]", "''", "'<f4\\x00'", "[('a', [('b', [('c', '<f4')])])]", "'(2,)f4'", "'\\N{BEL}'",
)  # fmt: skip
_SHAPES = (
    "(6, 4)", "(24,)", "()", "(0,)", "(0, 99999999999999999999)", "(-1,)", "(-6, -4)",
    "(99999999999, 4)", "(4611686018427387904, 4)", "(18446744073709551617, 4)", "(6.0, 4)",
    "(True, 24)", "('6', 4)", "[6, 4]", "6", "None", "(6, 4" + ", 1" * 70 + ")",
    "(" + "9, " * 2000 + ")", "(0x" + "f" * 9000 + ",)", "(6L, 4L)", "(1, 0, 0)", "(24, 0)",
    "(0in{}, 4)", "(6, (4,))", "({}, 4)", "(6, 4, 0)", "(99999999, 0, 99999999999)",
)  # fmt: skip
_HEADERS = (
    "(" * 5000, "-" * 9000 + "1", "{" * 3000, "not " * 2000 + "1", "[" * 90 + "]" * 90, "",
    "'" + "a" * 9900 + "'", "{'descr': '<f4'}", "[1, 2]", "1 if 1 else 2", "__import__('os')",
    "{'descr': open('canary', 'w'), 'fortran_order': False, 'shape': ()}", "f'{open}'", "\x00",
    "{'descr': '<f4', 'fortran_order': 2, 'shape': (6, 4)}", "{**{}}", "(" * 90 + ")" * 90,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4), 'more': 1}", "lambda: 0", "\\",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4), 'shape': (1,)}", "b'\\xff'",
    "{'descr': '\\d', 'fortran_order': False, 'shape': (6, 4)}", "1+2j", "9" * 9000, "é" * 1000,
    "{'descr': '<f4', 'fortran_order': True, 'shape': (4, 6)}", "-(-(-(1)))", "\ud800",
    "{'descr': '<f4', 'fortran_order': None, 'shape': (6, 4)}", "#", "'''", "1_0", "{1: 2}", "''",
)  # fmt: skip


def hostile_npy(number: int, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return a .npy file with a hostile header."""
    body = np.arange(24, dtype=np.float32).tobytes()
    if number % 2:
        header = _HEADERS[number // 2 % len(_HEADERS)]
    else:
        dtype = _DESCRIPTIONS[number // 2 % len(_DESCRIPTIONS)]
        shape = _SHAPES[0 if rng.random() < 0.4 else rng.integers(len(_SHAPES))]
        if rng.random() < 0.3:
            dtype, shape = "'<f4'", _SHAPES[number // 2 % len(_SHAPES)]
        header = f"{{'descr': {dtype}, 'fortran_order': {rng.random() < 0.3}, 'shape': {shape}, }}"
    version = (b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00")[
        rng.choice(4, p=(0.7, 0.15, 0.1, 0.05))
    ]
    size = -1 if rng.random() < 0.85 else int(rng.choice([0, 2**16 - 1, 2**32 - 1, 2**31]))
    encoded = (header + "\n").encode("utf-8", "surrogatepass")
    return f"header {header:.60} {version!r} {size}", npy_file(encoded, body, version, size)


def text(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def integer(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    head = b"\x8a" + bytes([size]) if size < 256 else b"\x8b" + struct.pack("<i", size)
    return head + value.to_bytes(size, "little", signed=True)


def sequence(*items: bytes, code: bytes = b"t") -> bytes:
    return b"(" + b"".join(items) + code


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def stacked(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def plain(value: Any) -> bytes:
    """Return the pickle opcodes that push a value."""
    return pickle.dumps(value, 2)[2:-1]


_MULTIARRAY = "numpy.core.multiarray"
_MADE = named(_MULTIARRAY, "_reconstruct") + named("numpy", "ndarray") + b"K\x00\x85U\x01b\x87R"
_BIG = 2**61 - 1


def dtype(code: bytes = text("O8"), state: bytes | None = None, order: str = "|") -> bytes:
    made = named("numpy", "dtype") + code + b"K\x00K\x01\x87R"
    if state is None:
        state = sequence(b"K\x03", text(order), b"NNN", integer(-1), integer(-1), b"K\x00")
    return made + state + b"b"


def array(shape: bytes, kind: bytes, contents: bytes, fortran: bytes = b"\x89") -> bytes:
    return _MADE + sequence(b"K\x01", shape, kind, fortran, contents) + b"b"


def objects(*items: bytes) -> bytes:
    """Return the opcodes of an object array (n,); `items` are the opcodes of its entries."""
    return array(
        sequence(integer(len(items))), dtype(), b"]" + sequence(*items, code=b"e")
    )  # fmt: skip


def numbers(*shape: int, code: str = "f4", contents: bytes | None = None) -> bytes:
    contents = np.zeros(shape, code).tobytes() if contents is None else contents
    held = b"B" + struct.pack("<I", len(contents)) + contents
    return array(sequence(*map(integer, shape)), dtype(text(code), order="<"), held)


def _touch(path: str = CANARY) -> str:
    return f"open({path!r}, 'w').close()"


_CALLS: tuple[tuple[str, str, tuple], ...] = (
    ("os", "system", (f"touch {CANARY}",)),
    ("posix", "system", (f"touch {CANARY}",)),
    ("nt", "system", (f"touch {CANARY}",)),
    ("subprocess", "Popen", (["touch", CANARY],)),
    ("subprocess", "call", (["touch", CANARY],)),
    ("builtins", "eval", (_touch(),)),
    ("builtins", "exec", (_touch(),)),
    ("__builtin__", "eval", (_touch(),)),
    ("builtins", "open", (CANARY, "w")),
    ("io", "open", (CANARY, "w")),
    ("builtins", "getattr", ("a", "upper")),
    ("builtins", "__import__", ("antigravity",)),
    ("builtins", "bytearray", (10**9,)),
    ("importlib", "import_module", ("antigravity",)),
    ("pathlib", "Path.touch", (CANARY,)),
    ("pathlib", "PosixPath", ("/etc/passwd",)),
    ("shutil", "rmtree", ("none",)),
    ("operator", "attrgetter", ("system",)),
    ("functools", "partial", (1,)),
    ("types", "CodeType", (1,)),
    ("runpy", "run_path", (CANARY,)),
    ("timeit", "timeit", (_touch(),)),
    ("webbrowser", "open", ("http://localhost",)),
    ("ctypes", "CDLL", ("libc.so.6",)),
    ("multiprocessing.util", "spawnv_passfds", (b"/bin/touch", [b"touch", CANARY], ())),
    ("pickle", "loads", (b"cos\nsystem\n(S'touch canary'\ntR.",)),
    ("copyreg", "_reconstructor", (1, 2, 3)),
    ("copy_reg", "_reconstructor", (1, 2, 3)),
    ("codecs", "open", (CANARY, "w")),
    ("_codecs", "lookup", ("zip",)),
    ("_codecs", "encode", ("a", "zip")),
    ("_codecs", "encode", ("a", "unicode_escape")),
    ("_codecs", "encode", (b"a", "latin1")),
    ("_codecs", "encode", ("\u20ac", "latin1")),
    ("numpy", "fromfile", ("/etc/passwd",)),
    ("numpy", "save", (CANARY, 1)),
    ("numpy", "load", ("a.npy", None, True)),
    ("numpy", "memmap", (CANARY, "f4", "w+")),
    ("numpy", "zeros", (10**12,)),
    ("numpy", "frombuffer", (b"12345678",)),
    ("numpy.core.multiarray", "fromfile", ("/etc/passwd",)),
    ("numpy._core.multiarray", "zeros", (10**12,)),
    ("numpy.core.multiarray", "_reconstruct.__globals__", ()),
    ("numpy", "dtype.__init__", ()),
    ("numpy", "ndarray", ((10**9, 10**6),)),
    ("numpy", "ndarray.tofile", (1, CANARY)),
    ("numpy.testing._private.utils", "runstring", (_touch(), {})),
    ("jaxtal.data.io.object_arrays", "_Array", ()),
    ("jaxtal.data.io.object_arrays", "pickle.loads", (b".",)),
    ("jaxtal.data.io.files", "atomic_write", (CANARY,)),
    ("torch", "load", (CANARY,)),
    ("torch.storage", "_load_from_bytes", (b"cos\nsystem\n(S'touch canary'\ntR.",)),
    ("torch.jit.unsupported_tensor_ops", "execWrapper", (_touch(), {}, {})),
    ("collections", "namedtuple", ("a", "b")),
    ("collections", "OrderedDict", ([],)),
    ("numpy\x1b[31m", "\u202edtype", ()),
    ("n" * 20000, "m" * 20000, ()),
    ("", "", ()),
)


def _calls() -> list[tuple[str, bytes]]:
    """Return the calls by all opcodes that can make one."""
    found = []
    for index, (module, name, arguments) in enumerate(_CALLS):
        values = plain(arguments) if arguments else b")"
        items = b"".join(map(plain, arguments))
        line = f"{module}\n{name}\n".encode()
        ways = {
            "REDUCE": b"c" + line + values + b"R",
            "STACK_GLOBAL": stacked(module, name) + values + b"R",
            "INST": b"(" + items + b"i" + line,
            "OBJ": b"(" + b"c" + line + items + b"o",
            "NEWOBJ": b"c" + line + values + b"\x81",
            "NEWOBJ_EX": b"c" + line + values + b"}\x92",
            "BUILD": b"c" + line + b"}" + text("a") + b"K\x01sb",
            "a name": b"c" + line,
        }
        # The first 8 would work, and are made in all ways; the others in two.
        chosen = list(ways) if index < 8 else [list(ways)[index % 2], list(ways)[2 + index % 6]]
        found += [(f"{way} {module:.40}.{name:.40}", ways[way]) for way in chosen]
    return found


def _laughs(width: int = 1000, depth: int = 3, code: bytes = b"e") -> bytes:
    """Nest lists, each with `width` references to the same inner one: width ** depth entries."""
    made, start = b"]" if code == b"e" else b"", b"K\x01"
    inner = start + b"q\x00" + b"0"
    for level in range(depth):
        item = b"h" + bytes([level])
        inner += made + b"(" + item * width + code + b"q" + bytes([level + 1]) + b"0"
    return inner + b"h" + bytes([depth])


def _values() -> list[tuple[str, bytes]]:
    """Return opcodes that push one strange value each."""
    tower, many = 100_000, 30_000
    memo = b"".join(b"p%d\n" % (index * _BIG) for index in range(1, 3000))
    shared = b"]" + b"(" + b"N" * many + b"e" + b"q\x07" + b"0"
    whole_list = (
        _MADE + sequence(b"K\x01", sequence(integer(many)), dtype(), b"\x89", b"h\x07") + b"b"
    )
    long_shape = b"](" + b"K\x01" * 100_000 + b"eq\x07" + b"0"
    shaped = (
        _MADE
        + sequence(b"K\x01", b"h\x07", dtype(text("f4"), order="<"), b"\x89", b"U\x04abcd")
        + b"b"
    )
    call = named(_MULTIARRAY, "_reconstruct") + b"q\x09" + b"0"
    encode = named("_codecs", "encode") + b"q\x09" + b"0" + text("a" * 10_000) + b"q\x08" + b"0"
    laugh = _laughs()
    f4 = dtype(text("f4"), order="<")
    found = {
        # Circular and repeated references.
        "a list in itself": b"]q\x00h\x00a",
        "an array in itself": _MADE + b"q\x00" + sequence(b"K\x01", sequence(b"K\x01"), dtype(), b"\x89", b"]h\x00a") + b"b",
        "a tower of tuples": b"N" + b"\x85" * tower,
        "a tower of pairs": b"N" + b"2\x86" * 60,
        "a tall tower of pairs": b"N" + b"2\x86" * 5000,
        "a tower of lists": b"]" * 5000 + b"a" * 4999,
        "a tower of marks": b"(" * tower + b"N" + b"t" * tower,
        "marks alone": b"(" * tower,
        "arrays in arrays": _nested(4),
        "arrays deep in arrays": _nested(300),
        "a billion laughs": laugh,
        "a billion laughs in tuples": _laughs(code=b"t"),
        "laughs in an array": objects(laugh),
        "a million of an array": numbers(100, 100) + b"q\x00" + b"0]" + sequence(b"h\x00" * many, code=b"e"),
        "a long text often": text("x" * 100_000) + b"q\x00" + b"0](" + b"h\x00" * many + b"e",
        "a long text among short ones": b"](" + text("x" * 100_000) + text("y") * many + b"e",
        "laughs as a type": named("numpy", "dtype") + laugh + b"\x85R",
        "laughs as a codec": named("_codecs", "encode") + text("a") + laugh + b"\x86R",
        "laughs as a shape": array(laugh, f4, b"U\x04abcd"),
        "laughs as a byte order": dtype(text("f4"), sequence(b"K\x03", laugh, b"NNNNNN")),
        "laughs as a state": _MADE + laugh + b"b",
        "laughs as contents": array(sequence(b"K\x01"), f4, laugh),
        # The same long list again and again.
        "arrays of one list": shared + b"](" + whole_list * 2000 + b"e",
        "arrays of one shape": long_shape + b"](" + shaped * 8000 + b"e",
        "arrays of a shape of bytes": b"B" + struct.pack("<I", 100_000) + b"\x01" * 100_000 + b"q\x07" + b"0](" + shaped * 8000 + b"e",
        "calls with one long list": long_shape + call + b"](" + b"h\x09h\x07R" * 20_000 + b"e",
        "types of one long list": long_shape + named("numpy", "dtype") + b"q\x09" + b"0](" + b"h\x09h\x07R" * 20_000 + b"e",
        "a text encoded often": encode + b"](" + (b"h\x09h\x08" + text("latin1") + b"\x86R") * 20_000 + b"e",
        "a tuple encoded often": long_shape + encode + b"](" + b"h\x09h\x07R" * 20_000 + b"e",
        # The memo.
        "memo indices that collide": b"N" + memo,
        "a large memo index": b"]r" + struct.pack("<I", 2**32 - 1),
        "a negative memo index": b"Np-1\n",
        "a long memo index": b"Np" + b"9" * 100_000 + b"\n",
        "a large memo number": b"Np" + b"9" * 4000 + b"\n",
        "memo indices in steps": b"N" + b"".join(b"r" + struct.pack("<I", i << 16) for i in range(1, 30_000)),
        "a missing memo": b"h\xff",
        "a missing long memo": b"j" + struct.pack("<I", 2**32 - 1),
        "a memo as text": b"g" + b"1" * 100_000 + b"\n",
        "memoize": b"N" + b"\x94" * tower,
        # Numbers and sizes.
        "a long integer": integer(2**400_000),
        "a long integer as text": b"I" + b"9" * 4000 + b"\n",
        "a too long integer as text": b"L" + b"9" * 100_000 + b"L\n",
        "a long integer in hex": b"I0x" + b"f" * 100_000 + b"\n",
        "2 ** 64": integer(2**64),
        "a negative integer": integer(-(2**64)),
        "no integer": b"Iabc\n",
        "a negative size": b"\x8b" + struct.pack("<i", -1),
        "a negative text": b"T" + struct.pack("<i", -1),
        "infinite": b"F1e999\n",
        "not a number": b"Fnan\n",
        "a long float": b"F" + b"1" * 100_000 + b"\n",
        "1e308": plain(1e308),
        "BYTEARRAY8": b"\x96" + struct.pack("<Q", 2**62),
        "BINBYTES8": b"\x8e" + struct.pack("<Q", 2**63),
        "BINUNICODE8": b"\x8d" + struct.pack("<Q", 2**40) + b"a",
        "BINBYTES": b"B" + struct.pack("<I", 2**32 - 1) + b"a",
        "a frame": b"\x95" + struct.pack("<Q", 2**63) + b"N",
        "frames": (b"\x95" + struct.pack("<Q", 1)) * 2000 + b"N",
        "EXT1": b"\x82\x01", "EXT2": b"\x83\x01\x00", "EXT4": b"\x84\x01\x00\x00\x00",
        "PERSID": b"Pabc\n", "BINPERSID": text("a") + b"Q", "NEXT_BUFFER": b"\x97",
        "READONLY_BUFFER": b"N\x98", "a dict": b"}", "a set": b"\x8f", "a frozen set": b"(N\x91",
        "pops": b"0" * 10, "a mark popped": b"1", "an unknown instruction": b"\xff",
        "another protocol": b"\x80\xffN", "nothing": b"", "stops": b"N....",
        "appended to a type": named("numpy", "dtype") + b"Na",
        "appended to a function": named("_codecs", "encode") + b"(NNe",
        "a state for a type": named("numpy", "dtype") + b")b",
        "a state for a list": b"]K\x01b",
        # Texts.
        "invalid UTF-8": b"U\x04\xff\xfe\xfd\xfc",
        "a lone surrogate": text("\ud800"),
        "control characters": text("\x1b[31mred\x07\r\nnext\x00"),
        "a direction": text("abc\u202etxt.\u2028x"),
        "a path": text("../../x"),
        "10,000 letters": text("x" * 10_000),
        "an escape": b"S'\\d\\xg'\n", "an escaped text": b"V\\ud800\\x\n", "quotes": b"Sabc\n",
        "bytes": plain(b"\x00\xff"),
        # Arrays with inconsistent headers.
        "no contents": _MADE,
        "no type": named("numpy", "dtype"),
        "a short array": numbers(6, 4, contents=b"abc"),
        "a long array": numbers(1, 1, contents=b"a" * 1000),
        "a negative shape": numbers(0).replace(integer(0), integer(-1), 1),
        "a large shape": array(sequence(integer(2**62), integer(2**62)), f4, b"U\x00"),
        "an empty large shape": array(sequence(b"K\x00", integer(2**60)), f4, b"U\x00"),
        "70 dimensions": array(sequence(*[b"K\x01"] * 70), f4, b"U\x04abcd"),
        "a shape of text": array(text("ab"), f4, b"U\x04abcd"),
        "a shape of numbers": array(sequence(b"G" + struct.pack(">d", 1)), f4, b"U\x04abcd"),
        "a shape of truths": array(sequence(b"\x88"), f4, b"U\x04abcd"),
        "text in an object array": array(sequence(b"K\x01"), dtype(), b"U\x08AAAAAAAA"),
        "objects in an array": array(sequence(b"K\x01"), f4, b"]Na"),
        "cleared flags": array(sequence(b"K\x01"), dtype(text("O8"), sequence(b"K\x03", text("|"), b"NNN", b"K\x08K\x08K\x00")), b"U\x08AAAAAAAA"),
        "an array as a type": array(sequence(b"K\x01"), numbers(1), b"U\x04abcd"),
        "a structured type": array(sequence(b"K\x01"), dtype(text("V8"), sequence(b"K\x03", text("|"), b"N", sequence(text("a")), b"}", b"K\x08K\x01K\x10")), b"U\x08abcdefgh"),
        "a fortran list": array(sequence(b"K\x01"), f4, b"U\x04abcd", fortran=b"]"),
        "a short state": _MADE + b"K\x01\x85b",
        "a long state": _MADE + sequence(b"N" * 50) + b"b",
        "a text state": _MADE + text("abcde") + b"b",
        "letters that are none": array(sequence(b"K\x01"), dtype(text("U1"), order="<"), b"U\x04\xff\xff\xff\xff"),
        "letters beyond Unicode": array(sequence(b"K\x02"), dtype(text("U1"), order=">"), b"U\x08\x00\x11\x00\x00\x00\x00\xd8\x00"),
        "truths of 255": numbers(4, code="b1", contents=b"\xff\x80\x02\x00"),
        "NaN": numbers(2, 2, code="f8", contents=np.full(4, np.nan).tobytes()),
        "large numbers": numbers(6, 4, code="f8", contents=np.full(24, 1e300).tobytes()),
        "longdouble": numbers(1, 1, code="f16"),
        "an empty array": numbers(0, 2, code="f8"),
        "a single number": array(b")", f4, b"U\x04abcd"),
        "an array of arrays": objects(numbers(2, 2), numbers(2, 2)),
        "a scalar": named(_MULTIARRAY, "scalar") + f4 + b"U\x04abcd\x86R",
        "a long scalar": named(_MULTIARRAY, "scalar") + f4 + b"U\x08abcdabcd\x86R",
        "a scalar of nothing": named(_MULTIARRAY, "scalar") + f4 + b"U\x00\x86R",
        "a scalar object": named(_MULTIARRAY, "scalar") + dtype() + b"U\x08AAAAAAAA\x86R",
        "a scalar letter": named(_MULTIARRAY, "scalar") + dtype(text("U1"), order="<") + b"U\x04\xff\xff\xff\x7f\x86R",
        "a scalar of a list": named(_MULTIARRAY, "scalar") + f4 + b"]\x86R",
        "a class as contents": array(sequence(b"K\x01"), f4, named("numpy", "dtype")),
        "a class as value": named("numpy", "ndarray"),
        "a function as value": named("_codecs", "encode"),
    }  # fmt: skip
    for code in ("S0", "U0", "S999999999", "U999999999", "V8", "M8[s]", "c16", "(1000000000,)f4",
                 "f4,f4", "O", "f3", "", "x" * 100_000, "\x1b[2J", "|O8", "?", "i8\n", "٣"):  # fmt: skip
        found[f"type {code:.20}"] = array(sequence(b"K\x01"), dtype(text(code)), b"U\x08abcdefgh")
    return list(found.items())


def _nested(depth: int) -> bytes:
    inner = numbers(1)
    for _ in range(depth):
        inner = objects(inner)
    return inner


PAYLOADS = [*_calls(), *_values()]


def object_file(pickled: bytes, count: int) -> bytes:
    """Return a .npy file whose header is that of an object array (count,)."""
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (count,)}
    npy.write_array_header_1_0(file, header)
    return file.getvalue() + pickled


@dataclasses.dataclass
class Zeros:
    """Content of a decompression bomb: `head`, then `count` zeros."""

    head: bytes
    count: int


def zipped(members: Mapping[str, bytes | Zeros], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            whole = content if isinstance(content, Zeros) else Zeros(content, 0)
            with archive.open(info, "w") as member:
                member.write(whole.head)
                for start in range(0, whole.count, 2**20):
                    member.write(bytes(min(2**20, whole.count - start)))
    return file.getvalue()


def _entries(content: bytes) -> list[int]:
    """Return the offsets of the entries of the central directory of a zip file."""
    return [at for at in range(len(content) - 46) if content.startswith(b"PK\x01\x02", at)]


def _patched(content: bytes, which: int, offset: int, form: str, value: int) -> bytes:
    """Replace a number in entry `which` of the central directory, if it has entries."""
    changed = bytearray(content)
    if found := _entries(content):
        struct.pack_into(form, changed, found[which % len(found)] + offset, value)
    return bytes(changed)


def _in_both(content: bytes, which: int, central: int, local: int, form: str, value: int) -> bytes:
    """Replace a number in the central directory and in the local header of the member."""
    changed = bytearray(_patched(content, which, central, form, value))
    if found := _entries(content):
        start = struct.unpack_from("<I", content, found[which % len(found)] + 42)[0]
        struct.pack_into(form, changed, start + local, value)
    return bytes(changed)


def hostile_zip(members: dict[str, bytes], rng: np.random.Generator) -> tuple[str, bytes]:
    """Return an archive of `members` whose structure is hostile."""
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    method = methods[rng.choice(4, p=(0.5, 0.3, 0.1, 0.1))]
    good = zipped(members, method)
    which = int(rng.integers(8))
    names = list(members)
    name = names[which % len(names)]
    size = int(rng.choice([0, 1, 100, 2**31, 2**32 - 2, 2**32 - 1]))
    other = {key: value for key, value in members.items() if key != name}
    attacks: dict[str, Callable[[], bytes]] = {
        "as it is": lambda: good,
        "encrypted": lambda: _in_both(good, which, 8, 6, "<H", 1),
        "strange flags": lambda: _in_both(good, which, 8, 6, "<H", int(rng.integers(2**16))),
        "wrong checksum": lambda: _in_both(good, which, 16, 14, "<I", 12345),
        "another size": lambda: _in_both(good, which, 24, 22, "<I", size),
        "another size in the list": lambda: _patched(good, which, 24, "<I", size),
        "another packed size": lambda: _in_both(good, which, 20, 18, "<I", size),
        "another method": lambda: _in_both(good, which, 10, 8, "<H", int(rng.choice([0, 1, 8, 9, 12, 14, 93, 99]))),
        "overlapping": lambda: _patched(good, which, 42, "<I", 0),
        "beyond the end": lambda: _patched(good, which, 42, "<I", size),
        "a long name": lambda: _patched(good, which, 28, "<H", 65535),
        "a long extra field": lambda: _patched(good, which, 30, "<H", 65535),
        "version 255": lambda: _patched(good, which, 6, "<H", 255),
        "many entries": lambda: good[:-14] + b"\xff\xff\xff\xff" + good[-10:],
        "a list elsewhere": lambda: good[:-6] + struct.pack("<I", size) + good[-2:],
        "a list of another size": lambda: good[:-10] + struct.pack("<I", size) + good[-6:],
        "without a member": lambda: zipped(other, method),
        "empty": lambda: zipped({}, method),
        "a member elsewhere": lambda: zipped({**other, f"../../{name}": members[name]}, method),
        "an absolute member": lambda: zipped({**other, f"/tmp/{name}": members[name]}, method),
        "a member twice": lambda: zipped({**members, name + "/": b""}, method),
        "an empty member": lambda: zipped({**members, name: b""}, method),
        "a member of something else": lambda: zipped({**members, name: b"x" * 200}, method),
        "many members": lambda: zipped({**members, **{f"{i}.npy": b"" for i in range(2000)}}),
        "names of control characters": lambda: zipped({**other, "\x1b[2J\n.npy": b"x"}, method),
        "zip64": lambda: _zip64(good, rng),
        "a bomb": lambda: zipped({**members, name: Zeros(b"", 60_000_000)}, zipfile.ZIP_DEFLATED),
        "a bomb of an array": lambda: zipped(
            {**members, name: Zeros(npy_file(b"{'descr': '<f4', 'fortran_order': False, 'shape': (30000000, 1)}\n", b""), 120_000_000)}, zipfile.ZIP_DEFLATED),
        "a claim": lambda: zipped({**members, name: npy_file(b"{'descr': '<f4', 'fortran_order': False, 'shape': (900000000000, 1)}\n", b"")}, method),
        "a large claim": lambda: zipped({**members, name: npy_file(b"{'descr': '<f4', 'fortran_order': False, 'shape': (150000000, 1)}\n", b"")}, method),
    }  # fmt: skip
    weights = np.array([0.03 if "bomb" in key else 1.0 for key in attacks])
    key = str(rng.choice(list(attacks), p=weights / weights.sum()))
    return f"zip {key}, member {name}, method {method}", attacks[key]()


def _zip64(good: bytes, rng: np.random.Generator) -> bytes:
    """Add a zip64 end record with wrong sizes."""
    end = good.rfind(b"PK\x05\x06")
    size = int(rng.choice([0, 2**62, 2**63, len(good)]))
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, size, size, size, size)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, end, 1)
    return good[:end] + record + locator + good[end:]


# JSON texts that replace a value.
_RAW = (
    "null", "true", "false", "-1", "0", "-0.0", "1e308", "1e-308", "1e-320", "1e999", "-1e999",
    "NaN", "Infinity", "-Infinity", "1" + "0" * 400, "9" * 4000, "9" * 5000, "0." + "1" * 100_000,
    '""', '"' + "x" * 10_000 + '"', '"../../x"', '"/etc/passwd"', '"\\u0000"', '"\\ud800"',
    '"\\u001b[31m\\n"', '"a\\u202eb\\u2028c"', '"nan"', '"inf"', '"1e999"', '"1_0"', '" 7 "', "[]",
    "{}", "[[]]", "[{}]", "[null]", "[1]", "[1, 2, 3]", "[2, 1]", '["1", "2"]', '[["1", "2"]]',
    "[[1, 2]]", "[[[1, 2]]]", '{"a": 1}', '{"0": "a"}', '{"label": "a"}', '{"segment": [0, 1]}',
    "[" * 30 + "]" * 30, "[" * 150 + "]" * 150, "[" * 900 + "]" * 900, "[" * 970 + "]" * 970,
    "[" * 100_000, '{"a":' * 970 + "1" + "}" * 970, "[1, [2], {}]", "12345678901234567890", "1e5",
    "[" + "0," * 20_000 + "0]", "[true, false]", '[{"label": 1, "segment": [0, 1]}]', "25", "1e9",
    '[{"label": ["a"], "segment": "ab"}]', '[{"label": null, "segment": [1, null]}]', "0.001",
    '"' + "\\u0301" * 300 + '"', '"\u00a0a"', '"a/b"', '"."', '".."', '"CON"', '"\\u0085"',
)  # fmt: skip


def _paths(tree: Any, path: tuple = ()) -> list[tuple]:
    """Return the paths of all nodes of nested lists and dicts."""
    found = [path]
    items: Any = ()
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree)
    for key, value in items:
        found += _paths(value, (*path, key))
    return found


def hostile_json(tree: Any, number: int, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return a JSON text with one to three nodes replaced, removed, renamed or repeated."""
    edits, raw = [], {}
    tree = json.loads(json.dumps(tree))
    for edit in range(1 + int(rng.random() < 0.3) + int(rng.random() < 0.2)):
        paths = _paths(tree)[1:] or [()]
        path = paths[int(rng.integers(len(paths)))]
        if not path:
            continue
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        last = path[-1]
        way = rng.random()
        which = number if edit == 0 else int(rng.integers(len(_RAW)))
        value = _RAW[which % len(_RAW)]
        token = f"@{edit}@"
        if way < 0.65:
            parent[last] = token
            raw[f'"{token}"'] = value
        elif way < 0.75:
            del parent[last]
        elif isinstance(parent, dict):
            name = value if value.startswith('"') else '"video"'
            held = parent[last] if way < 0.9 else parent.pop(last)
            parent[token] = held
            raw[f'"{token}"'] = name if way < 0.95 else json.dumps(str(last))
        else:
            parent += parent[:3]
        edits.append(f"{'/'.join(map(str, path))}: {value:.30}")
    content = json.dumps(tree)
    for token, value in raw.items():
        content = content.replace(token, value)
    encoded = content.encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        encoded = b"\xef\xbb\xbf" + encoded
        edits.append("BOM")
    if rng.random() < 0.03:
        encoded = content.encode("utf-16", "surrogatepass")
        edits.append("UTF-16")
    return "; ".join(edits), encoded


NAMES = (
    "../../x", "/etc/passwd", "a/b", "", ".", "..", "a\x00b", "x" * 10_000, "a\nb", "CON", "a\\b",
    "\x1b[31mred", "a\u2028b", "a\u0085b", "\u202etxt", "\ud800", " a", "a ", "-rf", "$(touch canary)",
    "`touch canary`", "~", "~root", "%s%n", "{video}", "{0.__class__}", "*", "[a]", "?", "a.npy",
    "é" * 150, "x" * 255, "x" * 200, "nan", "None", "v_", "v_v_0", "file:///etc/passwd", "a\tb",
    "con.npy", "\ufeffa", "\u200b", "a" + "\u0301" * 90, "C:\\x", "|ls", "a:b", ".hidden", "٣", "🏃",
)  # fmt: skip


def strange_values() -> list[Any]:
    """Return wrong values for an entry of an object array."""
    return [
        None, -1, 0, 7, True, 1.5, 1e308, -1e308, 1e-320, float("nan"), float("inf"), 10**400,
        -(10**4000), "", "x" * 10_000, "../../x", "a\nb\x1b", "\ud800", b"\xff\xfe", [], [[]],
        [[[]]], [1], [[1]], [1, 2], [[1, 2, 3]], [[1, 2], [3]], [["1", "2"]], [[1, "x"]], ["Dive"],
        [[None, None]], [[float("nan"), 1]], [[float("inf"), 1]], [[10**400, 1]], [[2, 1]], [None],
        [[1e300, 1e301]], [b"\xff"], [["Dive"]], "Dive", (1, 2), ((1, 2),), [True, False], [[-5, -4]],
        np.zeros((3, 4), np.float32), np.zeros((0, 2)), np.zeros(()), np.zeros((2, 2, 2)),
        np.array(["a"]), np.array([b"a"]), np.zeros((2, 2), int), np.zeros((2, 2), bool),
        np.array([[1, 2]], object), np.array([["1", "2"]], object), np.array([None], object),
        np.full((6, 4), np.nan, np.float16), np.full((6, 4), np.inf, np.float32), np.int64(3),
        np.full((6, 4), 1e300), np.full((6, 4), 1e300, ">f8"), np.full((6, 4), 3e38, ">f4"),
        np.zeros((6, 0), np.float32), np.zeros((0, 8), np.float32), np.ones((6, 3), np.float32),
        np.zeros((100_000, 8), np.float16), np.float32("nan"), np.str_("x"), np.bytes_(b"x"),
        np.array(["\ud800"]), np.arange(2.0), np.asfortranarray(np.ones((6, 8), np.float32)),
        [np.arange(2.0)], [np.arange(3.0)], [[np.arange(2.0), 1]], np.array(3.5), [[0, 1e9]],
        np.array([["x" * 1000]]), list(range(3000)), [[0.5, 1.5]] * 3000, ["x" * 5000] * 50,
    ]  # fmt: skip


def strange_arrays() -> list[np.ndarray]:
    """Return wrong arrays for a whole file."""
    return [
        np.zeros(()), np.zeros(0), np.zeros(3), np.zeros((4, 2)), np.zeros((4, 0)), np.arange(4),
        np.array(["a", "b", "c", "d"]), np.array(["a", "a", "b", "c"]), np.array([b"\xff"] * 4),
        np.array(["x" * 3000] * 4), np.array(["\x1b[31m", "a\nb", "c", "\ud800"]), np.arange(4.0),
        np.array([0, 1, 2, 3], "M8[s]"), np.zeros(4, complex), np.zeros(4, "f4,f4"), np.zeros(4, bool),
        np.array([np.nan] * 4), np.array([np.inf] * 4), np.array([-1.0] * 4), np.full(4, 1e-320),
        np.full(4, 1e308), np.full((4, 1), 7.0), np.array(["1", "2", "3", "x"]), np.array([b""] * 4),
        np.array(["validation", "test", "test", "validation"]), np.array(["test"] * 4),
        np.array([10**400, None, "a", 1.5], object), np.zeros((4, 2, 2)), np.zeros(4, "V8"),
        np.full(4, 1e4000, np.longdouble), np.array(["train", "x", "test", "y" * 5000]),
        np.array([""]), np.array(["a", "b", "c", "../../x"]), np.array(5), np.array("abc"),
        np.array(["validation", "validation", "test", 10**4000], object), np.zeros(4, ">f2"),
    ]  # fmt: skip
