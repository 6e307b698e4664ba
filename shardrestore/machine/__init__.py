"""What a run works on: its memory, devices and threads, and the observer of its progress."""
