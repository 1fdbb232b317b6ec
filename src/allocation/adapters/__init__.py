"""The outside world behind the ports, a module per technology."""
