"""A Llama-style language model, from tokenizer to reinforcement learning, in plain torch.

Files are named after what they hold; each belongs to one task of the handout. Given files are
`config.py` and those the handout names; in the others the marked bodies are yours.
"""
