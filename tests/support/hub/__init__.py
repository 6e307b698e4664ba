"""A Hugging Face Hub on this machine, for tests: `Hub` serves, `Fault` makes it fail."""

from tests.support.hub.faults import Fault
from tests.support.hub.hub import Hub
from tests.support.hub.messages import Request
from tests.support.hub.repository import Repository

__all__ = ["Fault", "Hub", "Repository", "Request"]
