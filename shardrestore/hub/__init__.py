"""The Hugging Face Hub: repositories named, listed, read by ranges, downloaded, written.

Everything goes through huggingface_hub, which knows the user's token, cache and
endpoint; it is imported in this folder alone, and only when a reference is no
local folder.
"""
