"""What the site, `status`, `show` and `export` read: plain frozen values, never a live ORM object.

A moment ``as_of`` may be given nearly everywhere: the database is then read as it stood at that time, that is, with the
evaluations finished and the models, protocols and changes recorded by then.
"""

from db.queries.boards import board_named, boards
from db.queries.details import EvaluationData, largest_distance, row_data
from db.queries.history import changes
from db.queries.names import former_names
from db.queries.overview import (
    SUITE,
    Overview,
    dataset_array,
    dataset_arrays,
    datasets,
    find_models,
    overview,
    protocols,
)
from db.queries.records import (
    Board,
    ChangeInfo,
    DatasetInfo,
    EvaluationDetail,
    EvaluationInfo,
    FlagInfo,
    ModelInfo,
    ProtocolInfo,
    Row,
    RowStatus,
    ScoreInfo,
    TableInfo,
)

__all__ = [
    "SUITE",
    "Board",
    "ChangeInfo",
    "DatasetInfo",
    "EvaluationData",
    "EvaluationDetail",
    "EvaluationInfo",
    "FlagInfo",
    "ModelInfo",
    "Overview",
    "ProtocolInfo",
    "Row",
    "RowStatus",
    "ScoreInfo",
    "TableInfo",
    "board_named",
    "boards",
    "changes",
    "dataset_array",
    "dataset_arrays",
    "datasets",
    "find_models",
    "former_names",
    "largest_distance",
    "overview",
    "protocols",
    "row_data",
]
