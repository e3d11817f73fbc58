//! An error with its causes, as one line.

use std::error::Error;

/// The messages of `error` and its causes, without those already contained in the text before them. Line breaks become spaces.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text.split('\n').map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::one_line;
    use crate::FileError;
    use std::io;

    /// An error whose message contains its cause.
    #[derive(Debug, thiserror::Error)]
    #[error("second try: {0}")]
    struct Again(#[source] io::Error);

    #[test]
    fn a_cause_follows_its_error_unless_the_message_contains_it() {
        let file = FileError::read("a.npy".as_ref())(io::Error::other("no\n  power"));
        assert_eq!(one_line(&file), "a.npy: cannot be read: no power");
        assert_eq!(one_line(&Again(io::Error::other("no power"))), "second try: no power");
    }
}
