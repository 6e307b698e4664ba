"""What shardrestore is compared with, each as a process of its own."""
