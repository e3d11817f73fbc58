//! Files as this crate reads and writes them.

mod akamaster;
mod checkpoint;
mod full_disk;
mod hostile;
mod npy;
mod renamed;
mod tiny;
mod torch_files;
