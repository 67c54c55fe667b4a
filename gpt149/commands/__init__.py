"""What the commands do, one module each; `cli.py` parses their options."""
