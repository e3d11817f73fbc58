//! Recipes, the training loop, optimisers, schedules, metrics, events, checkpoint and resume
#![forbid(unsafe_code)]
