"""What survives a restart: accounts, bindings and hop agreements, in SQLite or another SQL database."""
