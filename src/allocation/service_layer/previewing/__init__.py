"""Shows a change before it is made."""
