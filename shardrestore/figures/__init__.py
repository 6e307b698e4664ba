"""What is reported, as dataclasses: of a restoration, of a profile, of a finished model."""

from .from_folder import overview_of_folder
from .from_profile import overview_of_profile
from .source import detail_of, overview_of

__all__ = ["detail_of", "overview_of", "overview_of_folder", "overview_of_profile"]
