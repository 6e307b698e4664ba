"""Overviews: made from a profile, or read back from a finished model; no weight is read."""

from .folder import overview_of_folder
from .profile import overview_of_profile
from .source import detail_of, overview_of

__all__ = ["detail_of", "overview_of", "overview_of_folder", "overview_of_profile"]
