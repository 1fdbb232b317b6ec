"""Makes messages durable: the writer, its groups, the rows they read and write, and the port to storage.

Read `writer` first, then `group`: one transaction for many messages. `taken` names the states of a group, `ahead` is a
session without a lock, `products` and `rows` are between the domain and the `store`.
"""
