"""Engines that hold weights and answer prompts, on vLLM or transformers, and scorer backends."""
