"""Speed and memory of shardrestore, measured beside what they are compared with."""
