"""The use cases: the message bus, its handlers, and the writer that makes their changes durable."""
