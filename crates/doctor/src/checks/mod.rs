//! The checks, by what they look at.

pub(crate) mod appearance;
pub(crate) mod classes;
pub(crate) mod duplicates;
pub(crate) mod files;
pub(crate) mod groups;
pub(crate) mod labels;
pub(crate) mod near;
pub(crate) mod shortcut;
