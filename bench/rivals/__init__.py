"""What we are measured against: written as well as we can, each with its own schema."""
