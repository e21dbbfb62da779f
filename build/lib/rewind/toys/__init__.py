"""Small inverse problems whose answers are known exactly."""
