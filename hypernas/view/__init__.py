"""What the reader sees: figures, drawings of architectures, interactive views."""
