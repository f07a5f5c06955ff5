"""The paper's method, plain and complete: encoder, hypernetwork, target network, loss. Nothing here imports `fast/`."""
