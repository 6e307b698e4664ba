"""A Hugging Face Hub on this machine, for tests: `Hub` serves, `Fault` makes it fail."""

from tests.hub.faults import Fault
from tests.hub.hub import Hub
from tests.hub.messages import Request
from tests.hub.repository import Repository

__all__ = ["Fault", "Hub", "Repository", "Request"]
