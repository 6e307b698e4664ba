"""What is told about a finished restoration: dataclasses, TSV and JSON."""
