//! A network with its tensors, preprocessing and labels, and the rewrites that touch tensors
#![forbid(unsafe_code)]
