"""Everything that can go wrong for a reason a user can act on.

ShardRestoreError
├── RequestError            the request itself: percent, region, option, Hub id
├── CheckpointError         a folder, file or module that is no readable checkpoint
│   └── InputChangedError   an input that was changed while it was read
├── PairingError            base and target do not fit together in the region
├── ProfileError            a profile that is damaged, or not of these weights
├── NonFiniteError          NaN or infinite weights in the region
├── MemoryBudgetError       the work does not fit into ``--max-memory``
├── DeviceError             a GPU that is not there, or not exact
├── OutputError             the output folder or its disk
└── HubError                the Hub, or the way to it

Each message is complete: it names the tensor or file, the numbers involved and
the next step. The command line prints it as it is and exits with status 1.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "DeviceError",
    "HubError",
    "InputChangedError",
    "MemoryBudgetError",
    "NonFiniteError",
    "OutputError",
    "PairingError",
    "ProfileError",
    "RequestError",
    "ShardRestoreError",
]


class ShardRestoreError(Exception):
    """Base of every error that shardrestore raises on purpose."""

    resumable: bool = False
    """Whether ``resume`` can continue the run that it ended."""


class RequestError(ShardRestoreError):
    """The request cannot be carried out as it stands."""


class CheckpointError(ShardRestoreError):
    """A folder, file or module is missing, or cannot be read as a checkpoint."""


class InputChangedError(CheckpointError):
    """An input was written, replaced or removed while it was read."""


class PairingError(ShardRestoreError):
    """Tensors of the region have no partner, or one of another shape or kind."""


class ProfileError(ShardRestoreError):
    """A profile is missing, damaged, edited, or was made of other weights."""


class NonFiniteError(ShardRestoreError):
    """Weights of the region are NaN or infinite."""


class MemoryBudgetError(ShardRestoreError):
    """The projected memory is larger than the budget."""


class DeviceError(ShardRestoreError):
    """A GPU is asked for that is not there, or does not compute as the reference does."""


class OutputError(ShardRestoreError):
    """The output folder cannot be used, or its disk is too small."""


class HubError(ShardRestoreError):
    """The Hub refuses, does not answer as it should, or cannot be reached."""
