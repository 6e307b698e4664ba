"""The command line ``shardrestore``: options in, one call into the library, text out."""
