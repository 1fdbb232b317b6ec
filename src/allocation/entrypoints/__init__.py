"""HTTP, console and command line: each turns its input into messages, and outcomes and refusals into answers.

The three folders import nothing from each other, except the command that starts the server, and the server that mounts
the console. Modules that several of them use are beside the folders.
"""
