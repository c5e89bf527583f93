"""The commands: dispatch, exit codes and messages."""
