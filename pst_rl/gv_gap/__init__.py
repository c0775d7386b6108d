"""The generator-verifier gap: how much better a model's answers get if it keeps those that a verifier likes."""
