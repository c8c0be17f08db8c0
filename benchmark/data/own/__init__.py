"""Datasets of a user's own images, without code: described by a ``dataset.toml`` of the workspace.

====================  ==============================================================================================
`pictures`            one picture of any kind to the pixels that models see
`sources`, `kinds`    what there is to read, by its kind:
`folders`, `tables`   sub-folders of classes; a ``labels.csv``
`arrays`, `parquet`   an ``.npz``; Parquet files
`manifest`            every image with its label and the digest of its pixels
`survey`              reads everything once, and says what it saw
`card`                ``dataset.toml``, written and read
====================  ==============================================================================================
"""

from __future__ import annotations

from benchmark.data.own.card import CARD, read_card

__all__ = ["CARD", "read_card"]
