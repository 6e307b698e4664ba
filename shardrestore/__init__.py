"""Set the most changed weights of a fine-tuned model back to its base's values.

Checkpoints of any size are streamed: a few hundred megabytes of memory suffice.

>>> import shardrestore
>>> result = shardrestore.restore("base", "tuned", "restored", percent=10)  # doctest: +SKIP
>>> result.threshold, result.unchanged_share  # doctest: +SKIP
(0.0242919921875, 0.32)
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from .options.checks import parse_size as parse_size
from .options.option import CommandArgument as CommandArgument
from .options.option import Required as Required
from .options.table import ModuleOptions as ModuleOptions
from .options.table import Options as Options
from .options.table import ScanOptions as ScanOptions
from .options.table import VerifyOptions as VerifyOptions
from .options.table import command_arguments as command_arguments
from .version import __version__ as __version__

if _TYPE_CHECKING:
    from .api import *  # noqa: F403

# The function `plan` has the name of a folder. Python gives the package an attribute of that name
# when the folder is first imported: here, and takes it away, so that it is the function ever after.
_import_module(f"{__name__}.plan")
del globals()["plan"]


def __getattr__(name: str) -> object:
    """Load the rest of the public surface when it is first asked for.

    NumPy and what builds on it take longer to import than ``--help`` may take.
    """
    api = _import_module(f"{__name__}.api")
    names = globals()
    for member in ("__all__", *api.__all__):
        names.setdefault(member, getattr(api, member))
    if name not in names:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return names[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_import_module(f"{__name__}.api").__all__})
