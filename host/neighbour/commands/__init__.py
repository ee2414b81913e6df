"""The subcommands of ``wisp``, a file each."""
