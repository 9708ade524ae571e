"""Where a side is recorded: a subprocess of this interpreter (virtual environments and images come later)."""
