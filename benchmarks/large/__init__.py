"""Real shapes of models that are larger than memory."""
