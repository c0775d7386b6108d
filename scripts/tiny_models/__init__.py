"""What builds the embedded tiny models: architectures, tokenizers, pretraining and their cards."""
