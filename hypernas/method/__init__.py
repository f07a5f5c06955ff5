"""The paper, plain and complete: encoder, hypernetwork, target network, loss. Nothing here imports what is fast."""
