"""What a reader sees: figures, drawings of architectures, interactive views."""
