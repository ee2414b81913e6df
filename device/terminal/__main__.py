"""``micropython -m terminal wisp.json``."""

from terminal.app import main

main()
