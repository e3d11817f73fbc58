//! Files as this crate reads and writes them.

mod akamaster;
mod checkpoint;
mod hostile;
mod renamed;
mod tiny;
mod torch_files;
