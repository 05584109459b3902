"""Prismatic vision-language models that act: patches and words in one sequence of a language model."""
