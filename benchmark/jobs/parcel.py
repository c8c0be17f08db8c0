"""Folders of the driver's machine, packed for machines that lack them: submitted models, plug-ins of the workspace."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path


def packed(folder: Path, pattern: str = "**/*") -> bytes:
    """The regular files of a folder that fit a pattern; equal files give equal bytes. Links are left out.

    Raises:
        OSError: If one cannot be read.
    """
    parcel = io.BytesIO()
    with zipfile.ZipFile(parcel, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and not path.is_symlink():
                archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())
    return parcel.getvalue()


def unpacked(parcel: bytes, folder: Path) -> Path:
    """Write a parcel's files into a folder that is made for them; returns the folder.

    Raises:
        OSError: If they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(parcel)) as archive:
        archive.extractall(folder)
    return folder
