"""The stages between the answers and the updates: one file each, in the order in which data flows through them."""
