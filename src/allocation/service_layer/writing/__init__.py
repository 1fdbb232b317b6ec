"""Makes messages durable: the writer, its groups, what they read and write, and the port to storage."""
