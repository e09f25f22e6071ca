"""Moment-DINO pretraining under Ray Train."""
