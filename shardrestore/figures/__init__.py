"""What is reported, as dataclasses: of a restoration, of a profile, of a finished model."""
