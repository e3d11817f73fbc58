//! A pool of threads that spins, then parks, and splits work the same way for any count
#![forbid(unsafe_code)]
