"""Command lines as processes of their own."""
