"""Every file and folder name that shardrestore writes or looks for, each defined once.

The names of weight files and documents are the Hugging Face convention; those of the
tables are the published tool's (UmeanNever/ParamRestore), so that notebooks written for
it go on working.
"""

from __future__ import annotations

SINGLE_FILE = "model.safetensors"
"""The weights of a checkpoint that has one shard."""
INDEX_FILE = "model.safetensors.index.json"
"""Says which shard holds which tensor."""
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
"""The model card."""

SUMMARY_FILE = "diff_summary.tsv"
"""Mean change of each tensor."""
SHARES_FILE = "restore_stats.tsv"
"""Restored elements of each tensor."""
STATISTICS_FILE = "selected_param_stats.json"
"""Statistics of the scores, of all elements and of the selected ones."""
RECORD_FILE = "shardrestore.json"
"""What was done: inputs, options, cut, counts."""
REPORT_FILES = (SUMMARY_FILE, SHARES_FILE, STATISTICS_FILE, RECORD_FILE)
"""Reports that depend on inputs and options alone, in the order they are written."""

PAGE_FILE = "report.html"
"""The report for people. It is the only file that states time and memory, which differ
between runs."""
CHECKSUM_FILE = "SHA256SUMS"
UPLOADED_FILE = "shardrestore.hub.json"
"""Where on the Hub the weights are that were deleted here."""

OWN_FILES = frozenset({*REPORT_FILES, CHECKSUM_FILE, PAGE_FILE, UPLOADED_FILE})
"""Files that describe one restoration: the next one does not copy them from its target."""

STAGING_FOLDER = ".shardrestore-partial"
"""Hidden folder inside an output, in which the model grows."""
JOURNAL_FILE = ".journal.jsonl"
"""In the staging folder: what an unfinished run has done, so that it can be resumed."""
SCAN_FILE = ".scan.profile.safetensors"
"""In the staging folder: the profile of the unfinished run's scan."""
REPLACED_FOLDER = ".replaced"
"""In the staging folder: files of the output that are being replaced."""
UNFINISHED_FOLDER = ".unfinished"
"""In the staging folder: shards that are being written."""
