"""The configuration: its settings, how they are composed, and which of them determine a result."""
