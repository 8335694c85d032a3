"""Pickles under any name: whether Python's unpickler would run what a file begins with.

The instructions are followed, not executed. A file is a pickle if they end well, or come to one
that calls or imports something: that would run, whatever follows it.
"""

import pickletools
import sys
from dataclasses import dataclass, field
from typing import BinaryIO

HIGHEST_PROTOCOL = 5
MIN_INSTRUCTIONS = 3  # of a harmless pickle: `Mrs.` has two
CALLING = frozenset({"REDUCE", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"})
IMPORTING = frozenset({"STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})
NAMING = frozenset({"GLOBAL", "INST"})  # import what the instruction itself names
STORING = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
FETCHING = frozenset({"GET", "BINGET", "LONG_BINGET"})
# Modules whose import alone counts: those of the standard library, and what most models need.
KNOWN_MODULES = frozenset({*sys.stdlib_module_names, "__builtin__", "copy_reg", "numpy", "torch"})
MARK = "mark"
VALUE = "value"
# What the module of Python raises where an unpickler would stop with an error.
BROKEN = (ValueError, IndexError, OverflowError, EOFError, MemoryError)


@dataclass
class Unpickler:
    """The stack and the memo of an unpickler that executes nothing."""

    stack: list[str] = field(default_factory=list)
    memo: set[int] = field(default_factory=set)

    def follow(self, opcode: pickletools.OpcodeInfo, argument: object) -> bool:
        """Follow an instruction; return False where a real unpickler would stop with an error."""
        if opcode.name in FETCHING and argument not in self.memo:
            return False
        if opcode.name in NAMING and not names_attribute(argument):
            return False
        if opcode.name == "MEMOIZE":
            self.memo.add(len(self.memo))
        elif opcode.name in STORING and isinstance(argument, int):
            self.memo.add(argument)
        if not self.pop(opcode.stack_before):
            return False
        for pushed in opcode.stack_after:
            self.stack.append(MARK if pushed is pickletools.markobject else VALUE)
        return True

    def pop(self, expected: list[pickletools.StackObject]) -> bool:
        """Take what an instruction expects from the stack; return False if it is not there."""
        below = expected
        if pickletools.markobject in expected:
            if MARK not in self.stack:
                return False
            position = expected.index(pickletools.markobject)
            last_mark = len(self.stack) - 1 - self.stack[::-1].index(MARK)
            needed = [
                item for item in expected[position + 1 :] if item is not pickletools.stackslice
            ]
            if len(self.stack) - last_mark - 1 < len(needed):
                return False
            del self.stack[last_mark:]
            below = expected[:position]
        if len(below) > len(self.stack):
            return False
        del self.stack[len(self.stack) - len(below) :]
        return True


def find_protocol(file: BinaryIO) -> int | None:
    """Return the protocol of the pickle that a file begins with; None if it is none.

    Protocols 0 and 1 do not name themselves; they count as 0.
    """
    protocol = 0
    count = 0
    unpickler = Unpickler()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            count += 1
            if opcode.name == "PROTO" and isinstance(argument, int):
                protocol = argument
            if not unpickler.follow(opcode, argument):
                return None
            if runs_code(opcode.name, argument):
                return protocol
            if opcode.name == "STOP":
                is_whole = protocol > 0 or (count >= MIN_INSTRUCTIONS and not file.read(64).strip())
                return protocol if is_whole else None
    except BROKEN:
        return None
    return None


def names_attribute(argument: object) -> bool:
    """Return whether an instruction names an attribute of a module, as `os system` does."""
    names = str(argument).split(" ")
    return len(names) == 2 and all(
        part.isidentifier() for name in names for part in name.split(".")
    )


def runs_code(name: str, argument: object) -> bool:
    """Return whether an instruction calls or imports something that may be there."""
    if name == "GLOBAL":
        return str(argument).partition(".")[0].partition(" ")[0] in KNOWN_MODULES
    return name == "INST" or name in CALLING or name in IMPORTING


def begins_like_pickle(head: bytes) -> int | None:
    """Return the protocol that the first bytes name, whether the rest is intact or not."""
    is_named = len(head) > 1 and head[0] == 0x80 and head[1] <= HIGHEST_PROTOCOL
    return head[1] if is_named else None


def describe(protocol: int) -> str:
    """Describe a pickle as the rest of a sentence."""
    number = str(protocol) if protocol > 1 else "0 or 1"
    return f"is a pickle (protocol {number}), which may run any code when it is read"
