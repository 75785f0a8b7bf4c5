"""Evaluation and comparison of networks, and the promotion gate.

The champion is the network that is currently promoted. The promotion gate decides whether another network becomes the
champion.
"""
