//! Models as files: safetensors, torch checkpoints and key mapping
#![forbid(unsafe_code)]
