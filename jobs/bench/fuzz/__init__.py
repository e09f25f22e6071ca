"""Readers of foreign bytes against mutated inputs."""
