"""Landlock, Linux's way for a process to give up rights over files for good, its children included.

See landlock(7). It needs Linux 5.13 or later with Landlock switched on; elsewhere nothing is restricted, and
`restrict_writes` says so. Called by number, since the C library has no names for it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

CREATE_RULESET: Final = 444
ADD_RULE: Final = 445
RESTRICT_SELF: Final = 446
VERSION: Final = 1
PATH_BENEATH: Final = 1
NO_NEW_PRIVILEGES: Final = 38

WRITE_FILE: Final = 1 << 1
REMOVE_AND_MAKE: Final = sum(1 << bit for bit in range(4, 13))
REFER: Final = 1 << 13
TRUNCATE: Final = 1 << 14

DEVICES: Final = ("null", "zero", "nvidia*")
"""What of /dev may be written to besides: nothing of anybody's is there, and a GPU is driven by it."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    found = ctypes.CDLL(None, use_errno=True).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)
    return max(int(found), 0)


def restrict_writes(folders: Iterable[Path]) -> bool:
    """From now on this process makes, changes, renames and removes files in these folders only.

    Args:
        folders: Where it may.

    Returns:
        Whether the kernel does so; False where it has no Landlock.
    """
    known = version()
    if not known:
        return False
    handled = WRITE_FILE | REMOVE_AND_MAKE | (REFER if known >= 2 else 0) | (TRUNCATE if known >= 3 else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = _Ruleset(handled)
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(wanted), ctypes.c_size_t(ctypes.sizeof(wanted)), 0)
    if ruleset < 0:
        return False
    try:
        for folder in folders:
            if not _allow(libc, ruleset, folder, handled):
                return False
        for pattern in DEVICES:
            for device in Path("/dev").glob(pattern):
                _allow(libc, ruleset, device, handled & (WRITE_FILE | TRUNCATE))
        if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
            return False
        return int(libc.syscall(RESTRICT_SELF, ruleset, 0)) == 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> bool:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(access, descriptor)
        return int(libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0)) == 0
    finally:
        os.close(descriptor)
