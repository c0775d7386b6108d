"""Model cards, pushing a run, and what is known of a peer from its files."""
