"""Unlabelled pairs -> preference labels by a judge, with what they are worth."""
