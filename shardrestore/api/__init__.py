"""The public surface: functions, each a few calls into what is below, and what they return."""

from ..errors import (
    CheckpointError,
    DeviceError,
    HubError,
    InputChangedError,
    MemoryBudgetError,
    NonFiniteError,
    OutputError,
    PairingError,
    ProfileError,
    RequestError,
    ShardRestoreError,
)
from ..figures.costs import Costs, DeviceFigures, Times
from ..figures.model import (
    ChangeFigures,
    Choice,
    CutFigures,
    KeyRange,
    ModelFigures,
    ModuleKind,
    ScoreFigures,
    TensorResult,
    TieFigures,
)
from ..figures.overview import (
    Cell,
    CellRow,
    Overview,
    OverviewCut,
    ScoreGroup,
    TensorOverview,
)
from ..figures.planned import Plan, PlannedMemory, PlannedModel
from ..figures.restoration import Restoration, RestorationReport
from ..figures.side_files import (
    CopiedFile,
    CopiedFiles,
    LeftOutFile,
    LeftOutFiles,
    SideFileFigures,
)
from ..machine.progress import Observer
from ..notes import Note
from ..options.checks import parse_size
from ..options.option import CommandArgument, Required
from ..options.table import ModuleOptions, Options, ScanOptions, VerifyOptions, command_arguments
from ..pairing.layers import Stack
from ..pairing.region_survey import RegionSurvey
from ..runs.targets import TargetOutcome
from ..scores import SCORES
from ..scores.score import Score
from ..selection.histogram import ScoreStatistics
from ..synthetic import make_demo_pair
from ..upload.pushed import Pushed
from ..verification.result import Verification
from ..version import __version__
from .describing import scan, show, write_report
from .finishing import check_push, push, verify
from .in_memory import restore_module, restored
from .planning import plan
from .restoring import find_unfinished, restore, restore_to_hub, sweep, sweep_targets
from .summary import summarize

__all__ = [
    "SCORES",
    "Cell",
    "CellRow",
    "ChangeFigures",
    "CheckpointError",
    "Choice",
    "CommandArgument",
    "CopiedFile",
    "CopiedFiles",
    "Costs",
    "CutFigures",
    "DeviceError",
    "DeviceFigures",
    "HubError",
    "InputChangedError",
    "KeyRange",
    "LeftOutFile",
    "LeftOutFiles",
    "MemoryBudgetError",
    "ModelFigures",
    "ModuleKind",
    "ModuleOptions",
    "NonFiniteError",
    "Note",
    "Observer",
    "Options",
    "OutputError",
    "Overview",
    "OverviewCut",
    "PairingError",
    "Plan",
    "PlannedMemory",
    "PlannedModel",
    "ProfileError",
    "Pushed",
    "RegionSurvey",
    "RequestError",
    "Required",
    "Restoration",
    "RestorationReport",
    "ScanOptions",
    "Score",
    "ScoreFigures",
    "ScoreGroup",
    "ScoreStatistics",
    "ShardRestoreError",
    "SideFileFigures",
    "Stack",
    "TargetOutcome",
    "TensorOverview",
    "TensorResult",
    "TieFigures",
    "Times",
    "Verification",
    "VerifyOptions",
    "__version__",
    "check_push",
    "command_arguments",
    "find_unfinished",
    "make_demo_pair",
    "parse_size",
    "plan",
    "push",
    "restore",
    "restore_module",
    "restore_to_hub",
    "restored",
    "scan",
    "show",
    "summarize",
    "sweep",
    "sweep_targets",
    "verify",
    "write_report",
]
