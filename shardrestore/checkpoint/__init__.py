"""What a checkpoint is: headers, shards, bytes read and bytes written."""
