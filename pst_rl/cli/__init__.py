"""The command `pst-rl`: one file for each subcommand."""
