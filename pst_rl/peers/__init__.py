"""A peer: what it is made from, how it is asked, and the trainer that updates it."""
