"""The command line: each file parses, calls one function, prints. Nothing outside this folder imports it."""
