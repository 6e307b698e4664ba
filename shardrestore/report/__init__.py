"""What is reported about a finished restoration: dataclasses, TSV and JSON."""
