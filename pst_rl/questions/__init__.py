"""Questions, choices and golds: how they are read from files and the Hub; `pst_rl.data` puts them together."""
