"""Finished models, or shards as they are finished, on their way to the Hub."""
