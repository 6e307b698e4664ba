"""What a run works on: its memory, devices and threads, and who watches its progress."""
