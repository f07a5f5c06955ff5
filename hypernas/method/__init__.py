"""The method of the paper, plain and complete: encoder, hypernetwork, target network, loss. Nothing here imports
`fast/`.
"""
