"""Log-probabilities of texts under the peers' current policies, or under an outside juror."""
