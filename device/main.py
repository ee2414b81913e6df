"""What a board runs after its start: the terminal, by wisp.json."""

from terminal.app import run

run()
