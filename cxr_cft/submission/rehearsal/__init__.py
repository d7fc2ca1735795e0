"""What a bundle has to go through before it is handed in; `verify` is the way through it."""
